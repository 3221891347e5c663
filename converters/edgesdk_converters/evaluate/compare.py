"""Two models on the same samples: how much worse is the second, and what do the samples show?

| scores | test and interval |
| --- | --- |
| 0 or 1 per sample | exact (`edgesdk.stats`) |
| a number per sample | t on the differences (Student 1908); approximate where they are far from normal |
| of classes (F1, precision, recall) | bounds by reweighting (`evaluate.reweighted`); seen to hold by simulation |
| of the whole set | BCa bootstrap (`evaluate.bootstrap`); approximate |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.stats import examples_needed, incomplete_beta, paired_difference_interval, paired_loss_test
from edgesdk_converters.evaluate.bootstrap import bootstrap
from edgesdk_converters.evaluate.classwise import ClassFigure
from edgesdk_converters.evaluate.reweighted import Reweighted, reweigh
from edgesdk_converters.evaluate.scores import Scored

Method = Literal["exact", "t", "reweighted", "bootstrap"]
ENOUGH: dict[Method, int] = {"exact": 1, "t": 30, "reweighted": 30, "bootstrap": 200}
"""Samples below which a method shows nothing. By weights it is the square of the number of classes, too: figures of
many classes of few samples are biased by more than their spread."""
_WIDE, _TINY = 1e300, 1e-12
STEP, MOST, SEARCHED = 1.15, 1000, 2000
"""Of the search for the number of samples that decides: its steps, its end in multiples, its draws."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of two metrics.

    Attributes:
        greater: Whether more is better.
        unit: What a loss is counted in; 1 for shares.
        margin: Largest acceptable loss, in that unit.
        alpha: Error rate of each one-sided test.
        interval_alpha: One minus the level of the interval.
    """

    greater: bool = True
    unit: float = 1.0
    margin: float
    alpha: float
    interval_alpha: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The answer.

    Attributes:
        samples: How many both models answered.
        value: The artifact's metric.
        source_value: The source's.
        interval: Of ``value - source_value``.
        loss: How much worse the artifact is, in the question's unit; negative when it is better.
        p_above: p-value of "the loss is at most the margin".
        p_below: p-value of "the loss is at least the margin".
        wins: Samples that only the artifact has right; None unless scores are 0 or 1.
        losses: Samples that only the source has right.
        needed: About how many samples would decide; None when decided, or when no number would.
    """

    method: Method
    samples: int
    value: float
    source_value: float
    interval: tuple[float, float]
    loss: float
    p_above: float
    p_below: float
    wins: int | None = None
    losses: int | None = None
    needed: int | None = None


def compare(source: Scored, artifact: Scored, count: int, question: Question) -> Paired:
    """Compare two models on `count` samples.

    Raises:
        ValueError: There are no samples, or they do not determine the metric.
    """
    if count == 0:
        raise ValueError("expected at least one sample")
    if source.of_classes is not None and artifact.of_classes is not None:
        return _by_weights(source.of_classes, artifact.of_classes, question)
    if source.samples is None or artifact.samples is None:
        return _by_bootstrap(source, artifact, count, question)
    if not question.greater or not _flags(source.samples) or not _flags(artifact.samples):
        return _by_t(source.samples, artifact.samples, question)
    return _exactly(source.samples > 0, artifact.samples > 0, question)


def is_yes_or_no(scored: Scored) -> bool:
    """Say whether every sample scores 0 or 1, so that the metric is a share of samples."""
    return scored.samples is not None and _flags(scored.samples)


def _flags(samples: NDArray[np.float64]) -> bool:
    return bool(np.isin(samples, (0.0, 1.0)).all())


def _exactly(before: NDArray[np.bool_], now: NDArray[np.bool_], question: Question) -> Paired:
    count = len(now)
    wins, losses = int(np.sum(now & ~before)), int(np.sum(before & ~now))
    test = paired_loss_test(wins, losses, count, question.margin, question.alpha)
    open_ = not test.shows_loss and not test.shows_no_loss
    return Paired(
        method="exact",
        samples=count,
        value=float(np.mean(now)),
        source_value=float(np.mean(before)),
        interval=paired_difference_interval(wins, losses, count, question.interval_alpha),
        loss=test.loss,
        p_above=test.p_above,
        p_below=test.p_below,
        wins=wins,
        losses=losses,
        needed=examples_needed(wins, losses, count, question.margin, question.alpha) if open_ else None,
    )


