"""Rollouts as pure decisions: waves, gates, evidence, time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgesdk.errors import ConfigError
from edgesdk.fleet.rollout import (
    SILENT,
    Decision,
    Gate,
    Progress,
    Rollout,
    advance,
    bad_limit,
    fold,
    open_wave,
    plan_waves,
    progress_of,
    resume,
    shuffled,
    tally,
)
from edgesdk.protocol.messages import DesiredModel, Reason, Statement

COMMITTED, BAD, STARTED, REFUSED = (Progress(standing=name) for name in ("committed", "bad", "started", "refused"))
T0 = 1_800_000_000_000


def names(count: int) -> list[str]:
    return [f"d{number}" for number in range(count)]


def make(count: int, sizes: tuple[str, ...] = ("100%",), *, gate: Gate | None = None, **fields: Any) -> Rollout:
    waves = plan_waves(names(count), sizes, (gate or Gate(),))
    return Rollout(id="r-1", fleet="f", model="m", release="2.0.0", waves=waves, created_at=T0, **fields)


def opened(plan: Rollout, waves: int = 1) -> Rollout:
    prior = DesiredModel(release="1.0.0", deployment="r-0")
    for index in range(waves):
        plan = open_wave(plan, index, T0, dict.fromkeys(plan.waves[index].devices, prior))
    return plan


def said(**fields: Any) -> Statement:
    known = {
        "device": "d0",
        "fleet": "f",
        "enrolment": "e",
        "model": "m",
        "deployment": "r-1",
        "serial": 1,
        "release": "2.0.0",
        "generation": None,
        "state": "trial",
        "good": None,
        "good_release": "1.0.0",
        "serving": "good",
        "counter": 1,
        "run": "r",
        "boot": "b",
        "ts": "",
        "time_floor": "",
    }
    return Statement(**(known | fields))


def test_first_wave_opens_at_once() -> None:
    """A new rollout opens its first wave without waiting for anything."""
    assert advance(make(4, ("50%", "100%")), {}, T0) == Decision("running", open_wave=0)


def test_next_wave_waits_for_verified_commits() -> None:
    """A wave with devices that have only started opens nothing; all committed opens the next."""
    plan = opened(make(4, ("50%", "100%")))
    stay = Decision("running", "")
    assert advance(plan, {"d0": COMMITTED, "d1": STARTED}, T0) == stay
    assert advance(plan, {"d0": COMMITTED}, T0) == stay
    assert advance(plan, {"d0": COMMITTED, "d1": COMMITTED}, T0).open_wave == 1


@pytest.mark.parametrize("size", [1, 2, 10])
def test_first_bad_device_of_a_small_wave_halts(size: int) -> None:
    """In a wave of up to ten devices the first rollback halts, names the device, and withdraws the undecided."""
    decision = advance(opened(make(size)), {"d0": Progress("bad", "rolled_back", "trial-evidence")}, T0)
    assert decision.state == "halted"
    assert "d0: rolled_back (trial-evidence)" in decision.reason
    assert decision.withdraw == tuple(names(size)[1:])


def test_large_wave_tolerates_what_the_exact_test_tolerates() -> None:
    """In a wave of a hundred, one bad device does not halt, and the limit of the exact test does."""
    plan = opened(make(100))
    limit = bad_limit(plan.waves[0], 1)
    assert limit > 1
    few = dict.fromkeys(names(limit - 1), BAD)
    assert advance(plan, few, T0).state == "running"
    assert advance(plan, few | {"d99": BAD}, T0).state == "halted"


def test_explicit_count_overrules_the_size() -> None:
    """With max_bad=1 one bad device passes and a second halts."""
    plan = opened(make(20, gate=Gate(max_bad=1)))
    assert advance(plan, {"d0": BAD}, T0).state == "running"
    assert advance(plan, {"d0": BAD, "d1": BAD}, T0).state == "halted"


def test_late_evidence_of_an_earlier_wave_halts() -> None:
    """A device of wave one that turns bad while wave two runs halts the rollout."""
    plan = opened(make(20, ("50%", "100%")), 2)
    progress = {**dict.fromkeys(names(10), COMMITTED), "d3": BAD}
    assert advance(plan, progress, T0).state == "halted"


def test_unfit_everywhere_halts() -> None:
    """A release that every device refuses as unfit has nowhere to go."""
    decision = advance(opened(make(2)), {"d0": REFUSED, "d1": REFUSED}, T0)
    assert (decision.state, "refused" in decision.reason) == ("halted", True)


def test_unfit_devices_are_left_out() -> None:
    """A refused device neither holds the wave up nor counts against the release."""
    assert advance(opened(make(2)), {"d0": COMMITTED, "d1": REFUSED}, T0).state == "done"


def test_offline_devices_do_not_block_for_ever() -> None:
    """After the wave's time, silent devices are set aside: the next wave opens and says so."""
    gate = Gate(timeout_seconds=60)
    plan = opened(make(4, ("50%", "100%"), gate=gate))
    progress = {"d0": COMMITTED}
    assert advance(plan, progress, T0 + 59_999).open_wave is None
    decision = advance(plan, progress, T0 + 60_000)
    assert (decision.state, decision.open_wave) == ("running", 1)
    assert "never answered" in decision.reason


