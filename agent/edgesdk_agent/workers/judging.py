"""What testing decides, apart from how it runs a model: parity within tolerances, truth by a paired exact test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Tolerance
from edgesdk.contract import Contract
from edgesdk.stats import MIN_EXAMPLES, paired_loss_test
from edgesdk_agent.workers.messages import Judge, ParityResult, TruthResult, Verdict

Array = NDArray[Any]
Flags = NDArray[np.bool_]


def compare_parity(
    expected: Mapping[str, Array], found: Mapping[str, Array], tolerances: Mapping[str, Tolerance]
) -> ParityResult:
    """Compare outputs of shape ``(count, *shape)``; see `Tolerance` for the rule. NaN never passes.

    Raises:
        ValueError: If `found` lacks an output or has another shape.
    """
    share, largest, passed = 1.0, 0.0, True
    for name, want in expected.items():
        tolerance = tolerances[name]
        want64, got64 = want.astype(np.float64), found[name].astype(np.float64)
        if want64.shape != got64.shape:
            raise ValueError(f"output {name!r}: expected shape {want64.shape}, got {got64.shape}")
        with np.errstate(invalid="ignore"):
            difference = np.abs(got64 - want64)
            within = difference <= tolerance.absolute + tolerance.relative * np.abs(want64)
        mine = float(within.mean())
        passed = passed and mine >= tolerance.share
        share = min(share, mine)
        finite = difference[np.isfinite(difference)]
        largest = max(largest, float(finite.max()) if finite.size else 0.0)
    count = len(next(iter(expected.values())))
    return ParityResult(count=count, share=share, largest=largest, passed=passed)


def answered_label(contract: Contract, outputs: Mapping[str, Array]) -> str | None:
    """Return the label that a classification answers; None when its scores hold NaN or infinity."""
    scores = np.asarray(outputs[contract.outputs[0].name], np.float64).reshape(-1)
    if scores.size != len(contract.labels) or not np.isfinite(scores).all():
        return None
    return contract.labels[int(scores.argmax())]


def compare_labels(answers: Sequence[str | None], truth: Sequence[str]) -> Flags:
    """Say which answers are right, by label name."""
    return np.array([answer == label for answer, label in zip(answers, truth, strict=True)], np.bool_)


def judge_truth(judge: Judge, newcomer: Flags, reference: Flags | None, *, margin: float, alpha: float) -> TruthResult:
    """Judge a newcomer by labelled examples.

    Args:
        judge: Whose examples they are.
        newcomer: Which of them the newcomer gets right.
        reference: Which of them the other gets right: the incumbent, or what a release claims of itself; None if that
            is not known, and then nothing can be shown.
        margin: The largest acceptable loss, as a share of the examples.
        alpha: Probability with which a newcomer *at* the margin is refused wrongly.
    """
    n, score = len(newcomer), float(newcomer.mean())
    if reference is None:
        return TruthResult(
            judge=judge,
            n=n,
            wins=0,
            losses=0,
            newcomer_score=score,
            incumbent_score=None,
            p_value=None,
            verdict="weak",
        )
    wins, losses = int((newcomer & ~reference).sum()), int((reference & ~newcomer).sum())
    shown = paired_loss_test(wins, losses, n, margin, alpha)
    verdict: Verdict = "refused" if shown.shows_loss else ("weak" if n < MIN_EXAMPLES else "passed")
    return TruthResult(
        judge=judge,
        n=n,
        wins=wins,
        losses=losses,
        newcomer_score=score,
        incumbent_score=float(reference.mean()),
        p_value=shown.p_above,
        verdict=verdict,
    )


def not_comparable(judge: Judge) -> TruthResult:
    """Return the verdict of a judge whose examples the newcomer cannot take: none, and said so."""
    return TruthResult(
        judge=judge, n=0, wins=0, losses=0, newcomer_score=0.0, incumbent_score=None, p_value=None, verdict="weak"
    )
