"""A short description of each row: where its values lie along every axis, how large, how smooth. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.calibration.statistics import by_channel

BINS = 16
VECTOR_BINS = 64
RIDGE = 0.2
CLIP = 12.0
LARGEST = 1e6
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Profiler:
    """Makes profiles that can be compared: values are measured in the scale of the evaluation set.

    Attributes:
        channel: Axis of the channels within a sample.
        scale: float32 [channels], median size of the values that are not zero.
    """

    channel: int | None
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, sample: NDArray[np.float32], channel: int | None) -> Profiler:
        """Learn the scale from rows ``(m, *sample)``."""
        table = np.abs(by_channel(sample, channel))
        scale = np.array([np.median(column[column > 0]) if (column > 0).any() else 1.0 for column in table.T])
        return cls(channel=channel, scale=scale.astype(np.float32))

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return [m, features] of rows ``(m, *sample)``: means and mean squares along each axis, and roughness."""
        shape = [1] * rows.ndim
        if self.channel is not None:
            shape[1 + self.channel] = -1
        with np.errstate(over="ignore"):
            values = np.arcsinh(np.clip(rows / self.scale.reshape(shape), -LARGEST, LARGEST))
        parts: list[NDArray[Any]] = []
        axes = [axis for axis in range(1, values.ndim) if values.shape[axis] > 1]
        for axis in axes:
            others = tuple(other for other in range(1, values.ndim) if other != axis)
            bins = VECTOR_BINS if len(axes) == 1 else BINS
            parts += [_binned(values.mean(axis=others), bins), _binned((values**2).mean(axis=others), bins)]
        if len(axes) > 1:
            energy = values.reshape(len(values), -1).var(axis=1) + _TINY
            everything = tuple(range(1, values.ndim))
            for axis in axes:
                steps = (np.diff(values, axis=axis) ** 2).mean(axis=everything)
                parts.append(np.log(steps / energy + 1e-6)[:, None])
        flat = values.reshape(len(values), -1)
        parts = parts or [flat]
        table: NDArray[np.float64] = np.concatenate([part.reshape(len(values), -1) for part in parts], axis=1)
        return table.astype(np.float64)


def _binned(table: NDArray[Any], bins: int) -> NDArray[Any]:
    """Average neighbouring columns of [rows, n] until there are at most `bins`."""
    size = table.shape[1]
    if size <= bins:
        return table
    edges = np.linspace(0, size, bins + 1).astype(np.int64)
    return np.stack([table[:, a:b].mean(axis=1) for a, b in pairwise(edges)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Direction:
    """A linear discriminant between two kinds of rows (Fisher 1936), its covariance shrunk towards the diagonal.

    Attributes:
        centre: float64 [features]; `spread` likewise.
        weights: float64 [features]; positive scores speak for the second kind.
    """

    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def between(cls, first: NDArray[np.float64], second: NDArray[np.float64]) -> Direction:
        """Learn it from profiles [m, features] of both kinds."""
        a, b = first.mean(axis=0), second.mean(axis=0)
        centre = (a + b) / 2
        within = np.concatenate([first - a, second - b])
        spread = np.maximum(within.std(axis=0), 1e-3 * np.abs(b - a) + 1e-9)
        scaled = np.clip(within / spread, -CLIP, CLIP)
        covariance = scaled.T @ scaled / len(scaled)
        shrunk = (1 - RIDGE) * covariance + RIDGE * np.eye(len(a))
        return cls(centre=centre, spread=spread, weights=np.linalg.solve(shrunk, (b - a) / spread))

    def scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one number per row."""
        scaled = (rows - self.centre) / self.spread
        limit = CLIP + np.abs(self.weights)  # one wild value must not decide alone
        return np.clip(scaled, -limit, limit) @ self.weights
