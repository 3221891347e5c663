"""The only door to time: wall time (may be wrong), monotonic time (never goes back), and a fake for tests.

Devices boot in 1970 or 2038; whoever decides by time takes a `Clock` and is testable.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Two readings; durations always come from `monotonic`."""

    def now(self) -> datetime:
        """Return the wall time, in UTC; it may be wrong on a device."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the machine's wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return `time.monotonic()`, in seconds."""
        return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """Write an aware datetime as RFC 3339 in UTC with milliseconds, for example ``2026-11-23T10:00:00.000Z``.

    Raises:
        ValueError: If `moment` is naive.
    """
    if moment.tzinfo is None:
        msg = "a naive datetime has no place here: give it a time zone"
        raise ValueError(msg)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time stamp.

    Raises:
        ValueError: If the text is no time stamp with a time zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        msg = f"the time stamp {text!r} has no time zone"
        raise ValueError(msg)
    return moment.astimezone(UTC)
