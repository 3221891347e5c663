"""Which time is believed."""

from datetime import UTC, datetime, timedelta

from edgesdk_agent.timekeeping import TrustedTime, kernel_synchronised

from edgesdk.clock import rfc3339


class FakeClock:
    def __init__(self, now: datetime) -> None:
        self.wall, self.seconds = now, 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds


SIGNED = datetime(2026, 11, 23, tzinfo=UTC)


def test_an_unproven_clock_is_floor_plus_uptime() -> None:
    """A device in 2038 without NTP judges at the signed time plus the time since then."""
    clock = FakeClock(datetime(2038, 1, 19, tzinfo=UTC))
    time = TrustedTime(clock, rfc3339(SIGNED), synchronised=lambda: False)
    clock.seconds = 90
    assert time.now() == SIGNED + timedelta(seconds=90)
    assert time.state == "unproven"


def test_a_proven_clock_is_believed_unless_it_is_before_the_floor() -> None:
    """NTP makes the clock believable; a clock before a signed time is wrong whatever the kernel says."""
    clock = FakeClock(SIGNED + timedelta(days=1))
    time = TrustedTime(clock, rfc3339(SIGNED), synchronised=lambda: True)
    assert (time.state, time.now()) == ("proven", clock.wall)
    clock.wall = datetime.fromtimestamp(0, UTC)
    assert (time.state, time.now()) == ("unproven", SIGNED)


def test_the_floor_only_rises() -> None:
    """An earlier signed time changes nothing; a later one restarts the uptime that is added."""
    clock = FakeClock(datetime.fromtimestamp(0, UTC))
    time = TrustedTime(clock, "", synchronised=lambda: False)
    assert time.now().year == 1970
    clock.seconds = 50
    time.raise_floor(rfc3339(SIGNED))
    time.raise_floor("")
    time.raise_floor(rfc3339(SIGNED - timedelta(days=1)))
    clock.seconds = 60
    assert time.now() == SIGNED + timedelta(seconds=10)
    assert time.floor == rfc3339(SIGNED)


def test_the_kernel_can_be_asked() -> None:
    """The answer depends on the machine; asking never fails."""
    assert kernel_synchronised() in {True, False}
