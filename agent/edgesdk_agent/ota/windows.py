"""Maintenance windows: when work on updates may begin, in the wall time of a place (pure).

    Mon-Fri 22:00-05:00 Europe/Berlin      every working day's evening until the next morning
    Sat,Sun 00:00-24:00                    the whole weekend, UTC
    * 02:00-04:00 America/New_York         every night

The days are those on which a window *begins*. Wall time is what a clock on the wall shows: on the night when clocks go
forward a window is an hour shorter, when they go back an hour longer; a start that the wall never shows is as late as
the same time before the change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edgesdk.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_FORM = re.compile(r"(\S+)\s+(\d\d):(\d\d)-(\d\d):(\d\d)(?:\s+(\S+))?")


@dataclass(frozen=True, slots=True)
class Window:
    """One window.

    Attributes:
        text: As it was written.
        days: Weekdays on which it begins; 0 is Monday.
        start: Minutes after midnight.
        minutes: How long it is.
        zone: Whose wall time.
    """

    text: str
    days: frozenset[int]
    start: int
    minutes: int
    zone: ZoneInfo

    def is_open(self, now: datetime) -> bool:
        """Return whether it is open at a moment (aware)."""
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        today, yesterday = local.weekday(), (local.weekday() - 1) % 7
        began_today = today in self.days and self.start <= minute < self.start + self.minutes
        began_yesterday = yesterday in self.days and minute + DAY_MINUTES < self.start + self.minutes
        return began_today or began_yesterday

    def next_opening(self, now: datetime) -> datetime:
        """Return the first moment after `now` at which it begins."""
        midnight = now.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        starts = (
            (midnight + timedelta(days=day)).replace(hour=self.start // 60, minute=self.start % 60)
            for day in range(9)
            if (midnight + timedelta(days=day)).weekday() in self.days
        )
        return next(begin for begin in (each.astimezone(UTC) for each in starts) if begin > now)


def parse_window(text: str) -> Window:
    """Parse ``DAYS HH:MM-HH:MM [ZONE]``; an end at or before the start is on the next day.

    Raises:
        ConfigError: ``config-invalid``.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise _invalid(text, "expected like 'Mon-Fri 22:00-05:00 Europe/Berlin'")
    start = _minutes(text, match[2], match[3])
    end = _minutes(text, match[4], match[5])
    if start == DAY_MINUTES:
        raise _invalid(text, "a day ends at 24:00, it does not begin there")
    minutes = end - start if end > start else end - start + DAY_MINUTES
    return Window(text.strip(), _days(text, match[1]), start, minutes, _zone(text, match[6] or "UTC"))


def any_open(windows: Sequence[Window], now: datetime) -> bool:
    """Return whether one of the windows is open; without windows it is always time."""
    return not windows or any(window.is_open(now) for window in windows)


def seconds_to_opening(windows: Sequence[Window], now: datetime) -> float:
    """Return the seconds until a window opens; 0 if one is open."""
    if any_open(windows, now):
        return 0.0
    return min((window.next_opening(now) - now).total_seconds() for window in windows)


def _days(text: str, words: str) -> frozenset[int]:
    found: set[int] = set()
    for word in words.lower().split(","):
        first, dash, last = word.partition("-")
        if word == "*":
            found.update(range(7))
        elif first in DAYS and (not dash or last in DAYS):
            begin, end = DAYS.index(first), DAYS.index(last or first)
            found.update(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))
        else:
            raise _invalid(text, f"{word!r} is no day; days are {', '.join(DAYS)} or *")
    return frozenset(found)


def _minutes(text: str, hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if total > DAY_MINUTES or int(minutes) >= 60:  # noqa: PLR2004 - minutes of an hour
        raise _invalid(text, f"{hours}:{minutes} is no time of day")
    return total


def _zone(text: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _invalid(text, f"{name!r} is no time zone of this device (package tzdata)") from error


def _invalid(text: str, why: str) -> ConfigError:
    return ConfigError("config-invalid", f"the maintenance window {text[:80]!r} cannot be read: {why}")
