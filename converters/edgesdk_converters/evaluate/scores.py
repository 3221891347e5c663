"""Every metric that can gate, as scores of chosen samples: that is what paired tests and resampling need.

A metric that is a mean of one score per sample (accuracy, MAE, …) says so by `Scored.samples`; any other (F1, AUC,
RMSE, …) is a function of a set of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.evaluate.classwise import ClassFigure, Figure
from edgesdk_converters.evaluate.metrics import decide

Outputs = dict[str, NDArray[Any]]
"""By contract output, ``(N, *shape)``."""
Rows = NDArray[np.int64]
Value = Callable[[Rows], float]
CHUNK = 64
"""Rows that are widened to float64 at once: outputs may be pictures."""
NO_CLASS = -1
"""Stands in a row of classes where there is none to compare, for example after the end of a sequence."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One model's metric on N samples.

    Attributes:
        value: The metric on chosen rows; a row may be chosen more than once.
        samples: float64 [N], of which the metric is the mean; None if it is no mean.
        of_classes: What it is an average over classes of; None if it is no such figure.
    """

    value: Value
    samples: NDArray[np.float64] | None = None
    of_classes: ClassFigure | None = None


def mean_of(samples: NDArray[Any]) -> Scored:
    """Return the metric that is the mean of `samples` [N]; what is not finite counts as NaN."""
    kept = samples.astype(np.float64)
    return Scored(value=lambda rows: float(np.mean(kept[rows])), samples=kept)


def right_answers(scores: NDArray[Any], truth: NDArray[np.int64]) -> Scored:
    """Score 1 where the largest of `scores` [N, classes] is that of `truth` [N]: accuracy."""
    return mean_of(decide(scores) == truth)


def exact_matches(outputs: Outputs, truth: NDArray[np.int64]) -> Scored:
    """Score 1 where every answered class of a sample is right; `truth` [N, K] counts over all outputs, in order.

    Raises:
        ValueError: If the outputs do not answer K classes.
    """
    answers = answered_classes(outputs)
    if answers.shape != truth.shape:
        raise ValueError(f"expected y of shape {answers.shape}, the classes that the model answers, got {truth.shape}")
    return mean_of(((answers == truth) | (truth == NO_CLASS)).all(axis=1))


def answered_classes(outputs: Outputs) -> NDArray[np.int64]:
    """Return int64 [N, K]: the class of each position of each output, in order; its last axis is the classes."""
    columns = []
    for values in outputs.values():
        scores = values.reshape(len(values), -1, values.shape[-1])
        columns.append(np.stack([decide(scores[:, k]) for k in range(scores.shape[1])], axis=1))
    return np.concatenate(columns, axis=1)


def averaged(scores: NDArray[Any], truth: NDArray[np.int64], classes: int, figure: Figure, *, weighted: bool) -> Scored:
    """Return ``precision``, ``recall`` or ``f1``, averaged over the classes that occur, plainly or by their size.

    Raises:
        ValueError: If `truth` holds a class that there is not.
    """
    if truth.size and truth.max() >= classes:
        raise ValueError(f"expected classes 0..{classes - 1}, got {truth.max()}")
    found = ClassFigure(answers=decide(scores), truth=truth, classes=classes, figure=figure, weighted=weighted)

    def value(rows: Rows) -> float:
        return float(found.of(np.bincount(rows, minlength=len(truth)).astype(np.float64)[np.newaxis])[0])

    return Scored(value=value, of_classes=found)


def area_under_curve(scores: NDArray[Any], truth: NDArray[np.int64]) -> Scored:
    """Return the area under the ROC curve: of class 1 for two classes (or one score), else one-vs-rest, macro."""
    finite = np.where(np.isfinite(scores), scores, -np.inf)
    if finite.shape[1] <= 2:  # noqa: PLR2004 - two classes: either tells the other
        return Scored(value=lambda rows: _area(finite[rows, -1], truth[rows] == 1))

    def value(rows: Rows) -> float:
        chosen, classes = truth[rows], range(finite.shape[1])
        return float(np.nanmean([_area(finite[rows, index], chosen == index) for index in classes]))

    return Scored(value=value)


def _area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return P(a positive scores above a negative), ties counting half (Mann & Whitney 1947); NaN without either."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    _values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[inverse][positive].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def absolute_error(outputs: NDArray[Any], truth: NDArray[np.float64]) -> Scored:
    """Return the mean absolute error over all elements; `outputs` and `truth` are ``(N, K)``."""
    return mean_of(np.abs(outputs - truth).mean(axis=1))


def root_of_squares(outputs: NDArray[Any], truth: NDArray[np.float64]) -> Scored:
    """Return the root of the mean squared error over all elements; `outputs` and `truth` are ``(N, K)``."""
    squares = np.square(outputs.astype(np.float64) - truth).mean(axis=1)
    return Scored(value=lambda rows: float(np.sqrt(np.mean(squares[rows]))))


def reproduced(outputs: Outputs, reference: Outputs) -> Scored:
    """Return the least share, over the outputs, of the reference's variance that is reproduced: ``1 - MSE / variance``.

    Not bounded below; an output of the reference that never varies counts as reproduced where it is equal.
    """
    parts = [_moments(values, reference[name]) for name, values in outputs.items()]

    def value(rows: Rows) -> float:
        return min(_share(errors[rows], means[rows], squares[rows]) for errors, means, squares in parts)

    return Scored(value=value)


def _moments(values: NDArray[Any], reference: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    """Return each row's mean squared difference, and mean and mean square of the reference; a few rows at a time."""
    found = []
    for start in range(0, len(values), CHUNK):
        ours, theirs = (_wide(each[start : start + CHUNK]) for each in (values, reference))
        found.append(
            np.stack([np.square(ours - theirs).mean(axis=1), theirs.mean(axis=1), np.square(theirs).mean(axis=1)])
        )
    errors, means, squares = np.concatenate(found, axis=1)
    return errors, means, squares


