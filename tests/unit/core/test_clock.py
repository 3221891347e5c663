from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.clock import SystemClock, parse_rfc3339, rfc3339


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001 - made aware below
def test_time_stamps_round_trip_to_the_millisecond(moment: datetime) -> None:
    """What is written is read back, 1970 and 2038 included."""
    aware = moment.replace(tzinfo=UTC)
    assert abs((parse_rfc3339(rfc3339(aware)) - aware).total_seconds()) < 0.001


def test_a_naive_moment_is_refused() -> None:
    """A time without a zone is a bug wherever it comes from."""
    with pytest.raises(ValueError, match="time zone"):
        rfc3339(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(ValueError, match="time zone"):
        parse_rfc3339("2026-01-01T00:00:00")


def test_the_system_clock_is_in_utc() -> None:
    """Wall time is aware; monotonic time does not go back."""
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
