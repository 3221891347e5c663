"""Ranges of activations: gathered from a stream of samples in constant memory, and chosen by rule. Pure.

Two walks over the data: the first finds the true minimum and maximum of each tensor, the second, which only the rules
``percentile`` and ``mse`` need, counts its values in bins between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ReleaseError
from edgesdk_converters.recipes import Ranges

BINS = 2048
CANDIDATES = 64
"""Limits that ``mse`` tries on either side, evenly spaced from the true one to near zero."""
_BOTTOM = np.float32(-3e38)
"""Below lies what graphs write into masks and paddings to mean minus infinity; it is no value to represent."""

Array = NDArray[np.float32]
Walk = Callable[[], Iterator[dict[str, Array]]]
"""Starts anew and yields the tensors of one sample after the other, by name."""


class Values(msgspec.Struct, kw_only=True):
    """What the values of one tensor were.

    Attributes:
        low: Smallest value.
        high: Largest value.
        counts: Values in each of `BINS` equal bins from `low` to `high`; empty if they were not counted.
    """

    low: float
    high: float
    counts: list[int] = []


def gather(walk: Walk, *, count: bool) -> dict[str, Values]:
    """Return what the values of each tensor were; memory does not grow with the number of samples.

    Args:
        walk: The samples.
        count: Whether values are counted too, for which the samples are walked again.

    Raises:
        ReleaseError: ``conversion-failed`` if a tensor holds NaN or plus infinity.
    """
    found: dict[str, Values] = {}
    for tensors in walk():
        for name, array in tensors.items():
            span = _span(name, array)
            if span is None:
                continue
            seen = found.setdefault(name, Values(low=span[0], high=span[1]))
            seen.low, seen.high = min(seen.low, span[0]), max(seen.high, span[1])
    if count:
        _count(walk, found)
    return found


def _span(name: str, array: Array) -> tuple[float, float] | None:
    if not array.size:
        return None
    low, high = array.min(), array.max()
    if low <= _BOTTOM and high > _BOTTOM:
        low = array[array > _BOTTOM].min()
    if np.isnan(low) or np.isnan(high) or high == np.inf:
        message = f"the float model gives NaN or infinity on the calibration data, in {name!r}"
        raise ReleaseError("conversion-failed", message)
    return (float(low), float(high)) if high > _BOTTOM else None


def _count(walk: Walk, found: dict[str, Values]) -> None:
    counts = {name: np.zeros(BINS, np.int64) for name in found}
    for tensors in walk():
        for name, array in tensors.items():
            if name in found and found[name].low < found[name].high:
                counts[name] += np.histogram(array, BINS, range=(found[name].low, found[name].high))[0]
    for name, values in found.items():
        values.counts = counts[name].tolist()


def choose(values: Values, rule: Ranges, *, percentile: float, bits: int, symmetric: bool) -> tuple[float, float]:
    """Return the range of one tensor by a rule; it always holds zero.

    Args:
        values: What was gathered; counted unless the rule is ``minmax``.
        rule: ``minmax``; ``percentile``, which cuts half of the rest at either end; or ``mse``, the range whose
            expected square error is least: that of the values beyond it, and scale² / 12 for each value within it.
        percentile: Percentage of values that ``percentile`` keeps at least.
        bits: Width of the integers, for ``mse``.
        symmetric: Whether the range will be made symmetric, for ``mse``.
    """
    low, high = min(values.low, 0.0), max(values.high, 0.0)
    if rule == "minmax" or not any(values.counts):
        return low, high
    edges = np.linspace(values.low, values.high, BINS + 1)
    counts = np.array(values.counts, np.float64)
    if rule == "percentile":
        return _percentile(edges, counts, percentile)
    return _least_error(edges, counts, bits, symmetric=symmetric)


def _percentile(edges: NDArray[np.float64], counts: NDArray[np.float64], percentile: float) -> tuple[float, float]:
    tail = counts.sum() * (100 - percentile) / 200
    below = np.cumsum(counts)
    above = np.cumsum(counts[::-1])[::-1]
    first = int(np.argmax(below > tail))
    last = BINS - 1 - int(np.argmax(above[::-1] > tail))
    return min(float(edges[first]), 0.0), max(float(edges[last + 1]), 0.0)


def _least_error(
    edges: NDArray[np.float64], counts: NDArray[np.float64], bits: int, *, symmetric: bool
) -> tuple[float, float]:
    low, high = min(float(edges[0]), 0.0), max(float(edges[-1]), 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    shrink = 1 - np.arange(CANDIDATES) / CANDIDATES
    lows, highs = low * shrink, high * shrink
    middles = (edges[:-1] + edges[1:]) / 2
    beyond_low = (counts * np.clip(lows[:, None] - middles, 0, None) ** 2).sum(axis=1)
    beyond_high = (counts * np.clip(middles - highs[:, None], 0, None) ** 2).sum(axis=1)
    # Zero is represented exactly, and after a ReLU it is half of all values: its bin is not rounded.
    rounded = counts[(edges[:-1] > 0) | (edges[1:] < 0)].sum()
    levels = 2**bits - 1
    if symmetric:
        best = int(np.argmin(beyond_low + beyond_high + rounded * (2 * highs / levels) ** 2 / 12))
        return float(lows[best]), float(highs[best])
    error = beyond_low[:, None] + beyond_high + rounded * ((highs - lows[:, None]) / levels) ** 2 / 12
    i, j = np.unravel_index(int(np.argmin(error)), error.shape)
    return float(lows[i]), float(highs[j])
