"""The accuracy gate: may this artifact stand for its source? Paired tests on the same samples (`evaluate.compare`).

- *refuse*: the samples show a loss above `max_drop`, or the artifact answers NaN or infinity;
- *pass*: the samples show that the loss is below `max_drop`;
- *not enough data*: neither is shown; about how many samples would decide is said.

Each of the first two is wrong with a probability of at most `alpha`, if the samples are independent; for metrics that
are no share of samples, about `alpha`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters import ALPHA, MAX_DROP
from edgesdk_converters.evaluate.catalogue import Case, Metric
from edgesdk_converters.evaluate.compare import ENOUGH, Method, Paired, Question, compare, is_yes_or_no
from edgesdk_converters.evaluate.looks import Look
from edgesdk_converters.evaluate.metrics import NO_ANSWER, decide
from edgesdk_converters.evaluate.scores import all_finite, column_spread, right_answers

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
        metric: What was compared.
        value: The artifact's metric on the samples.
        source_value: The source's.
        interval: 95 % paired interval of ``value - source_value``.
        loss: How much worse the artifact is, in `unit`.
        unit: What losses are counted in: 1, or the standard deviation of value labels.
        max_drop: The largest acceptable loss, in `unit`.
        alpha: The error rate of each of the two tests.
        samples: How many samples were judged.
        method: How.
        wins: Samples that only the artifact has right, where that is what is counted.
        losses: Samples that only the source has right.
        non_finite: Samples for which the artifact answers NaN or infinity.
        needed: About how many samples would decide; None when decided, or when no number would.
        look: Which look at the samples decided, counted from 1, and of how many; None if they were judged at once.
        greater: Whether more of the metric is better.
        share: Whether the metric is a share, so that 0.01 of it is a point; else it has a unit of its own.
    """

    outcome: Outcome
    reason: str
    metric: str
    value: float
    source_value: float
    interval: tuple[float, float]
    loss: float
    unit: float
    max_drop: float
    alpha: float
    samples: int
    method: Method
    wins: int | None = None
    losses: int | None = None
    non_finite: int = 0
    needed: int | None = None
    look: tuple[int, int] | None = None
    greater: bool = True
    share: bool = True


def judge_case(
    metric: Metric, source: Case, artifact: Case, *, max_drop: float, alpha: float = ALPHA, look: Look | None = None
) -> GateVerdict:
    """Judge an artifact's answers against its source's on the same samples.

    Args:
        metric: What counts.
        source: The float source's answers.
        artifact: The artifact's.
        max_drop: Largest acceptable loss: a share of samples, or of the standard deviation of value labels.
        alpha: Error rate of each test, over all looks.
        look: Which look this is, where samples come in instalments.

    Raises:
        ValueError: There are no samples, they do not determine the metric, or `max_drop` or `alpha` are impossible.
    """
    names = [spec.name for spec in artifact.contract.outputs]
    finite = all_finite(artifact.outputs, names)
    unit = column_spread(artifact.numbers()) if metric.relative else 1.0
    part = look.share if look is not None else 1.0
    question = Question(
        greater=metric.greater,
        unit=unit,
        margin=max_drop,
        alpha=alpha * part,
        interval_alpha=INTERVAL_ALPHA * part,
    )
    broken = int(np.count_nonzero(~finite))
    # A mean of classes takes NaN for wrong; other figures are those of the samples that have any.
    rows = np.arange(len(finite)) if metric.truth <= {"class", "classes"} else np.flatnonzero(finite)
    if not len(rows):
        return _nothing_finite(metric, max_drop, alpha, broken)
    before, now = (metric.score(_only(case, rows)) for case in (source, artifact))
    paired = compare(before, now, len(rows), question)
    share = metric.share or is_yes_or_no(now)
    verdict = _verdict(metric.name, paired, question, alpha=alpha, non_finite=broken, share=share)
    return replace(verdict, look=None if look is None else (look.number, look.of))


def of_itself(verdict: GateVerdict) -> GateVerdict:
    """Return the word on an artifact that is the source, in the same runtime: what few samples leave open is known."""
    if verdict.outcome is not Outcome.NOT_ENOUGH_DATA:
        return verdict
    reason = f"{verdict.metric} is the source's: the artifact is the source itself, in the same runtime"
    return replace(verdict, outcome=Outcome.PASS, reason=reason, needed=None)


