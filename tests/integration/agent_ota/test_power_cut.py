"""The plug is pulled before every single durable operation (fsync, rename, unlink), then everything is verified."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from agent_ota_world import MODEL, RangeServer, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

OPERATIONS = ("fsync", "rename", "replace", "unlink", "mkdir", "chmod")


class PowerCutError(BaseException):
    """Nothing after this happened; a `BaseException`, so that no handler of the agent meets it."""


class Plug:
    """Counts durable operations of this process and pulls the plug before the n-th."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.real = {name: getattr(os, name) for name in OPERATIONS}

    def install(self) -> None:
        for name in OPERATIONS:
            setattr(os, name, self._watched(name))

    def remove(self) -> None:
        for name, real in self.real.items():
            setattr(os, name, real)

    def _watched(self, name: str):
        def operate(*arguments: object, **options: object) -> object:
            self.count += 1
            if self.at is not None and self.count >= self.at:
                raise PowerCutError(name)
            return self.real[name](*arguments, **options)

        return operate

    def pull_after(self, operations: int | None) -> None:
        self.count, self.at = 0, operations


@pytest.fixture
def plug() -> Iterator[Plug]:
    plug = Plug()
    plug.install()
    yield plug
    plug.remove()


def fresh_folder() -> Path:
    """In memory where possible: these tests fsync thousands of times, and no machine really loses power."""
    return Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))


@pytest.mark.parametrize(
    ("content", "end", "release"), [("good", "committed", "2.0.0"), ("nan", "rolled_back", "1.0.0")]
)
def test_cut_before_every_durable_operation(
    server: RangeServer, plug: Plug, content: str, end: str, release: str
) -> None:
    """Wherever an update is cut, a whole generation is served, and the restarted agent ends it rightly."""
    cuts = 0
    while True:
        root = fresh_folder()
        world = World(root / "agent", server)
        world.ask(world.publish("1.0.0"), deployment="first")
        assert world.finish() == "committed"
        offer = world.publish("2.0.0", content)
        world.ask(offer, deployment="second")
        plug.pull_after(cuts + 1)
        try:
            world.finish()
            over = True
        except PowerCutError:
            over = False
        plug.pull_after(None)
        world.state.close()
        world.check_whole()
        world.start()
        world.serial -= 1
        world.ask(offer, deployment="second")
        assert world.finish() == end, f"cut before operation {cuts + 1}"
        world.check_whole()
        world.check_truth()
        assert world.updater.snapshot()[MODEL].good_release == release
        shutil.rmtree(root)
        if over:
            break
        cuts += 1
    assert cuts > 30


class Deployments(RuleBasedStateMachine):
    """Random documents, evidence, network trouble, pauses and power cuts against what is promised."""

    RELEASES: ClassVar = {"1.0.0": "good", "2.0.0": "good", "3.0.0": "nan", "4.0.0": "worse", "5.0.0": "crash"}

    def __init__(self) -> None:
        super().__init__()
        self.root = fresh_folder()
        self.server = RangeServer()
        self.plug = Plug()
        self.plug.install()
        self.world = World(self.root / "agent", self.server)
        self.offers = {name: self.world.publish(name, content) for name, content in self.RELEASES.items()}
        self.bad = {self.world.generation(self.offers[name]) for name in ("3.0.0", "4.0.0", "5.0.0")}
        self.last: tuple[object, object] = (None, None)
        self.goods: list[str | None] = [None]
        self.quarantined: set[str] = set()

    def surely(self, act) -> None:
        """Do something that a power cut may end; then the agent starts again and reads desired again."""
        try:
            act()
        except PowerCutError:
            self.plug.pull_after(None)
            self.world.state.close()
            self.world.check_whole()
            self.world.start()
            release, options = self.last
            if options is not None:
                self.world.serial -= 1
                self.world.ask(self.offers.get(release), **options)

    @rule(release=st.sampled_from([*RELEASES, None]), retry=st.booleans(), paused=st.booleans(), same=st.booleans())
    def ask(self, *, release: str | None, retry: bool, paused: bool, same: bool) -> None:
        deployment = "same" if same else f"d{self.world.serial + 1}"
        options = {"deployment": deployment, "retry": retry, "paused": paused}
        self.last = (release, options)
        self.world.ask(self.offers.get(release), **options)

    @rule(
        release=st.sampled_from([*RELEASES, None]), cut=st.one_of(st.none(), st.integers(1, 150)), retry=st.booleans()
    )
    def deploy(self, *, release: str | None, cut: int | None, retry: bool) -> None:
        """A whole deployment with an app at work, cut somewhere or not, and then to its end."""
        self.server.status = self.server.cut_after = None
        self.ask(release=release, retry=retry, paused=False, same=False)
        self.plug.pull_after(cut)
        self.surely(self.world.finish)
        self.plug.pull_after(None)
        end = self.world.finish()
        generation = self.world.generation(self.offers[release]) if release else None
        assert (end in {"committed", "idle"}) == (generation not in self.bad)
        assert (generation in self.world.state.quarantined()) == (generation in self.bad)

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        def act() -> None:
            for _ in range(steps):
                self.world.clock.seconds += min(self.world.updater.step(), 1000.0)

        self.surely(act)

    @rule()
    def live(self) -> None:
        status = self.world.updater.snapshot().get(MODEL)
        if status and status.state == "trial" and status.trial:
            self.surely(lambda: self.world.live(status.trial))

    @rule(operations=st.integers(1, 40))
    def pull_the_plug_soon(self, operations: int) -> None:
        self.plug.pull_after(operations)

    @rule()
    def restart(self) -> None:
        self.plug.pull_after(None)
        self.world.state.close()
        self.world.start()
        if self.last[1] is not None:
            self.world.serial -= 1
            self.world.ask(self.offers.get(self.last[0]), **self.last[1])

    @rule(status=st.sampled_from([None, 503]), cut=st.sampled_from([None, 40]))
    def network(self, status: int | None, cut: int | None) -> None:
        self.server.status, self.server.cut_after = status, cut

    @precondition(lambda self: self.plug.at is None)
    @invariant()
    def truth_is_stated(self) -> None:
        status = self.world.updater.snapshot().get(MODEL)
        journal = self.world.updater._journals.get(MODEL)
        if status and journal and not journal.move:
            self.world.check_truth()

    @invariant()
    def whole_and_good(self) -> None:
        self.world.check_whole()
        slots = self.world.slots()
        good = slots.good if slots else None
        assert good not in self.bad
        if good != self.goods[-1]:
            self.goods.append(good)
            counted = {draft.generation for draft in self.world.emitted if draft.state == "trial"}
            assert good is None or good in counted  # only by way of a trial
        found = set(self.world.state.quarantined())
        assert found >= self.quarantined
        self.quarantined = found
        assert found <= self.bad

    def teardown(self) -> None:
        """No wedge: with the network back and a good release wanted, it is committed."""
        try:
            self.plug.pull_after(None)
            self.server.status = self.server.cut_after = None
            self.world.ask(self.world.publish("6.0.0"), deployment="last")
            assert self.world.finish(steps=200) == "committed"
            self.world.check_whole()
            self.world.check_truth()
        finally:
            self.plug.remove()
            self.world.state.close()
            self.server.close()
            shutil.rmtree(self.root)


def test_random_histories_with_power_cuts() -> None:
    """Good changes only by a trial that ended well, quarantine holds, nothing wedges, statements are true."""
    run_state_machine_as_test(
        Deployments,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
