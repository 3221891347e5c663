"""The decision at the end of a trial: live evidence for or against a release (pure).

Rates are watched, each against what the policy tolerates: *bad* calls (errors, NaN, infinities), *slow* calls, and
where the policy says so *unsure* answers, less confident than the good generation's least confident tenth. Each is
tested with a mixture of likelihood ratios. With ``k`` events in ``n`` calls and the tolerated rate ``p0``,

    E(n, k) = mean over j of (p_j / p0)^k * ((1 - p_j) / (1 - p0))^(n - k),      p_j = p0^(1 - j/(m+1)),  j = 1..m

that is, alternatives spaced geometrically between ``p0`` and 1. If each call is an event with a conditional probability
of at most ``p0`` given the calls before it, every factor has an expectation of at most 1 (it is linear in that
probability, increasing, and equal to 1 at ``p0``), so E is a nonnegative supermartingale that starts at 1, and by
Ville's inequality

    P(E ever reaches 1 / a) <= a.

So one may look after every datagram, for as long as one likes: *anytime valid*. `TrialPolicy.alpha` is split evenly
over the tests: a release exactly at all tolerated rates is rolled back wrongly with at most that probability.

What is unsure is fixed when the trial begins, by a sketch of at least `REFERENCE` answers of the good generation. With
so many the chance that a tenth by the sketch is truly more than 0.15 is 7e-4, more than 0.2 is 2e-9 (binomial), so a
tolerated rate of 0.3 leaves room for inputs that change from day to day.

Sources: J. Ville, "Étude critique de la notion de collectif" (1939), for the inequality; H. Robbins, "Statistical
methods related to the law of the iterated logarithm" (Ann. Math. Statist. 41, 1970), for mixtures; A. Ramdas,
P. Grünwald, V. Vovk, G. Shafer, "Game-theoretic statistics and safe anytime-valid inference" (Statist. Sci. 38, 2023),
for the view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from edgesdk.generation import TrialPolicy
from edgesdk.protocol.messages import Reason

ALTERNATIVES = 15
CRASHES = 2
REFERENCE = 500
UNSURE = 0.1
"""The least confident share of the good generation's answers."""

Kind = Literal["continue", "commit", "rollback", "hold"]