def _share(errors: NDArray[np.float64], means: NDArray[np.float64], squares: NDArray[np.float64]) -> float:
    error, variance = float(np.mean(errors)), float(np.mean(squares) - np.mean(means) ** 2)
    return 1 - error / variance if variance > 0 else float(error == 0)


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.reshape(len(values), -1).astype(np.float64)


def given(function: Callable[..., Any], outputs: Outputs, truth: NDArray[Any] | None) -> Scored:
    """Return a user's metric: ``function(outputs, labels)`` gives one score per sample, or one number for all.

    Raises:
        TypeError: If it gives neither.
    """
    first = np.asarray(function(outputs, truth))
    count = len(next(iter(outputs.values())))
    if first.dtype.kind not in "fiub" or first.shape not in {(), (count,)}:
        raise TypeError(f"expected a number or {count} numbers, one per sample, got {first.dtype} {first.shape}")
    if first.shape:
        return mean_of(first)

    def value(rows: Rows) -> float:
        chosen = {name: values[rows] for name, values in outputs.items()}
        return float(function(chosen, None if truth is None else truth[rows]))

    return Scored(value=value)


def column_spread(truth: NDArray[Any]) -> float:
    """Return the standard deviation of value labels, over all elements about each column's mean; 1 if there is none."""
    wide = _wide(truth)
    spread = float(np.sqrt(np.mean(np.square(wide - wide.mean(axis=0)))))
    return spread if spread > 0 else 1.0


def all_finite(outputs: Outputs, names: Sequence[str]) -> NDArray[np.bool_]:
    """Say for each sample whether the named outputs are finite."""
    each = [np.isfinite(outputs[name]).reshape(len(outputs[name]), -1).all(axis=1) for name in names]
    return np.all(each, axis=0)  # type: ignore[no-any-return]  # numpy
