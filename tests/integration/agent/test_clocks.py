"""Devices whose clocks lie, and devices that were away for years: a real repository, real signatures, wrong times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from agent_world import NOW, World
from edgesdk_agent.timekeeping import TrustedTime
from edgesdk_agent.workers.messages import VerifiedDesired

from edgesdk.clock import rfc3339
from edgesdk.errors import TrustError
from edgesdk.protocol.messages import MinTuf
from edgesdk.trust.repository import Options, refresh, rotate

EPOCH = datetime.fromtimestamp(0, UTC)
Y2038 = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)
DRAWER = NOW + timedelta(days=730)


@dataclass
class Wrong:
    """A clock that says what a test wants."""

    wall: datetime = EPOCH
    uptime: float = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.uptime


@dataclass
class Sleeper:
    """A device's trust in time and documents across its boots."""

    world: World
    clock: Wrong = field(default_factory=Wrong)
    synchronised: bool = False
    accepted: VerifiedDesired | None = None

    def boot(self) -> TrustedTime:
        floor = self.accepted.time_floor if self.accepted else ""
        return TrustedTime(self.clock, floor, synchronised=lambda: self.synchronised)

    def read(self, **document: Any) -> VerifiedDesired:
        """Boot, and read this desired document."""
        envelope = self.world.sign(self.world.desired(**document))
        self.accepted = self.world.verify(envelope, now=self.boot().now(), accepted=self.accepted)
        return self.accepted

    def refusal(self, **document: Any) -> str:
        with pytest.raises(TrustError) as caught:
            self.read(**document)
        return caught.value.code


@pytest.fixture
def sleeper(world: World) -> Sleeper:
    """A device that has read one document at the time of its making."""
    made = Sleeper(world)
    made.read(serial=10)
    return made


def two_years(world: World) -> None:
    """Let the repository live: roots and online keys are rotated, everything is signed anew."""
    for days in (360, 720):
        options = Options(now=lambda days=days: NOW + timedelta(days=days))
        refresh(world.repo, world.keys, role="targets", options=options)
        rotate(world.repo, world.keys, ("root", "timestamp"), options=options)
    refresh(world.repo, world.keys, options=Options(now=lambda: DRAWER - timedelta(hours=1)))


@pytest.mark.parametrize("wall", [EPOCH, NOW, DRAWER, Y2038])
def test_two_years_in_a_drawer(sleeper: Sleeper, wall: datetime) -> None:
    """Whatever its clock says, a device comes back over two expired roots, and its floor with it; once is enough."""
    two_years(sleeper.world)
    sleeper.clock.wall = wall
    found = sleeper.read(serial=20, issued_at=rfc3339(DRAWER), min_tuf=MinTuf(root=3, timestamp=5))
    assert (found.tuf.root, found.time_floor) == (3, rfc3339(DRAWER))
    assert sleeper.refusal(serial=10) == "serial-replayed"
    sleeper.clock.wall = EPOCH
    assert sleeper.boot().now() == DRAWER


def test_two_years_in_a_drawer_and_an_old_mirror(sleeper: Sleeper) -> None:
    """A mirror that stood still for two years is expired at the time of the newest signed word, whatever the clock."""
    assert sleeper.refusal(serial=20, issued_at=rfc3339(DRAWER)) == "tuf-expired"
    assert sleeper.refusal(serial=20, min_tuf=MinTuf(root=3, timestamp=5)) == "tuf-frozen"
    assert sleeper.read(serial=11).desired.serial == 11  # both channels frozen and no clock: nobody can know


def test_a_real_time_clock_glitches_and_comes_back(sleeper: Sleeper) -> None:
    """In 2038, believed for a moment, nothing is accepted and nothing stays; back in its time the device goes on."""
    sleeper.clock.wall, sleeper.synchronised = Y2038, True
    assert sleeper.boot().now() == Y2038
    assert sleeper.refusal(serial=11) == "tuf-expired"
    sleeper.clock.wall = NOW + timedelta(minutes=1)
    assert sleeper.read(serial=11).time_floor == rfc3339(NOW)
    sleeper.clock.wall = EPOCH  # before what was signed: not believed, though it says that it is synchronised
    assert sleeper.boot().state == "unproven"
    assert sleeper.read(serial=12).desired.serial == 12


@pytest.mark.parametrize("start", [EPOCH, Y2038])
def test_uptime_counts_where_the_clock_does_not(sleeper: Sleeper, start: datetime) -> None:
    """An unproven clock may jump; expiry is judged by the time that has passed since the last signed word."""
    sleeper.clock.wall = start
    time = sleeper.boot()
    verify: Callable[[], VerifiedDesired] = lambda: sleeper.world.verify(  # noqa: E731 - twice the same
        sleeper.world.sign(sleeper.world.desired(serial=11)), now=time.now(), accepted=sleeper.accepted
    )
    assert verify().desired.serial == 11
    sleeper.clock.uptime += timedelta(days=2).total_seconds()
    with pytest.raises(TrustError) as caught:
        verify()
    assert caught.value.code == "tuf-expired"