def accuracy_gate(
    reference: NDArray[np.floating[Any]],
    artifact: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    max_drop: float = MAX_DROP,
    alpha: float = ALPHA,
) -> GateVerdict:
    """Judge the accuracy of outputs against the source's outputs, both [N, classes], on samples of class `truth` [N].

    Raises:
        ValueError: The shapes differ, there are no samples, or `max_drop` or `alpha` are impossible.
    """
    if len(truth) != len(artifact) or reference.shape != artifact.shape:
        raise ValueError(f"truth: expected {len(artifact)} samples, got {len(truth)}; reference {reference.shape}")
    question = Question(margin=max_drop, alpha=alpha)
    classes = truth.astype(np.int64)
    paired = compare(right_answers(reference, classes), right_answers(artifact, classes), len(truth), question)
    broken = int(np.count_nonzero(decide(artifact) == NO_ANSWER))
    return _verdict("accuracy", paired, question, alpha=alpha, non_finite=broken)


def _only(case: Case, rows: NDArray[np.int64]) -> Case:
    outputs, reference = (
        {name: values[rows] for name, values in each.items()} for each in (case.outputs, case.reference)
    )
    truth = None if case.truth is None else case.truth[rows]
    return Case(contract=case.contract, outputs=outputs, reference=reference, truth=truth)


def _verdict(
    metric: str, paired: Paired, question: Question, *, alpha: float, non_finite: int, share: bool = True
) -> GateVerdict:
    outcome = _outcome(paired, question.alpha, non_finite)
    needed = paired.needed if outcome is Outcome.NOT_ENOUGH_DATA else None
    return GateVerdict(
        outcome=outcome,
        reason=_broken(non_finite, max(paired.samples, non_finite))
        if non_finite
        else f"{metric} {_reason(outcome, paired, question, alpha=alpha, share=share)}",
        metric=metric,
        value=paired.value,
        source_value=paired.source_value,
        interval=paired.interval,
        loss=paired.loss,
        unit=question.unit,
        max_drop=question.margin,
        alpha=alpha,
        samples=paired.samples,
        method=paired.method,
        wins=paired.wins,
        losses=paired.losses,
        non_finite=non_finite,
        needed=needed,
        greater=question.greater,
        share=share,
    )


def _nothing_finite(metric: Metric, max_drop: float, alpha: float, broken: int) -> GateVerdict:
    return GateVerdict(
        outcome=Outcome.REFUSE,
        reason=_broken(broken, broken),
        metric=metric.name,
        value=0.0,
        source_value=0.0,
        interval=(0.0, 0.0),
        loss=0.0,
        unit=1.0,
        max_drop=max_drop,
        alpha=alpha,
        samples=broken,
        method="bootstrap",
        non_finite=broken,
        greater=metric.greater,
        share=metric.share,
    )


def _outcome(paired: Paired, alpha: float, non_finite: int) -> Outcome:
    if non_finite or paired.p_above <= alpha:
        return Outcome.REFUSE
    return Outcome.PASS if paired.p_below <= alpha else Outcome.NOT_ENOUGH_DATA


def _broken(non_finite: int, samples: int) -> str:
    return f"the artifact answers NaN or infinity on {non_finite} of {samples} samples"


def _reason(outcome: Outcome, paired: Paired, question: Question, *, alpha: float, share: bool) -> str:
    """Return the change, the limit and what is lacking; of a share in points, as everywhere that people read."""
    change, low, high = (
        f"{round(100 * each, 2) + 0.0:+.2f}" if share else f"{each:+.4f}"
        for each in (paired.value - paired.source_value, *paired.interval)
    )
    figures = f"changes by {change}{' points' if share else ''} (95 % interval {low} to {high})"
    figures = f"{figures} on {paired.samples} samples"
    points = 100 * question.margin
    limit = f"{points:g} point{'' if points == 1 else 's'}" if share else f"{question.margin:.4f}"
    if question.unit != 1:
        limit = f"{limit} standard deviations of the labels, {question.margin * question.unit:.4g}"
    limit = f"allowed is a loss of {limit}, alpha {alpha:.2g}"
    if outcome is not Outcome.NOT_ENOUGH_DATA:
        return f"{figures}; {limit}"
    if paired.needed is None:
        wanted = "it is too near the limit for any number to decide"
        least = ENOUGH[paired.method]
        wanted = f"at least {least} are needed" if paired.samples < least else wanted
    else:
        wanted = f"about {paired.needed} samples would decide"
    return f"{figures}; {limit}; {wanted}"
