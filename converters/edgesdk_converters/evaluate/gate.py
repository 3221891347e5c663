"""The accuracy gate: may this artifact stand for its source? Exact paired tests on the same samples (`edgesdk.stats`).

- *refuse*: the samples show a loss above `max_drop`, or the artifact answers NaN or infinity;
- *pass*: the samples show that the loss is below `max_drop`;
- *not enough data*: neither is shown; about how many samples would decide is said.

Each of the first two is wrong with a probability of at most `alpha`, if the samples are independent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.stats import PairedVerdict, examples_needed, paired_difference_interval, paired_loss_test
from edgesdk_converters.evaluate.metrics import NO_ANSWER, agreement, decide

MAX_DROP = 0.02
ALPHA = 0.01
INTERVAL_ALPHA = 0.05


class Outcome(enum.StrEnum):
    """What the gate says."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    REFUSE = "refuse"
    NOT_ENOUGH_DATA = "not-enough-data"


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """The gate's word and the figures behind it.

    Attributes:
        outcome: The word.
        reason: One sentence with the figures, for people.
        paired: The exact tests on discordant samples.
        reference_accuracy: Accuracy of the source on the samples.
        artifact_accuracy: Accuracy of the artifact on the same samples.
        gain_interval: 95 % exact paired interval of artifact minus reference accuracy.
        agreement: Share of samples that both answer alike, right or wrong.
        non_finite: Samples for which the artifact answers NaN or infinity.
        needed: About how many samples would decide; None when decided, or when no number would.
    """

    outcome: Outcome
    reason: str
    paired: PairedVerdict
    reference_accuracy: float
    artifact_accuracy: float
    gain_interval: tuple[float, float]
    agreement: float
    non_finite: int
    needed: int | None = None


def accuracy_gate(
    reference: NDArray[np.floating[Any]],
    artifact: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    max_drop: float = MAX_DROP,
    alpha: float = ALPHA,
) -> GateVerdict:
    """Judge the artifact's outputs against the source's outputs, both [N, classes], on samples of class `truth` [N].

    Raises:
        ValueError: The shapes differ, there are no samples, or `max_drop` or `alpha` are impossible.
    """
    if len(truth) != len(artifact):
        raise ValueError(f"truth: expected {len(artifact)} samples, got {len(truth)}")
    same = agreement(reference, artifact)
    answers = decide(artifact)
    right_before, right_now = decide(reference) == truth, answers == truth
    wins, losses = int(np.sum(right_now & ~right_before)), int(np.sum(right_before & ~right_now))
    paired = paired_loss_test(wins, losses, len(truth), max_drop, alpha)
    non_finite = int(np.count_nonzero(answers == NO_ANSWER))
    outcome = _outcome(paired, non_finite)
    undecided = outcome is Outcome.NOT_ENOUGH_DATA
    needed = examples_needed(wins, losses, len(truth), max_drop, alpha) if undecided else None
    interval = paired_difference_interval(wins, losses, len(truth), INTERVAL_ALPHA)
    return GateVerdict(
        outcome=outcome,
        reason=_reason(outcome, paired, interval, non_finite, needed),
        paired=paired,
        reference_accuracy=float(np.mean(right_before)),
        artifact_accuracy=float(np.mean(right_now)),
        gain_interval=interval,
        agreement=same,
        non_finite=non_finite,
        needed=needed,
    )


def _outcome(paired: PairedVerdict, non_finite: int) -> Outcome:
    if non_finite or paired.shows_loss:
        return Outcome.REFUSE
    return Outcome.PASS if paired.shows_no_loss else Outcome.NOT_ENOUGH_DATA


def _reason(
    outcome: Outcome, paired: PairedVerdict, interval: tuple[float, float], non_finite: int, needed: int | None
) -> str:
    if non_finite:
        return f"the artifact answers NaN or infinity on {non_finite} of {paired.n} samples"
    figures = (
        f"accuracy changes by {-paired.loss:+.4f} (95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}) on "
        f"{paired.n} samples"
    )
    limit = f"allowed is a loss of {paired.margin:.4f}, alpha {paired.alpha:g}"
    if outcome is not Outcome.NOT_ENOUGH_DATA:
        return f"{figures}; {limit}"
    wanted = f"about {needed} samples would decide" if needed else "it is too near the limit for any number to decide"
    return f"{figures}; {limit}; {wanted}"
