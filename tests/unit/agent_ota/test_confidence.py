"""How confident a newcomer is, against the good generation in service: sketches, a threshold, an anytime-valid test."""

from __future__ import annotations

import random

import msgspec
import pytest
from edgesdk_agent.ota.evidence import EvidenceBook
from edgesdk_agent.ota.journal import Choice, Journal
from edgesdk_agent.ota.trial import REFERENCE
from edgesdk_agent.ota.trials import Trials
from edgesdk_agent.workers.messages import TargetFile

from edgesdk.generation import TrialPolicy
from edgesdk.protocol.evidence import Counters, Evidence
from edgesdk.protocol.messages import DesiredModel
from edgesdk.telemetry.sketches import DDSketch

GOOD, NEW = "a" * 64, "b" * 64
POLICY = TrialPolicy(min_seconds=0, min_calls=100, max_unsure_rate=0.3)


def journal(policy: TrialPolicy = POLICY) -> Journal:
    bundle = TargetFile(path="p", url="u", length=1, sha256="c" * 64)
    return Journal(
        model="m",
        state="trial",
        wanted=DesiredModel(release="2.0.0", deployment="d", policy=policy),
        choice=Choice(variant="v", bundle=bundle, generation=NEW),
    )


class Site:
    """A book, its trials, and two apps that draw their confidences."""

    def __init__(self, seed: int = 1) -> None:
        self.draw = random.Random(seed)
        self.book = EvidenceBook(lambda: 0.0, lambda _: True)
        self.trials = Trials(self.book, lambda: 0.0, "boot")
        self.seq = 0

    def say(self, generation: str, answers: int, *, shift: float = 0.0) -> None:
        """Let two apps answer so often each, this much less confident than usual."""
        for app in ("one", "two"):
            sketch = DDSketch()
            for _ in range(answers):
                sketch.add(max(0.01, self.draw.betavariate(8, 2) - shift))
            self.seq += 1
            self.book.take(
                Evidence(
                    v=1,
                    kind="counters",
                    app=app,
                    pid=1,
                    session=f"session-{app}",
                    seq=self.seq,
                    model="m",
                    generation=generation,
                    counters=Counters(calls=answers, confidence=sketch.to_dict()),
                )
            )


def verdict(
    site: Site, policy: TrialPolicy = POLICY, *, good: str | None = GOOD, shift: float = 0.0
) -> tuple[str, str]:
    trying = journal(policy)
    site.trials.begin(trying, good=good)
    site.say(NEW, 1000, shift=shift)
    found = site.trials.judge(trying)
    return found.kind, found.reason.message if found.reason else ""


def test_as_confident_as_the_good_one_is_committed() -> None:
    """Of 100 releases that are exactly as confident none is rolled back; with alpha 1 % one might be."""
    for seed in range(100):
        site = Site(seed)
        site.say(GOOD, REFERENCE)
        assert verdict(site) == ("commit", "")


def test_a_less_confident_one_is_rolled_back() -> None:
    """Where answers lose 0.2 of their confidence the trial ends, and says how many were unsure."""
    site = Site()
    site.say(GOOD, REFERENCE)
    kind, why = verdict(site, shift=0.2)
    assert kind == "rollback"
    assert "of 2000 calls were answers less confident than the good release's" in why


@pytest.mark.parametrize(
    ("policy", "good", "reference"),
    [
        (msgspec.structs.replace(POLICY, max_unsure_rate=None), GOOD, REFERENCE),
        (POLICY, None, REFERENCE),
        (POLICY, GOOD, REFERENCE // 4),
    ],
)
def test_nothing_is_judged_without_a_policy_or_a_reference(
    policy: TrialPolicy, good: str | None, reference: int
) -> None:
    """Unless the policy asks, and the good generation has answered often enough, confidence decides nothing."""
    site = Site()
    site.say(GOOD, reference)
    assert verdict(site, policy, good=good, shift=0.5)[0] == "commit"


def test_the_threshold_survives_a_restart() -> None:
    """It is journalled when the trial begins; what apps say anew after a restart is held to it."""
    site, trying = Site(), journal()
    site.say(GOOD, REFERENCE)
    progress = site.trials.begin(trying, good=GOOD)
    assert progress.unsure_below is not None
    again = Site(2)
    again.trials.resume(msgspec.structs.replace(trying, trial=progress), good=GOOD)
    again.say(NEW, 1000, shift=0.2)
    assert again.trials.judge(trying).kind == "rollback"


def test_below_counts_what_is_surely_below() -> None:
    """Never more than there are, and all but those within the sketch's accuracy."""
    sketch = DDSketch()
    values = [-2.0, -1.0, 0.0, 0.5, 0.9, 0.99, 1.0]
    for value in values:
        sketch.add(value)
    for limit in (-3.0, -1.5, -0.5, 0.25, 0.7, 0.95, 2.0):
        assert sketch.below(limit) == sum(value < limit for value in values)
    assert sketch.below(1.0) == 5  # 0.99 may be in the bin of 1.0
