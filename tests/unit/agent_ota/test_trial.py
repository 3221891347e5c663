"""The decision of a trial: its error rate, its power, and every way it can end."""

from __future__ import annotations

import math
import random

import pytest
from edgesdk_agent.ota.trial import LiveEvidence, decide, log_evidence
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.generation import TrialPolicy
from edgesdk.protocol.messages import Reason

POLICY = TrialPolicy(min_seconds=60, max_seconds=600, min_calls=200, max_bad_rate=0.01, slow_ms=50, max_slow_rate=0.05)
FINE = LiveEvidence(calls=1000, seconds=100, served_seconds=90, apps=("app",))


def alarms(rate: float, tolerated: float, alpha: float, *, runs: int, calls: int, seed: int) -> int:
    """Count the runs in which the test ever rejects, looking after every call."""
    draw, limit, rejected = random.Random(seed), math.log(1 / alpha), 0
    for _ in range(runs):
        events = 0
        for n in range(1, calls + 1):
            if draw.random() < rate:
                events += 1
                if log_evidence(n, events, tolerated) >= limit:  # it can only grow at an event
                    rejected += 1
                    break
    return rejected


@pytest.mark.parametrize("tolerated", [0.01, 0.05])
def test_false_alarms_are_bounded_at_any_time(tolerated: float) -> None:
    """At exactly the tolerated rate, looking after every call, at most alpha of 400 runs are rejected (alpha 10 %)."""
    rejected = alarms(tolerated, tolerated, 0.1, runs=400, calls=2000, seed=1)
    assert 0 < rejected <= 40  # 10 % of 400; it rejects some, so the test is not vacuous


def test_power() -> None:
    """At five times the tolerated rate every run is rejected within 2000 calls."""
    assert alarms(0.05, 0.01, 0.01, runs=100, calls=2000, seed=2) == 100


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(0, 10_000), st.floats(1e-6, 0.999))
def test_evidence_grows_with_events_and_shrinks_with_good_calls(calls: int, events: int, tolerated: float) -> None:
    """One more event is more evidence against; one more good call is less."""
    events = min(events, calls)
    now = log_evidence(calls, events, tolerated)
    assert math.isfinite(now)
    assert log_evidence(calls + 1, events, tolerated) <= now + 1e-9
    assert log_evidence(calls + 1, events + 1, tolerated) >= now - 1e-9


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 0.9))
def test_expectation_under_the_tolerated_rate_is_one(calls: int, tolerated: float) -> None:
    """Summed over the binomial distribution at the tolerated rate, E(n, K) is 1: the supermartingale's equality."""
    chances = [math.comb(calls, k) * tolerated**k * (1 - tolerated) ** (calls - k) for k in range(calls + 1)]
    total = sum(chance * math.exp(log_evidence(calls, k, tolerated)) for k, chance in enumerate(chances))
    assert total == pytest.approx(1, rel=1e-6)


def test_edges_of_tolerance() -> None:
    """At zero tolerance one event decides; at full tolerance nothing does; without calls nothing is known."""
    assert log_evidence(10, 1, 0.0) == math.inf
    assert log_evidence(10, 0, 0.0) == 0
    assert log_evidence(10, 10, 1.0) == 0
    assert log_evidence(0, 0, 0.01) == 0


def test_commit_needs_time_calls_and_an_app() -> None:
    """Enough seconds of service, enough calls and at least one app, all of them."""
    assert decide(FINE, POLICY).kind == "commit"
    for lacking in (
        LiveEvidence(calls=199, seconds=100, served_seconds=90, apps=("app",)),
        LiveEvidence(calls=1000, seconds=100, served_seconds=59, apps=("app",)),
        LiveEvidence(calls=1000, seconds=100, served_seconds=90),
    ):
        assert decide(lacking, POLICY).kind == "continue"


