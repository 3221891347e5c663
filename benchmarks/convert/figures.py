"""What an artifact's answers are worth beside the float model's, with a paired interval. Pure.

Samples are taken as independent. Neighbouring windows of one recording are not, so those intervals are too narrow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from edgesdk_converters.evaluate.bootstrap import bootstrap
from edgesdk_converters.evaluate.metrics import decide
from numpy.typing import NDArray

from convert.reading import right
from convert.zoo import Figure
from edgesdk.stats import clopper_pearson, paired_difference_interval

Outputs = dict[str, NDArray[Any]]
ALPHA, HALF, CELL_OUTPUTS = 0.05, 0.5, 2
"""Of the intervals; where a score means yes; the outputs whose cells count, from the first."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One artifact beside the float model, on the same samples.

    Attributes:
        value: Its figure.
        float_value: The float model's.
        difference: `value - float_value`; below zero is a loss.
        interval: 95 % interval of the difference.
        rmse: Root mean square error against the float model's outputs, that of the worst output.
        broken_rows: Samples that it answers with NaN or infinity.
        samples: Of the evaluation set.
    """

    value: float
    float_value: float
    difference: float
    interval: tuple[float, float]
    rmse: float
    broken_rows: int
    samples: int

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def compare(figure: Figure, reference: Outputs, found: Outputs, truth: NDArray[np.int64] | None) -> Compared:
    """Compare outputs by name, ``(N, …)`` each, in the contract's order."""
    score = SCORES[figure]
    value, float_value, interval = score(reference, found, truth)
    finite = np.all([np.isfinite(_flat(values)).all(axis=1) for values in found.values()], axis=0)
    errors = [_flat(values) - _flat(reference[name]) for name, values in found.items()]
    return Compared(
        value=value,
        float_value=float_value,
        difference=value - float_value,
        interval=interval,
        rmse=max(float(np.sqrt(np.mean(np.square(error[finite])))) if finite.any() else np.inf for error in errors),
        broken_rows=int(np.sum(~finite)),
        samples=len(finite),
    )


def _accuracy(reference: Outputs, found: Outputs, truth: NDArray[np.int64] | None) -> Any:
    assert truth is not None
    before, now = (decide(_flat(next(iter(outputs.values())))) == truth for outputs in (reference, found))
    return _paired(before, now)


def _paired(before: NDArray[np.bool_], now: NDArray[np.bool_]) -> Any:
    wins, losses = int(np.sum(now & ~before)), int(np.sum(before & ~now))
    interval = paired_difference_interval(wins, losses, len(now), ALPHA)
    return float(np.mean(now)), float(np.mean(before)), interval


def _decisions(reference: Outputs, found: Outputs, _truth: NDArray[np.int64] | None) -> Any:
    ours, theirs = (_flat(next(iter(outputs.values()))) for outputs in (found, reference))
    return _kept((np.isfinite(ours) & ((ours > HALF) == (theirs > HALF))).all(axis=1))


def _strings(reference: Outputs, found: Outputs, truth: NDArray[np.int64] | None) -> Any:
    assert truth is not None
    return _paired(right(reference, truth), right(found, truth))


def _kept(same: NDArray[np.bool_]) -> Any:
    low, high = clopper_pearson(int(same.sum()), len(same), ALPHA)
    return float(same.mean()), 1.0, (low - 1, high - 1)


def _cells(reference: Outputs, found: Outputs, _truth: NDArray[np.int64] | None) -> Any:
    hits, yes, wanted = np.zeros((3, len(next(iter(found.values())))))
    for name in list(found)[:CELL_OUTPUTS]:
        ours, theirs = _flat(found[name]) > HALF, _flat(reference[name]) > HALF
        hits, yes, wanted = hits + (ours & theirs).sum(1), yes + ours.sum(1), wanted + theirs.sum(1)

    def f1(rows: NDArray[np.int64]) -> float:
        return float(2 * hits[rows].sum() / max(1.0, yes[rows].sum() + wanted[rows].sum()))

    value = f1(np.arange(len(hits)))
    if (hits == yes).all() and (hits == wanted).all():
        return value, 1.0, (value - 1, value - 1)
    low, high = bootstrap(f1, len(hits)).interval(ALPHA)
    return value, 1.0, (low - 1, high - 1)


def _flat(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.reshape(len(values), -1).astype(np.float64)


SCORES = {"accuracy": _accuracy, "decisions": _decisions, "cells": _cells, "strings": _strings}


def median_ratio(times: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the median of ``times / base``, round by round, and its 95 % interval from order statistics."""
    ratios = np.sort(times / base)
    away = 0.98 * np.sqrt(len(ratios))  # half of 1.96 standard deviations of a binomial at one half
    low, high = int(np.floor(len(ratios) / 2 - away)), int(np.ceil(len(ratios) / 2 + away))
    return float(np.median(ratios)), float(ratios[max(0, low)]), float(ratios[min(len(ratios) - 1, high)])