@dataclass(frozen=True, slots=True)
class LiveEvidence:
    """What apps said of the generation on trial.

    Attributes:
        calls: Calls that reached the artifact.
        bad: Those that raised or answered NaN or infinity.
        slow: Those slower than the policy's `slow_ms`.
        answered_by_good: Bad calls that the good generation answered instead.
        answers: Answers that came with a confidence.
        unsure: Those below the trial's threshold.
        crashes: By app: how often it began to load the generation and then ended without a word.
        load_failed: Why an app could not load it; None if none reported that.
        misfits: By app: what it said when it asked for another major version of the contract.
        first: There is no good generation that a rollback could give those apps back.
        seconds: Length of the trial so far; only time in which the agent ran counts.
        served_seconds: The same since an app first ran it.
        apps: Apps that have run it.
        went_down: How often the device was reset by its watchdog or crashed meanwhile; power cuts are not counted.
    """

    calls: int = 0
    bad: int = 0
    slow: int = 0
    answered_by_good: int = 0
    answers: int = 0
    unsure: int = 0
    crashes: dict[str, int] = field(default_factory=dict)
    load_failed: Reason | None = None
    misfits: dict[str, str] = field(default_factory=dict)
    first: bool = False
    seconds: float = 0.0
    served_seconds: float = 0.0
    apps: tuple[str, ...] = ()
    went_down: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do now.

    Attributes:
        kind: ``continue`` gathering; ``commit``; ``rollback``; or ``hold``: the deadline has passed with too little
            evidence, and the policy says to go on.
        reason: Why, for ``rollback``; for a ``commit`` or ``hold`` at the deadline, that evidence is thin.
        evidence: The figures behind it, as they go into the statement.
    """

    kind: Kind
    reason: Reason | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def log_evidence(calls: int, events: int, tolerated: float) -> float:
    """Return ln E(n, k) of the module's docstring; ``-inf`` and ``inf`` at the ends.

    Args:
        calls: n.
        events: k; more than `calls` counts as `calls`.
        tolerated: p0. At 0 a single event is decisive; at 1 nothing is.
    """
    events = min(events, calls)
    if tolerated >= 1 or calls == 0:
        return 0.0
    if tolerated <= 0:
        return math.inf if events else 0.0
    terms = [_log_ratio(calls, events, tolerated, j) for j in range(1, ALTERNATIVES + 1)]
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms) / len(terms))


def _log_ratio(calls: int, events: int, tolerated: float, j: int) -> float:
    log_rate = math.log(tolerated) * (1 - j / (ALTERNATIVES + 1))
    rest = math.log1p(-math.exp(log_rate)) - math.log1p(-tolerated)
    return events * (log_rate - math.log(tolerated)) + (calls - events) * rest


def decide(live: LiveEvidence, policy: TrialPolicy) -> Verdict:
    """Judge a trial by all of its evidence so far."""
    figures = _figures(live, policy)
    against = _against(live, policy)
    if against:
        return Verdict("rollback", against, figures)
    if _enough(live, policy) and not _in_doubt(live, policy):
        return Verdict("commit", None, figures)
    if live.seconds < policy.max_seconds:
        return Verdict("continue", None, figures)
    thin = _thin(live, policy)
    figures = {**figures, "thin": True, "policy": policy.on_thin_evidence}
    kinds: dict[str, Kind] = {"commit": "commit", "rollback": "rollback", "hold": "hold"}
    return Verdict(kinds[policy.on_thin_evidence], thin, figures)


def _against(live: LiveEvidence, policy: TrialPolicy) -> Reason | None:
    """Return why the release must go, or None."""
    if cannot := _cannot_load(live, policy):
        return _reason(f"an app cannot load it: {cannot}")
    for app, crashes in sorted(live.crashes.items()):
        if crashes >= CRASHES:
            return _reason(f"the app {app!r} ended {crashes} times while it loaded this generation")
    if live.went_down >= CRASHES:
        return _reason(f"the device crashed or was reset by its watchdog {live.went_down} times during the trial")
    return _rates(live, policy)


def _rates(live: LiveEvidence, policy: TrialPolicy) -> Reason | None:
    """Return which rate is beyond what is tolerated, decisively; None if none is."""
    watched = [("errors, NaN or infinities", live.bad, live.calls, policy.max_bad_rate)]
    if policy.slow_ms is not None:
        watched.append((f"calls over {policy.slow_ms:g} ms", live.slow, live.calls, policy.max_slow_rate))
    if policy.max_unsure_rate is not None:
        what = "answers less confident than the good release's"
        watched.append((what, live.unsure, live.answers, policy.max_unsure_rate))
    limit = math.log(max(len(watched), 2) / policy.alpha)
    beyond = (each for each in watched if log_evidence(each[2], each[1], each[3]) >= limit)
    return next((_reason(_rate(*each)) for each in beyond), None)


def _cannot_load(live: LiveEvidence, policy: TrialPolicy) -> str:
    """Return why an app cannot load it, in its words, if that counts; "" otherwise.

    An app of another contract counts where a rollback gives it back what it had. For a first release there is nothing
    to give back: it goes only if, for `min_seconds`, no other app has run it.
    """
    if live.load_failed:
        return f"{live.load_failed.code}: {live.load_failed.message}"
    serves_nobody = not live.apps and live.seconds >= policy.min_seconds
    if live.misfits and (serves_nobody or not live.first):
        return f"contract-major: {next(iter(live.misfits.values()))}"
    return ""


def _enough(live: LiveEvidence, policy: TrialPolicy) -> bool:
    return live.served_seconds >= policy.min_seconds and live.calls >= policy.min_calls and bool(live.apps)


def _in_doubt(live: LiveEvidence, policy: TrialPolicy) -> bool:
    """Return whether an observed rate exceeds what is tolerated, though not yet decisively: wait for more."""
    slow = policy.slow_ms is not None and live.slow > live.calls * policy.max_slow_rate
    unsure = policy.max_unsure_rate is not None and live.unsure > live.answers * policy.max_unsure_rate
    return live.bad > live.calls * policy.max_bad_rate or slow or unsure


def _thin(live: LiveEvidence, policy: TrialPolicy) -> Reason:
    words = f"after {live.seconds:.0f} s: {live.calls} calls in {live.served_seconds:.0f} s, {live.bad} bad"
    wanted = f"wanted {policy.min_calls} calls in {policy.min_seconds:.0f} s at the tolerated rates"
    return _reason(f"too little evidence {words}; {wanted}; the policy says {policy.on_thin_evidence}")


def _rate(what: str, events: int, calls: int, tolerated: float) -> str:
    return f"{events} of {calls} calls were {what} ({events / calls:.2%}); {tolerated:.2%} is tolerated"


def _reason(message: str) -> Reason:
    return Reason(code="trial-evidence", message=message, hint="Fix the model; it is quarantined here.", permanent=True)


def _figures(live: LiveEvidence, policy: TrialPolicy) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "calls": live.calls,
        "bad": live.bad,
        "slow": live.slow,
        "answered_by_good": live.answered_by_good,
        "seconds": round(live.seconds, 1),
        "served_seconds": round(live.served_seconds, 1),
        "apps": list(live.apps),
        "alpha": policy.alpha,
        "log_e_bad": _finite(log_evidence(live.calls, live.bad, policy.max_bad_rate)),
    }
    if policy.slow_ms is not None:
        figures["log_e_slow"] = _finite(log_evidence(live.calls, live.slow, policy.max_slow_rate))
    if policy.max_unsure_rate is not None:
        log_e = _finite(log_evidence(live.answers, live.unsure, policy.max_unsure_rate))
        figures |= {"answers": live.answers, "unsure": live.unsure, "log_e_unsure": log_e}
    if live.went_down:
        figures["went_down"] = live.went_down
    if live.misfits:
        figures["misfits"] = dict(sorted(live.misfits.items()))
    if live.crashes:
        figures["crashes"] = dict(sorted(live.crashes.items()))
    return figures


def _finite(value: float) -> float | str:
    return round(value, 3) if math.isfinite(value) else str(value)