def test_bad_calls_roll_back_with_figures() -> None:
    """Errors and NaN beyond the tolerated rate end the trial; the reason gives the figures."""
    verdict = decide(LiveEvidence(calls=100, bad=8, seconds=5, served_seconds=5, apps=("app",)), POLICY)
    assert verdict.kind == "rollback"
    assert "8 of 100 calls" in verdict.reason.message
    assert verdict.evidence["bad"] == 8


def test_slow_calls_roll_back_only_with_a_budget() -> None:
    """Slow calls count when the policy has a latency budget."""
    live = LiveEvidence(calls=300, slow=200, seconds=100, served_seconds=90, apps=("app",))
    assert decide(live, POLICY).kind == "rollback"
    without = TrialPolicy(min_seconds=60, min_calls=200, slow_ms=None)
    assert decide(live, without).kind == "commit"


def test_one_bad_call_is_no_proof_but_is_doubt() -> None:
    """One error in 50 calls does not roll back at 1 %; while the observed rate is above that, nothing commits."""
    assert decide(LiveEvidence(calls=50, bad=1, seconds=5, served_seconds=5, apps=("a",)), POLICY).kind == "continue"
    doubt = LiveEvidence(calls=250, bad=3, seconds=100, served_seconds=90, apps=("a",))
    assert decide(doubt, POLICY).kind == "continue"
    eased = LiveEvidence(calls=400, bad=3, seconds=200, served_seconds=190, apps=("a",))
    assert decide(eased, POLICY).kind == "commit"


def test_hard_rules() -> None:
    """A load that failed, and a second crash of one app while loading, end the trial whatever the rates."""
    failed = LiveEvidence(load_failed=Reason(code="artifact-unloadable", message="no op X"))
    assert "no op X" in decide(failed, POLICY).reason.message
    assert decide(LiveEvidence(crashes={"app": 2}), POLICY).kind == "rollback"
    assert decide(LiveEvidence(crashes={"app": 1, "other": 1}), POLICY).kind == "continue"


def test_an_app_of_another_contract() -> None:
    """It ends a trial where a good release can be given back to it; a first release goes only if it serves nobody."""
    policy, misfits = TrialPolicy(min_seconds=60, min_calls=100), {"old-app": "the app asks for contract 1.x"}
    served = {"apps": ("new-app",), "calls": 200, "seconds": 70.0, "served_seconds": 65.0}
    verdict = decide(LiveEvidence(misfits=misfits, **served), policy)
    assert verdict.kind == "rollback"
    assert "contract-major: the app asks for contract 1.x" in verdict.reason.message
    assert decide(LiveEvidence(misfits=misfits, first=True, **served), policy).kind == "commit"
    assert decide(LiveEvidence(misfits=misfits, first=True, seconds=59), policy).kind == "continue"
    assert decide(LiveEvidence(misfits=misfits, first=True, seconds=60), policy).kind == "rollback"
    assert verdict.evidence["misfits"] == misfits


@pytest.mark.parametrize(("policy", "kind"), [("hold", "hold"), ("commit", "commit"), ("rollback", "rollback")])
def test_thin_evidence_at_the_deadline(policy: str, kind: str) -> None:
    """At the deadline the policy decides, and the verdict says that evidence was thin."""
    thin = TrialPolicy(max_seconds=600, on_thin_evidence=policy)
    verdict = decide(LiveEvidence(calls=3, seconds=600, served_seconds=10, apps=("a",)), thin)
    assert verdict.kind == kind
    assert verdict.evidence["thin"]
    assert verdict.reason is not None


def test_evidence_beats_the_deadline_and_the_hold() -> None:
    """A held trial still commits or rolls back when evidence comes."""
    late = {"seconds": 10_000, "served_seconds": 9000, "apps": ("a",)}
    assert decide(LiveEvidence(calls=500, **late), POLICY).kind == "commit"
    assert decide(LiveEvidence(calls=500, bad=100, **late), POLICY).kind == "rollback"
