"""How far one tensor is from another: sums over samples, so that memory does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

CAP_DB = 120.0
"""Signal-to-noise ratios above it are called it: the tensors are the same but for float32's rounding."""
_CHUNK = 64


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of an artifact's tensor against the float model's.

    Attributes:
        elements: How many numbers were compared.
        max_abs: Largest difference.
        rmse: Root of the mean squared difference.
        snr_db: ``10 log10(sum of squares of the float tensor / sum of squares of the difference)``.
        cosine: Cosine of the angle between them, over all elements.
        low: Least value of the float tensor.
        high: Greatest value of it.
    """

    elements: int
    max_abs: float
    rmse: float
    snr_db: float
    cosine: float
    low: float
    high: float

    @property
    def noise(self) -> float:
        """The ratio of powers of noise and signal: 0 for equal tensors, 1 where the noise is as large."""
        return 0.0 if self.snr_db >= CAP_DB else float(10 ** (-self.snr_db / 10))


class Differences:
    """Adds up differences of pairs of arrays; NaN and infinity of the artifact count as zero, and as a difference."""

    def __init__(self) -> None:
        self._count = 0
        self._signal = self._noise = self._other = self._product = 0.0
        self._worst, self._low, self._high = 0.0, math.inf, -math.inf

    def add(self, reference: NDArray[Any], other: NDArray[Any]) -> None:
        """Add one pair of arrays of equal shape.

        Raises:
            ValueError: If the shapes differ.
        """
        if reference.shape != other.shape:
            raise ValueError(f"expected equal shapes, got {reference.shape} and {other.shape}")
        if not reference.size:
            return
        ours, theirs = (np.nan_to_num(each.astype(np.float64), posinf=0, neginf=0) for each in (reference, other))
        apart = ours - theirs
        self._count += ours.size
        self._signal += float(np.sum(ours * ours))
        self._other += float(np.sum(theirs * theirs))
        self._product += float(np.sum(ours * theirs))
        self._noise += float(np.sum(apart * apart))
        self._worst = max(self._worst, float(np.max(np.abs(apart))))
        self._low, self._high = min(self._low, float(ours.min())), max(self._high, float(ours.max()))

    def figures(self) -> Difference | None:
        """Return the figures; None if nothing was added."""
        if not self._count:
            return None
        return Difference(
            elements=self._count,
            max_abs=self._worst,
            rmse=math.sqrt(self._noise / self._count),
            snr_db=_decibel(self._signal, self._noise),
            cosine=_cosine(self._product, self._signal, self._other),
            low=self._low,
            high=self._high,
        )


def compare_arrays(reference: NDArray[Any], other: NDArray[Any]) -> Difference | None:
    """Return the figures of one pair of arrays of equal shape, a few rows at a time."""
    sums = Differences()
    for start in range(0, len(reference), _CHUNK):
        sums.add(reference[start : start + _CHUNK], other[start : start + _CHUNK])
    return sums.figures()


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return CAP_DB
    if signal == 0:
        return -CAP_DB
    return min(CAP_DB, max(-CAP_DB, 10 * math.log10(signal / noise)))


def _cosine(product: float, first: float, second: float) -> float:
    length = math.sqrt(first * second)
    return min(1.0, max(-1.0, product / length)) if length > 0 else float(first == second)


def worst_noise(expected: Sequence[Sequence[NDArray[Any]]], found: Sequence[Sequence[NDArray[Any]]]) -> float:
    """Return the power of the noise at the output that suffers most, as a part of that of its signal.

    Args:
        expected: The outputs of each sample, in a fixed order; others than floats do not count.
        found: The same of an artifact.
    """
    worst = 0.0
    for place in range(len(expected[0])):
        sums = Differences()
        for before, after in zip(expected, found, strict=True):
            if before[place].dtype.kind == "f":
                sums.add(before[place], after[place])
        figures = sums.figures()
        worst = max(worst, figures.noise if figures is not None else 0.0)
    return worst
