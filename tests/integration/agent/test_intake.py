"""The intake with a real repository, real signatures and the real state: what reaches the updater, what does not."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agent_world import NOW, TrustInProcess, World, command
from edgesdk_agent.identity import IDENTITY_SCHEMA, Identity
from edgesdk_agent.intake import MAX_COMMANDS, Intake
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.timekeeping import TrustedTime
from edgesdk_agent.workers.messages import VerifiedDesired, VerifyDesired

from edgesdk.clock import SystemClock, rfc3339
from edgesdk.errors import DeploymentError, LinkError
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.link_types import Message
from edgesdk.protocol.messages import COMMAND_TYPE, Command, Reason

IDENTITY = Identity(
    schema=IDENTITY_SCHEMA, device="dev-1", fleet="lab", enrolment="e", hub="http://x", broker="mqtt://x", repository=""
)
WAIT = 20


@dataclass
class Rig:
    """An intake and what came out of it."""

    world: World
    state: StateDb
    workers: TrustInProcess
    desired: queue.Queue[VerifiedDesired] = field(default_factory=queue.Queue)
    commands: queue.Queue[Command] = field(default_factory=queue.Queue)
    refused: queue.Queue[Reason] = field(default_factory=queue.Queue)
    problems: queue.Queue[Reason | None] = field(default_factory=queue.Queue)
    signed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    intake: Intake = field(init=False)

    def make(self, poll_seconds: float = 3600.0) -> Intake:
        clock = SystemClock()
        self.intake = Intake(
            identity=IDENTITY,
            run="run-1",
            state=self.state,
            workers=self.workers,
            time=TrustedTime(clock, self.state.time_floor, synchronised=lambda: False),
            repository=self.world.repository,
            on_desired=self.desired.put,
            on_command=lambda command, _: self.commands.put(command),
            on_refused=self.refused.put,
            on_problem=lambda: self.problems.put(self.intake.problem),
            sign=self.signed.release,
            backoff=Backoff(base=0.05, cap=0.1),
            poll_seconds=poll_seconds,
            clock=clock,
        )
        self.intake.start()
        return self.intake

    def send(self, **changes: Any) -> None:
        self.intake.desired(message(self.world.sign(self.world.desired(**changes))))


def message(envelope: dict[str, Any]) -> Message:
    return Message(topic="down", payload=json.dumps(envelope).encode())


@pytest.fixture
def rig(world: World, tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "state").mkdir()
    made = Rig(world, StateDb(tmp_path / "state" / "state.db"), TrustInProcess())
    yield made
    made.intake.stop(WAIT)
    assert not made.intake.alive


def test_a_document_is_accepted_durably_before_it_is_acted_on(rig: Rig) -> None:
    """What the updater is given is what the state holds, with its floors."""
    rig.make()
    rig.send(serial=10)
    assert rig.desired.get(timeout=WAIT).desired.serial == 10
    accepted = rig.state.accepted()
    assert accepted is not None
    assert (accepted.serial, rig.state.serial_floor, rig.state.time_floor) == (10, 10, rfc3339(NOW))


def test_a_new_run_reads_the_accepted_document_again(rig: Rig) -> None:
    """After a restart the accepted document is verified again without a message, to have its offers."""
    rig.make()
    rig.send(serial=10)
    rig.desired.get(timeout=WAIT)
    rig.intake.stop(WAIT)
    rig.make()
    assert rig.desired.get(timeout=WAIT).desired.serial == 10


def test_it_looks_again_by_itself_and_when_asked(rig: Rig) -> None:
    """The repository is polled; `deploy-now` does not wait for the poll."""
    rig.make(poll_seconds=0.1)
    rig.send(serial=10)
    for _ in range(3):
        rig.desired.get(timeout=WAIT)
    rig.intake.stop(WAIT)
    rig.make()
    rig.desired.get(timeout=WAIT)
    rig.intake.look_now()
    rig.desired.get(timeout=WAIT)


def test_a_replay_is_refused_reported_and_counted(rig: Rig) -> None:
    """An older document is refused once it reaches the worker, told to the fleet, and changes nothing."""
    rig.make()
    rig.send(serial=10)
    rig.desired.get(timeout=WAIT)
    rig.send(serial=9)
    assert rig.refused.get(timeout=WAIT).code == "serial-replayed"
    assert rig.intake.counts.replayed == 1
    assert rig.state.serial_floor == 10
    rig.send(serial=11)
    assert rig.desired.get(timeout=WAIT).desired.serial == 11
    assert rig.workers.desired == 3, "a forged document makes nobody look at the repository again"


def test_what_is_in_the_way_is_told_once_until_it_is_over(rig: Rig) -> None:
    """A problem with the newest document is told when it begins, not at each try, and again when it has ended."""
    verify, failures = rig.workers.verify_desired, iter(range(4))

    def full(request: VerifyDesired) -> VerifiedDesired:
        if next(failures, None) is not None:
            raise DeploymentError("disk-full", "no room for the repository's metadata")
        return verify(request)

    rig.workers.verify_desired = full
    rig.make()
    rig.send(serial=10)
    told = rig.problems.get(timeout=WAIT)
    assert told is not None
    assert (told.code, told.message) == ("disk-full", "no room for the repository's metadata")
    assert rig.problems.get(timeout=WAIT) is None
    assert rig.desired.get(timeout=WAIT).desired.serial == 10
    assert rig.problems.empty()


def test_what_is_not_for_this_device_costs_no_worker(rig: Rig) -> None:
    """Foreign, malformed and empty messages never reach the worker; they are counted."""
    rig.make()
    rig.send(device="dev-2")
    rig.send(fleet="other")
    rig.intake.desired(Message(topic="down", payload=b"{"))
    rig.intake.desired(Message(topic="down", payload=b""))
    rig.intake.command(message(rig.world.sign(command(run="run-0"), COMMAND_TYPE)))
    rig.send(serial=10)
    rig.desired.get(timeout=WAIT)
    assert (rig.workers.desired, rig.workers.commands) == (1, 0)
    assert (rig.intake.counts.misaddressed, rig.intake.counts.malformed) == (3, 1)


def test_only_the_newest_document_counts(rig: Rig) -> None:
    """Documents that come while one is verified replace each other; only the last is verified."""
    gate, entered = threading.Event(), threading.Event()
    verify = rig.workers.verify_desired

    def slow(request: VerifyDesired) -> VerifiedDesired:
        entered.set()
        assert gate.wait(WAIT)
        return verify(request)

    rig.workers.verify_desired = slow
    rig.make()
    rig.send(serial=10)
    assert entered.wait(WAIT)
    for serial in range(11, 31):
        rig.send(serial=serial)
    gate.set()
    assert [rig.desired.get(timeout=WAIT).desired.serial for _ in range(2)] == [10, 30]
    assert rig.intake.counts.dropped == 19


def test_a_repository_that_is_away_is_tried_again(rig: Rig) -> None:
    """A good document is not forgotten because the repository could not be reached; nobody is accused."""
    verify, failures = rig.workers.verify_desired, iter(range(3))

    def flaky(request: VerifyDesired) -> VerifiedDesired:
        if next(failures, None) is not None:
            raise LinkError("http-failed", "no network")
        return verify(request)

    rig.workers.verify_desired = flaky
    rig.make()
    rig.send(serial=10)
    assert rig.desired.get(timeout=WAIT).desired.serial == 10
    assert rig.refused.empty()


def test_a_command_is_carried_out_once(rig: Rig) -> None:
    """The second copy of a command is refused and counted, also after a restart."""
    rig.make()
    copy = message(rig.world.sign(command(), COMMAND_TYPE))
    rig.intake.command(copy)
    assert rig.commands.get(timeout=WAIT).id == "command-1"
    rig.intake.command(copy)
    rig.intake.command(message(rig.world.sign(command(id="command-2"), COMMAND_TYPE)))
    assert rig.commands.get(timeout=WAIT).id == "command-2"
    assert rig.intake.counts.replayed == 1
    rig.intake.stop(WAIT)
    rig.make()
    rig.intake.command(copy)
    rig.intake.command(message(rig.world.sign(command(id="command-3"), COMMAND_TYPE)))
    assert rig.commands.get(timeout=WAIT).id == "command-3"
    assert rig.intake.counts.replayed == 1


def test_a_flood_of_commands_is_bounded(rig: Rig) -> None:
    """More commands than the queue holds are dropped and counted; memory does not grow."""
    gate = threading.Event()
    verify = rig.workers.verify_command

    def slow(request: Any) -> Any:
        assert gate.wait(WAIT)
        return verify(request)

    rig.workers.verify_command = slow
    rig.make()
    flood = message(rig.world.sign(command(), COMMAND_TYPE))
    for _ in range(MAX_COMMANDS * 3):
        rig.intake.command(flood)
    assert rig.intake.counts.dropped >= MAX_COMMANDS
    gate.set()
    assert rig.commands.get(timeout=WAIT)


def test_an_unexpected_failure_does_not_end_the_thread(rig: Rig) -> None:
    """A bug in what acts on a document is logged; the next document is taken."""
    rig.make()
    heard: Callable[[VerifiedDesired], None] = rig.desired.put
    broken = iter([True])

    def fail_once(verified: VerifiedDesired) -> None:
        if next(broken, False):
            raise RuntimeError("bug")
        heard(verified)

    rig.intake._on_desired = fail_once
    rig.send(serial=10)
    rig.send(serial=11)
    assert rig.desired.get(timeout=WAIT).desired.serial in {10, 11}


def test_statements_are_signed_at_start_and_when_asked(rig: Rig) -> None:
    """What an earlier run left unsigned is signed at once."""
    rig.make()
    assert rig.signed.acquire(timeout=WAIT)
    rig.intake.sign_now()
    assert rig.signed.acquire(timeout=WAIT)
