"""What testing decides, apart from how it runs a model.

Parity within tolerances, truth by a paired exact test, time by a sign test beside the incumbent, memory by its rise
from block to block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Tolerance
from edgesdk.contract import Contract
from edgesdk.stats import MIN_EXAMPLES, binomial_at_least, paired_loss_p_value
from edgesdk_agent.workers.messages import (
    GrowthResult,
    Judge,
    ParityResult,
    SlowdownResult,
    TruthResult,
    Verdict,
)

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
    p_value = paired_loss_p_value(wins, losses, n, margin, alpha)
    verdict: Verdict = "refused" if p_value <= alpha else ("weak" if n < MIN_EXAMPLES else "passed")
    return TruthResult(
        judge=judge,
        n=n,
        wins=wins,
        losses=losses,
        newcomer_score=score,
        incumbent_score=float(reference.mean()),
        p_value=p_value,
        verdict=verdict,
    )


def not_comparable(judge: Judge) -> TruthResult:
    """Return the verdict of a judge whose examples the newcomer cannot take: none, and said so."""
    return TruthResult(
        judge=judge, n=0, wins=0, losses=0, newcomer_score=0.0, incumbent_score=None, p_value=None, verdict="weak"
    )


def judge_slowdown(
    newcomer_ms: Sequence[float], incumbent_ms: Sequence[float], *, factor: float, alpha: float
) -> SlowdownResult:
    """Judge whether calls take more than `factor` times as long as the incumbent's.

    The sign test: pair i says *slower* when ``newcomer_ms[i] > factor * incumbent_ms[i]``. If the median ratio is at
    most `factor`, that is binomial with a probability of at most 1/2, so a newcomer exactly at the factor is refused
    with a probability of at most `alpha`, and one below it far more rarely. The two calls of a pair follow each other,
    so that what else the machine does falls on both; nothing is supposed of how times are distributed.

    Args:
        newcomer_ms: Times of the newcomer's calls.
        incumbent_ms: Times of the incumbent's, in pairs with them.
        factor: `TrialPolicy.max_slowdown`.
        alpha: The error rate.
    """
    ratios = np.asarray(newcomer_ms) / np.maximum(np.asarray(incumbent_ms), np.finfo(np.float64).tiny)
    slower = int((ratios > factor).sum())
    p_value = binomial_at_least(slower, len(ratios), 0.5)
    return SlowdownResult(
        pairs=len(ratios),
        slower=slower,
        ratio=float(np.median(ratios)),
        factor=factor,
        p_value=p_value,
        passed=p_value > alpha,
    )


def judge_growth(resident: Sequence[int], calls_per_block: int, *, limit: int, alpha: float) -> GrowthResult:
    """Judge whether memory grows with the calls.

    It is refused only if both hold: the mean growth exceeds `limit` bytes a call, and so many blocks ended higher than
    they began that a memory that goes up or down (or stays) by chance would with a probability of at most `alpha`
    (a sign test over blocks). An allocator that takes one large step and stays there passes.

    Args:
        resident: Resident bytes before the first block and after each.
        calls_per_block: Calls between two of them.
        limit: `TrialPolicy.max_growth_bytes`.
        alpha: The error rate.
    """
    steps = np.diff(np.asarray(resident, np.int64))
    calls = calls_per_block * len(steps)
    rising = int((steps > 0).sum())
    per_call = float(steps.sum() / calls)
    grows = per_call > limit and binomial_at_least(rising, len(steps), 0.5) <= alpha
    return GrowthResult(
        calls=calls, blocks=len(steps), rising=rising, bytes_per_call=per_call, limit=limit, passed=not grows
    )