def test_silence_alone_is_no_success() -> None:
    """A wave in which nobody answered pauses the rollout at its time; it does not go on."""
    decision = advance(opened(make(2, ("50%", "100%"), gate=Gate(timeout_seconds=60))), {}, T0 + 60_000)
    assert (decision.state, decision.open_wave) == ("paused", None)


def test_resume_gives_the_wave_its_time_again() -> None:
    """A paused rollout runs again after resume, and not straight into the same time-out."""
    plan = opened(make(2, gate=Gate(timeout_seconds=60)))
    again = resume(msgspec.structs.replace(plan, state="paused"), T0 + 60_000)
    assert advance(again, {}, T0 + 60_001).state == "running"
    with pytest.raises(ConfigError) as caught:
        resume(again, T0)
    assert caught.value.code == "rollout-conflict"


def test_paused_opens_nothing_but_still_halts() -> None:
    """A pause holds the next wave back, and never evidence."""
    plan = msgspec.structs.replace(opened(make(4, ("50%", "100%"))), state="paused")
    assert advance(plan, {"d0": COMMITTED, "d1": COMMITTED}, T0).open_wave is None
    assert advance(plan, {"d0": BAD}, T0).state == "halted"


def test_ended_rollouts_stay_ended() -> None:
    """Nothing moves a rollout that was halted, done or rolled back."""
    for state in ("halted", "done", "rolled_back"):
        plan = msgspec.structs.replace(opened(make(2)), state=state, reason="why")
        assert advance(plan, {"d0": BAD}, T0 + 10**9) == Decision(state, "why")


def test_rollback_is_remembered_through_later_refusals() -> None:
    """A device that rolled back and then refuses its quarantined generation is still bad, for the first reason."""
    first = said(state="rolled_back", reason=Reason(code="trial-evidence", permanent=True), counter=5)
    then = said(state="testing", counter=6)
    assert progress_of([then, first]).standing == "bad"
    assert progress_of([then, first]).reason == "trial-evidence"
    assert progress_of([first, said(state="committed", good_release="2.0.0", counter=7)]).standing == "committed"


@pytest.mark.parametrize(
    ("fields", "standing"),
    [
        ({"state": "failed", "reason": Reason(code="disk-full")}, "started"),
        ({"state": "failed", "reason": Reason(code="golden-truth-loss", permanent=True)}, "bad"),
        ({"state": "failed", "reason": Reason(code="superseded", permanent=True)}, "started"),
        ({"state": "refused", "reason": Reason(code="no-fitting-variant", permanent=True)}, "refused"),
        ({"state": "refused", "reason": Reason(code="generation-quarantined", permanent=True)}, "bad"),
        ({"state": "committed", "good_release": "1.0.0"}, "started"),
        ({"state": "committed", "good_release": "2.0.0"}, "committed"),
        ({"state": "trial"}, "started"),
    ],
)
def test_what_a_statement_means(fields: dict[str, Any], standing: str) -> None:
    """Each of the device's words has one meaning for the rollout; a commit counts only if it runs the release."""
    assert fold(SILENT, said(**fields)).standing == standing


