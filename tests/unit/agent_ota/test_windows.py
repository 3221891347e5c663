"""Maintenance windows: what they say, across midnights, weeks and changes of clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from edgesdk_agent.ota.windows import DAYS, any_open, parse_window, seconds_to_opening
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConfigError

BERLIN = "Mon-Fri 22:00-05:00 Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        (BERLIN, "2026-11-23T21:00", True),  # Monday 22:00 there
        (BERLIN, "2026-11-23T20:59", False),
        (BERLIN, "2026-11-24T03:59", True),  # Tuesday 04:59, began on Monday
        (BERLIN, "2026-11-24T04:00", False),
        (BERLIN, "2026-11-28T03:00", True),  # Saturday morning, began on Friday
        (BERLIN, "2026-11-28T22:00", False),  # Saturday evening
        (BERLIN, "2026-11-23T01:00", False),  # Monday morning: Sunday's evening does not count
        (BERLIN, "2026-07-06T20:00", True),  # summer time: 22:00 there
        ("Sat,Sun 00:00-24:00", "2026-11-22T23:59", True),
        ("Sat,Sun 00:00-24:00", "2026-11-23T00:00", False),
        ("* 02:00-04:00 America/New_York", "2026-11-23T07:00", True),
        ("Fri-Mon 10:00-11:00", "2026-11-23T10:30", True),  # a span over the week's end
        ("Fri-Mon 10:00-11:00", "2026-11-25T10:30", False),
        ("Sun 23:00-23:00", "2026-11-23T22:59", True),  # equal ends are a whole day
    ],
)
def test_open_or_closed(window: str, moment: str, *, expected: bool) -> None:
    """Days are those of the beginning, in the wall time of the place."""
    assert parse_window(window).is_open(at(moment)) is expected


@pytest.mark.parametrize(
    ("window", "forward", "back"),
    [
        ("Sat 22:00-06:00 Europe/Berlin", 7 * 60, 9 * 60),  # over the change: an hour shorter, or longer
        ("Sun 02:00-03:00 Europe/Berlin", 0, 2 * 60),  # never shown, or shown twice
        ("Sun 01:30-02:30 Europe/Berlin", 30, 90),
    ],
)
def test_nights_on_which_clocks_change(window: str, forward: int, back: int) -> None:
    """On 29 March and 25 October 2026 a window is open for as many minutes as the wall shows its times."""
    found = parse_window(window)
    for evening, minutes in (("2026-03-28T12:00", forward), ("2026-10-24T12:00", back)):
        assert sum(found.is_open(at(evening) + timedelta(minutes=minute)) for minute in range(24 * 60)) == minutes


@pytest.mark.parametrize(
    ("window", "moment", "opening"),
    [
        (BERLIN, "2026-11-23T12:00", "2026-11-23T21:00"),
        (BERLIN, "2026-11-28T12:00", "2026-11-30T21:00"),  # over the weekend
        ("Sun 01:00-02:00", "2026-11-22T01:00", "2026-11-29T01:00"),  # strictly after
        ("Sun 02:30-04:00 Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:30"),  # 02:30 is not shown that night
        ("Sun 02:30-04:00 Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),  # shown twice: the first
    ],
)
def test_the_next_opening(window: str, moment: str, opening: str) -> None:
    """The next beginning, strictly later, also on the nights when clocks change."""
    assert parse_window(window).next_opening(at(moment)) == at(opening)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22:00-05:00",
        "Mon 22:00",
        "Mon 22:0-05:00",
        "Mon 24:00-05:00",
        "Mon 22:60-23:00",
        "Mon 25:00-26:00",
        "Moon 22:00-05:00",
        "Mon- 22:00-05:00",
        "Mon 22:00-05:00 Europe/Atlantis",
        "Mon 22:00-05:00 ../etc/passwd",
        "Mon 22:00-05:00 UTC extra",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """A typo must not become another window; the message shows what was written."""
    with pytest.raises(ConfigError) as caught:
        parse_window(text)
    assert caught.value.code == "config-invalid"


def test_without_windows_it_is_always_time() -> None:
    """No window means no limit; several mean any of them."""
    noon = at("2026-11-23T12:00")
    assert any_open((), noon)
    assert seconds_to_opening((), noon) == 0
    late, early = parse_window("* 14:00-15:00"), parse_window("* 13:00-13:30")
    assert seconds_to_opening((late, early), noon) == 3600
    assert any_open((late, early), at("2026-11-23T14:59"))


@given(
    st.sampled_from(DAYS),
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_it_is_open_when_it_opens(day: str, start: int, end: int, zone: str, naive: datetime) -> None:
    """At its next opening a window is open (or the wall skips that minute); it is at most nine days away."""
    window = parse_window(f"{day} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {zone}")
    now = naive.replace(tzinfo=UTC)
    opening = window.next_opening(now)
    assert now < opening <= now + timedelta(days=9)
    local = opening.astimezone(window.zone)
    shown = local.hour * 60 + local.minute == start
    assert window.is_open(opening) or not shown
