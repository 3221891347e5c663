"""Is there anything in the rows but noise? Rank correlations between values that lie apart and side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.calibration.findings import Finding, quantile
from edgesdk_converters.calibration.statistics import TensorStatistics

ANCHORS = 24
LEAST_PLACES = 4
LEAST_ROWS = 24
KEPT = 0.15
"""Calibration data must hold at least this part of the evaluation set's structure; rows of one class hold more."""
RESAMPLES = 24
_FIX = "Give recordings of real inputs: ranges of random numbers are not those of data."


@dataclass(frozen=True, kw_only=True)
class Structure:
    """How strongly values of one row depend on each other.

    Attributes:
        strength: Mean squared rank correlation over all pairs of places, less what chance gives.
        error: Its standard deviation if all places were independent.
    """

    strength: float
    error: float


def structure(table: NDArray[Any]) -> Structure:
    """Measure the columns of `table` [rows, places] against complete independence.

    Schott 2005, "Testing for complete independence in high dimensions" (Biometrika 92), on ranks, so that it does not
    matter how the values are distributed: with N = rows - 1 and p places the sum of squared correlations has mean
    ``p (p - 1) / (2 N)`` and variance ``p (p - 1) (N - 1) / (N² (N + 2))``.
    """
    return _of_ranks(np.stack([_ranks(column) for column in table.T], axis=1))


def _of_ranks(ranks: NDArray[np.float64]) -> Structure:
    rows, places = ranks.shape
    spread = ranks.std(axis=0)
    ranks = (ranks - ranks.mean(axis=0)) / np.where(spread > 0, spread, 1)
    squares = (ranks.T @ ranks / rows) ** 2
    pairs, n = places * (places - 1) / 2, rows - 1
    total = (squares.sum() - np.trace(squares)) / 2
    error = np.sqrt(2 * pairs * (n - 1) / (n**2 * (n + 2)))
    return Structure(strength=float((total - pairs / n) / pairs), error=float(error / pairs))


def noise(
    name: str, tensor: TensorStatistics, other: TensorStatistics | None, alpha: float, unchecked: list[str]
) -> Iterator[Finding]:
    """Find rows whose values do not depend on each other, where real ones do.

    With an evaluation set: they must hold `KEPT` of its structure, or as little as resamples of it of this size may
    hold by chance. Without one: they must not be consistent with complete independence, where neighbours are alike
    in real data; the columns of a table may well be independent.
    """
    if other is None and not _has_neighbours(tensor):
        unchecked.append(f"noise in {name!r}: columns may be independent of each other; it needs evaluation data")
        return
    places = _places(other if other is not None else tensor)
    rows = tensor.flat
    if len(places) < LEAST_PLACES or len(rows) < LEAST_ROWS:
        unchecked.append(f"noise in {name!r}: it needs {LEAST_ROWS} rows of {LEAST_PLACES} values that vary")
        return
    found = structure(rows[:, places])
    chance = quantile(alpha) * found.error
    if other is None:
        limit = chance
        what = "values of a row are independent of each other, as random numbers are"
    else:
        table = other.flat[:, places]
        expected = structure(table)
        if expected.strength * KEPT < quantile(alpha) * max(found.error, expected.error):
            unchecked.append(f"noise in {name!r}: the evaluation set's own values hardly depend on each other")
            return
        limit = min(KEPT * expected.strength, _least_by_chance(table, len(rows), alpha))
        what = "values of a row depend on each other far less than in the evaluation set, as in random numbers"
    if found.strength < limit:
        yield Finding(
            code="calibration-noise",
            severity="refuse",
            what=what,
            where=f"input {name!r}, {len(places)} places of each row",
            measure="mean squared rank correlation",
            evidence=found.strength,
            threshold=limit,
            fix=_FIX,
        )


def _has_neighbours(tensor: TensorStatistics) -> bool:
    """Say whether values lie side by side in space or time: along an axis of the layout that is no batch or channel.

    Without a layout, whether a sample is more than a row.
    """
    spec = tensor.spec
    if spec.layout is not None and len(spec.layout) == len(spec.shape):
        return any(axis not in "NC" and size != 1 for axis, size in zip(spec.layout, spec.shape, strict=True))
    return len(tensor.sample.shape[1:]) > 1


def _least_by_chance(table: NDArray[Any], rows: int, alpha: float) -> float:
    """Return what a clean set of `rows` rows holds at least, log-normally over resamples of the evaluation set."""
    rng = np.random.default_rng(0)
    ranks = np.stack([_ranks(column) for column in table.T], axis=1)  # ranks in a resample hardly differ from these
    drawn = [_of_ranks(ranks[rng.integers(0, len(table), rows)]).strength for _ in range(RESAMPLES)]
    logs = np.log(np.maximum(drawn, 1e-9))
    return float(np.exp(logs.mean() - quantile(alpha) * logs.std(ddof=1)))


def _places(tensor: TensorStatistics) -> NDArray[np.int64]:
    """Choose evenly spaced values of a row that vary, and the next one of each along every axis."""
    shape = tensor.sample.shape[1:]
    flat = tensor.flat
    if not flat.size or not shape:
        return np.zeros(0, np.int64)
    changes = np.count_nonzero(flat != np.median(flat, axis=0), axis=0)
    varies = changes >= max(2, len(flat) // 10)
    possible = np.flatnonzero(varies)
    if not len(possible):
        return possible
    anchors = possible[np.unique(np.linspace(0, len(possible) - 1, ANCHORS).astype(np.int64))]
    chosen = [anchors]
    index = np.array(np.unravel_index(anchors, shape))
    for axis, size in enumerate(shape):
        inside = index[axis] + 1 < size
        step = np.zeros((len(shape), 1), np.int64)
        step[axis] = 1
        chosen.append(np.ravel_multi_index(tuple((index + step)[:, inside]), shape))
    places = np.unique(np.concatenate(chosen))
    kept: NDArray[np.int64] = places[varies[places]]
    return kept


def _ranks(column: NDArray[Any]) -> NDArray[np.float64]:
    """Return average ranks: equal values share one."""
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[inverse]
    return ranks