@given(st.permutations(range(1, 6)))
def test_order_of_arrival_does_not_matter(order: list[int]) -> None:
    """Statements fold by their counters, in whatever order they arrive."""
    states = {1: "downloading", 2: "testing", 3: "trial", 4: "rolled_back", 5: "idle"}
    statements = [said(state=states[counter], counter=counter) for counter in order]
    assert progress_of(statements) == progress_of(sorted(statements, key=lambda each: each.counter))
    assert progress_of(statements).standing == "bad"


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [(("100%",), [10]), (("10%", "50%", "100%"), [1, 4, 5]), (("1", "5", "100%"), [1, 4, 5]), (("3", "10"), [3, 7])],
)
def test_waves_are_cut_cumulatively(sizes: tuple[str, ...], counts: list[int]) -> None:
    """Shares and counts are cumulative, and every device is in one wave."""
    waves = plan_waves(names(10), sizes, (Gate(),))
    assert [len(wave.devices) for wave in waves] == counts
    assert [device for wave in waves for device in wave.devices] == names(10)


@pytest.mark.parametrize(
    "sizes", [(), ("50%",), ("50%", "10%", "100%"), ("x",), ("-1",), ("0%", "100%"), ("nan%",), ("10%", "5%", "100%")]
)
def test_wrong_waves_are_refused(sizes: tuple[str, ...]) -> None:
    """Waves that shrink, do not reach all, or are no sizes are refused with one code."""
    with pytest.raises(ConfigError) as caught:
        plan_waves(names(2 if len(sizes) == 3 else 10), sizes, (Gate(),))
    assert caught.value.code == "argument-invalid"


@pytest.mark.parametrize("devices", [[], ["a", "a"]])
def test_devices_are_named_once(devices: list[str]) -> None:
    """No devices, or one device twice, is refused."""
    with pytest.raises(ConfigError):
        plan_waves(devices, ("100%",), (Gate(),))


def test_one_gate_per_wave() -> None:
    """Gates go with their waves; another number of them is refused."""
    gates = (Gate(max_bad=0), Gate(max_bad=3))
    assert [wave.gate.max_bad for wave in plan_waves(names(4), ("50%", "100%"), gates)] == [0, 3]
    with pytest.raises(ConfigError):
        plan_waves(names(4), ("25%", "50%", "100%"), gates)


def test_order_of_asking_differs_between_rollouts() -> None:
    """The same devices are not always the first to try; the same rollout always asks in the same order."""
    orders = {shuffled(names(20), f"r-{number}") for number in range(5)}
    assert len(orders) == 5
    assert shuffled(reversed(names(20)), "r-1") == shuffled(names(20), "r-1")


class Fleet(RuleBasedStateMachine):
    """Any interleaving of statements, time and operators keeps the promises below."""

    @initialize(count=st.integers(1, 30), cut=st.sampled_from([("100%",), ("10%", "100%"), ("1", "5", "100%")]))
    def start(self, count: int, cut: tuple[str, ...]) -> None:
        sizes = cut if cut != ("1", "5", "100%") or count >= 5 else ("100%",)
        self.plan, self.progress, self.now = make(count, sizes), {}, T0
        self.asked: set[str] = set()

    @rule(pick=st.integers(0, 29), standing=st.sampled_from(["started", "committed", "bad", "refused"]))
    def say(self, pick: int, standing: Any) -> None:
        asked = [device for wave in self.plan.opened for device in wave.devices]
        if asked:
            self.progress[asked[pick % len(asked)]] = Progress(standing=standing)

    @rule(seconds=st.sampled_from([1, 3600, 100_000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule()
    def go_on(self) -> None:
        if self.plan.state == "paused":
            self.plan = resume(self.plan, self.now)

    @rule()
    def step(self) -> None:
        before = self.plan
        decision = advance(before, self.progress, self.now)
        assert before.state in {"running", "paused"} or decision == Decision(before.state, before.reason)
        if decision.open_wave is not None:
            assert decision.open_wave == len(before.opened)
            if before.opened:
                count = tally(before.opened[-1], self.progress)
                assert count.committed > 0
                assert count.bad < bad_limit(before.opened[-1], len(before.waves))
            self.plan = open_wave(self.plan, decision.open_wave, self.now, {})
        self.plan = msgspec.structs.replace(self.plan, state=decision.state, reason=decision.reason)

    @invariant()
    def waves_open_in_order(self) -> None:
        flags = [wave.opened_at is not None for wave in getattr(self, "plan", make(1)).waves]
        assert flags == sorted(flags, reverse=True)

    @invariant()
    def done_means_committed(self) -> None:
        if getattr(self, "plan", None) is not None and self.plan.state == "done":
            assert len(self.plan.opened) == len(self.plan.waves)
            assert self.plan.reason


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
