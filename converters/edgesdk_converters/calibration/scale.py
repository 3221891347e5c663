"""Do calibration values have the size of evaluation values? Medians with exact bounds, channel by channel. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.calibration.findings import Finding
from edgesdk_converters.calibration.statistics import TensorStatistics, by_channel

FACTOR = 4.0
"""The typical size of a channel may differ this much between the sets for natural reasons."""

MOST = 1e6
"""Ratios are not told apart beyond this."""
UNLIKE = 0.1
STANDARD = 0.2


def sizes(name: str, tensor: TensorStatistics, other: TensorStatistics, alpha: float) -> Iterator[Finding]:
    """Find the channel whose typical size is furthest beyond `FACTOR` times that of the evaluation set, or its inverse.

    A row's size in a channel is its largest absolute value there. Medians are compared by their exact
    distribution-free bounds, so `alpha` holds whatever the distribution.
    """
    if not len(tensor.sample) or not len(other.sample):
        return
    here, there = _sizes(tensor), _sizes(other)
    each = alpha / (4 * tensor.channels)
    worst: tuple[float, int, float] | None = None
    for channel in range(tensor.channels):
        low, high = median_bounds(here[:, channel], each)
        least, most = median_bounds(there[:, channel], each)
        larger, smaller = _ratio(low, most), _ratio(least, high)
        beyond = max(larger, smaller)
        if beyond > FACTOR and (worst is None or beyond > worst[0]):
            worst = beyond, channel, larger
    if worst is not None:
        yield _finding(name, tensor, other, worst[1], larger=worst[2] > FACTOR)


def raw_beside_standard(
    name: str, tensor: TensorStatistics, other: TensorStatistics, alpha: float
) -> Iterator[Finding]:
    """Find data whose channels have other places and widths than those of an evaluation set that is standardised.

    The distance of a channel is ``((median - median') / width')² + ln(width / width')²``, averaged over the channels;
    widths are between quartiles, the dashed ones of the evaluation set. The evaluation set's own distance from
    mean 0 and deviation 1 is what natural differences come to: four times it is tolerated.
    """
    own = float(np.mean(other.mean**2 + np.log(np.maximum(other.std, 1e-9)) ** 2))
    if own > STANDARD or not len(tensor.sample) or not len(other.sample):
        return
    here, there = (
        np.quantile(by_channel(each.sample, each.channel), (0.25, 0.5, 0.75), axis=0) for each in (tensor, other)
    )
    width, usual = here[2] - here[0], there[2] - there[0]
    known = (width > 0) & (usual > 0)
    if not known.any():
        return
    apart = ((here[1] - there[1])[known] / usual[known]) ** 2 + np.log(width[known] / usual[known]) ** 2
    limit = max(UNLIKE, 4 * own) + math.log(1 / alpha) / len(tensor.sample)
    if float(np.mean(apart)) > limit:
        yield Finding(
            code="calibration-not-normalised",
            severity="refuse",
            what="channels do not have mean 0 and deviation 1, which those of the evaluation set have",
            where=f"input {name!r}",
            measure="distance from the evaluation set's medians and widths",
            evidence=float(np.mean(apart)),
            threshold=limit,
            fix="Prepare the calibration data as the app prepares its inputs.",
        )


def median_bounds(values: NDArray[Any], alpha: float) -> tuple[float, float]:
    """Return order statistics that hold the median, each side wrong with probability at most `alpha`.

    The number of values below the median is binomial (n, 1/2); infinite bounds mean too few values. (David & Nagaraja,
    "Order Statistics", section 7.1.)
    """
    ordered, n = np.sort(values), len(values)
    total, k, all_ways = 0.0, 0, math.lgamma(n + 1) - n * math.log(2)
    while k < n:
        total += math.exp(all_ways - math.lgamma(k + 1) - math.lgamma(n - k + 1))
        if total > alpha:
            break
        k += 1
    return (float(ordered[k - 1]), float(ordered[n - k])) if k else (0.0, math.inf)


def _ratio(large: float, small: float) -> float:
    return large / max(small, large / MOST) if large > 0 else 0.0


def _sizes(tensor: TensorStatistics) -> NDArray[np.float64]:
    """Return [rows, channels], the largest absolute value of each row in each channel."""
    rows = np.abs(tensor.sample.astype(np.float64))
    if tensor.channel is None:
        return np.asarray(rows.reshape(len(rows), -1).max(axis=1, keepdims=True))
    moved = np.moveaxis(rows, 1 + tensor.channel, -1)
    return np.asarray(moved.reshape(len(rows), -1, tensor.channels).max(axis=1))


def _finding(name: str, tensor: TensorStatistics, other: TensorStatistics, channel: int, *, larger: bool) -> Finding:
    here, there = (float(np.median(_sizes(each)[:, channel])) for each in (tensor, other))
    code, word = "calibration-range", "larger" if larger else "smaller"
    if larger and _standard(other):
        code = "calibration-not-normalised"
    elif not larger and _standard(tensor) and not _standard(other):
        code = "calibration-double-normalised"
    return Finding(
        code=code,
        severity="refuse",
        what=f"values are far {word} than in the evaluation set: {here:g} against {there:g}",
        where=f"input {name!r}, channel {channel}",
        measure="ratio of the median sizes",
        evidence=_ratio(max(here, there), min(here, there)),
        threshold=FACTOR,
        fix="Prepare both sets as the app does: the same units, scaling and normalisation.",
    )


def _standard(tensor: TensorStatistics) -> bool:
    """Say whether the channels look normalised: about mean 0 and deviation 1, or within [-1, 1]."""
    within = tensor.low >= -1.0 and tensor.high <= 1.0
    centred = bool(np.median(np.abs(tensor.mean)) < 0.5 and 0.5 < np.median(tensor.std) < 2)  # noqa: PLR2004 - as said
    return within or centred