def _by_t(source: NDArray[np.float64], artifact: NDArray[np.float64], question: Question) -> Paired:
    differences = artifact - source
    count, mean = len(differences), float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    sign = -1 if question.greater else 1
    loss, spread = sign * mean / question.unit, error / question.unit
    p_above, p_below = _t_values(loss, spread, count, question.margin)
    reach = _t_quantile(1 - question.interval_alpha / 2, count - 1) * error if count > 1 else _WIDE
    return Paired(
        method="t",
        samples=count,
        value=float(np.mean(artifact)),
        source_value=float(np.mean(source)),
        interval=(mean - reach, mean + reach),
        loss=loss,
        p_above=p_above,
        p_below=p_below,
        needed=_needed(loss, spread * math.sqrt(count), (count, ENOUGH["t"]), question, min(p_above, p_below)),
    )


def _by_weights(source: ClassFigure, artifact: ClassFigure, question: Question) -> Paired:
    count, drawn = len(source.truth), reweigh(source, artifact)
    least = max(ENOUGH["reweighted"], drawn.classes**2)
    p_above, p_below = drawn.p_values(question.margin) if count >= least else (1.0, 1.0)
    open_ = min(p_above, p_below) > question.alpha
    return Paired(
        method="reweighted",
        samples=count,
        value=drawn.value,
        source_value=drawn.source_value,
        interval=drawn.interval(question.interval_alpha),
        loss=drawn.source_value - drawn.value,
        p_above=p_above,
        p_below=p_below,
        needed=_needed_by_weights(source, artifact, drawn, least, question) if open_ else None,
    )


def _needed_by_weights(
    source: ClassFigure, artifact: ClassFigure, drawn: Reweighted, least: int, question: Question
) -> int | None:
    """Return about how many samples decide if there are more of each kind alike; None if a thousand times do not."""
    count, z = len(source.truth), NormalDist().inv_cdf(1 - question.alpha)
    distance = max(abs(question.margin - drawn.source_value + drawn.value), _TINY)
    scale = max(1.0, least / count, 0.8 * (z * float(np.std(drawn.losses)) / distance) ** 2)
    while scale <= MOST:
        again = reweigh(source, artifact, scale=scale, draws=SEARCHED)
        if min(again.p_values(question.margin)) <= question.alpha:
            return max(count + 1, math.ceil(count * scale))
        scale *= STEP
    return None


def _by_bootstrap(source: Scored, artifact: Scored, count: int, question: Question) -> Paired:
    drawn = bootstrap(lambda rows: artifact.value(rows) - source.value(rows), count)
    every = np.arange(count)
    sign = -1 if question.greater else 1
    # The figure is value - source_value; the loss is its opposite where more is better.
    edge = sign * question.margin * question.unit
    falls = drawn.below(edge)
    p_above, p_below = (1 - falls, falls) if sign > 0 else (falls, 1 - falls)
    loss, spread = sign * drawn.estimate / question.unit, float(np.std(drawn.replicates)) / question.unit
    if spread == 0 or count < ENOUGH["bootstrap"]:
        p_above, p_below = _t_values(loss, spread, count, question.margin, least=ENOUGH["bootstrap"])
    return Paired(
        method="bootstrap",
        samples=count,
        value=artifact.value(every),
        source_value=source.value(every),
        interval=drawn.interval(question.interval_alpha),
        loss=loss,
        p_above=p_above,
        p_below=p_below,
        needed=_needed(loss, spread * math.sqrt(count), (count, ENOUGH["bootstrap"]), question, min(p_above, p_below)),
    )


def _t_values(loss: float, spread: float, count: int, margin: float, least: int = 30) -> tuple[float, float]:
    """Return the p-values of "the loss is at most" and "at least" the margin; `spread` is the standard error."""
    if count < least or math.isnan(loss):
        return 1.0, 1.0
    if spread == 0:
        return float(loss <= margin), float(loss >= margin)
    below = _t_below((loss - margin) / spread, count - 1)
    return 1 - below, below


def _t_below(t: float, freedom: int) -> float:
    """Return P(T <= t) for Student's t, by the incomplete beta function."""
    tail = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return 1 - tail if t > 0 else tail


def _t_quantile(p: float, freedom: int) -> float:
    low, high = 0.0, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < p else (low, middle)
    return low


def _needed(loss: float, deviation: float, sizes: tuple[int, int], question: Question, p: float) -> int | None:
    """Return about how many samples decide if the rates stay as they are.

    Args:
        loss: The observed one.
        deviation: Of one sample.
        sizes: How many samples there are, and the least that the method takes.
        question: The limit.
        p: The smaller p-value.
    """
    count, least = sizes
    distance = abs(question.margin - loss)
    if p <= question.alpha or distance == 0 or not math.isfinite(deviation):
        return None
    z = NormalDist().inv_cdf(1 - question.alpha)
    wanted = max(least, math.ceil((deviation * z / distance) ** 2 * 1.05), count + 1)
    return wanted if wanted <= MOST * count else None
