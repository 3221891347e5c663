"""One pass over a data set, in memory that does not grow with it: what the doctor knows about the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract, TensorSpec
from edgesdk_converters.calibration.fingerprints import Fingerprints, row_hashes
from edgesdk_converters.data.npz import DataSet, class_names, has_batch

SAMPLE_ROWS = 1024
SAMPLE_VALUES = 8_000_000
SAMPLE_LEAST = 64
Array = NDArray[np.float32]


@dataclass(kw_only=True)
class TensorStatistics:
    """What one input looks like.

    Attributes:
        spec: What the contract says of it.
        channel: Axis of the channels within one sample; None if there is none.
        dtype: As stored.
        low: Smallest finite value; `high` the largest.
        not_finite: Rows with NaN or infinity; they count nowhere else.
        first_not_finite: The first of them.
        outside: Rows with a value outside the contract's range.
        first_outside: The first of them.
        blank: Rows in which every value is the same, where a row holds more than one.
        rows: Finite rows.
        mean: float64 [channels]; `std` likewise.
        channel_low: float64 [channels]; `channel_high` likewise.
        sample: float32 [m, *shape], finite rows of a random sample.
        sample_rows: int64 [m], which rows those are.
    """

    spec: TensorSpec
    channel: int | None
    dtype: str
    low: float = math.inf
    high: float = -math.inf
    not_finite: int = 0
    first_not_finite: int = -1
    outside: int = 0
    first_outside: int = -1
    blank: int = 0
    rows: int = 0
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    channel_low: NDArray[np.float64]
    channel_high: NDArray[np.float64]
    sample: Array
    sample_rows: NDArray[np.int64]

    @property
    def flat(self) -> Array:
        """The sample as float32 [m, values of a row]."""
        return self.sample.reshape(len(self.sample), math.prod(self.sample.shape[1:]))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class SetStatistics:
    """What a data set looks like.

    Attributes:
        count: Rows.
        tensors: By the contract's name of the input.
        rows: Which rows are equal.
        labels: int64 [count], or None.
        class_names: Of the labels.
    """

    count: int
    tensors: dict[str, TensorStatistics]
    rows: Fingerprints
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]

    @property
    def class_counts(self) -> dict[str, int] | None:
        """Rows by class; None without labels."""
        if self.labels is None:
            return None
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))


def collect(data: DataSet, *, seed: int = 0) -> SetStatistics:
    """Read a data set once.

    Raises:
        ConfigError: ``data-invalid`` if the file is damaged.
    """
    collectors = {spec.name: Collector(spec, data.count, seed=seed) for spec in data.contract.inputs}
    rows, first = Fingerprints(), 0
    for batch in data.batches():
        values = {name: array.astype(np.float32) for name, array in batch.items()}
        for name, array in batch.items():
            collectors[name].add(values[name], first, str(array.dtype))
        rows.add(row_hashes(values[name] for name in sorted(values)))
        first += len(next(iter(values.values())))
    return SetStatistics(
        count=data.count,
        tensors={name: collector.finish() for name, collector in collectors.items()},
        rows=rows,
        labels=data.labels,
        class_names=class_names(data.contract),
    )


def summarise(
    contract: Contract, arrays: dict[str, NDArray[Any]], labels: NDArray[np.int64] | None = None, *, seed: int = 0
) -> SetStatistics:
    """Return the statistics of arrays that are in memory, each of shape ``(N, *sample)``."""
    count = len(next(iter(arrays.values())))
    collectors = {spec.name: Collector(spec, count, seed=seed) for spec in contract.inputs}
    values = {name: array.astype(np.float32) for name, array in arrays.items()}
    for name, array in arrays.items():
        collectors[name].add(values[name], 0, str(array.dtype))
    rows = Fingerprints()
    rows.add(row_hashes(values[name] for name in sorted(values)))
    tensors = {name: collector.finish() for name, collector in collectors.items()}
    return SetStatistics(count=count, tensors=tensors, rows=rows, labels=labels, class_names=class_names(contract))


@dataclass
class Collector:
    """Takes the batches of one input, in order.

    Args:
        spec: The input.
        count: Rows that will come.
        seed: Of the random sample.
    """

    spec: TensorSpec
    count: int
    seed: int = 0
    _found: TensorStatistics | None = None
    _square: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _values: int = 0
    _parts: list[Array] = field(default_factory=list)
    _part_rows: list[NDArray[np.int64]] = field(default_factory=list)
    _wanted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def add(self, values: Array, first: int, dtype: str) -> None:
        """Take rows `first` and following, float32 ``(n, *sample)``."""
        found = self._found = self._found or self._begin(values.shape[1:], dtype)
        flat = values.reshape(len(values), -1)
        finite = np.isfinite(flat).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)
            found.first_not_finite = first + int(bad[0]) if found.not_finite == 0 else found.first_not_finite
            found.not_finite += len(bad)
        self._check_range(found, flat, finite, first)
        if finite.any():
            self._moments(found, values[finite])
            same = (flat[finite] == flat[finite, :1]).all(axis=1)
            found.blank += int(np.count_nonzero(same)) if flat.shape[1] > 1 else 0
        chosen = np.flatnonzero(finite & self._wanted[first : first + len(values)])
        self._parts.append(values[chosen])
        self._part_rows.append(first + chosen)

    def finish(self) -> TensorStatistics:
        """Return what was found.

        Raises:
            ValueError: No rows came.
        """
        if self._found is None:
            raise ValueError("expected at least one batch")
        found = self._found
        found.std = np.sqrt(self._square / max(1, self._values))
        found.sample = np.concatenate(self._parts)
        found.sample_rows = np.concatenate(self._part_rows)
        return found

    def _begin(self, shape: tuple[int, ...], dtype: str) -> TensorStatistics:
        channel = channel_of(self.spec, len(shape))
        channels = 1 if channel is None else shape[channel]
        wanted = max(SAMPLE_LEAST, min(SAMPLE_ROWS, SAMPLE_VALUES // max(1, math.prod(shape))))
        self._wanted = np.zeros(self.count, np.bool_)
        self._wanted[np.random.default_rng(self.seed).permutation(self.count)[:wanted]] = True
        self._square = np.zeros(channels)
        return TensorStatistics(
            spec=self.spec,
            channel=channel,
            dtype=dtype,
            mean=np.zeros(channels),
            std=np.zeros(channels),
            channel_low=np.full(channels, np.inf),
            channel_high=np.full(channels, -np.inf),
            sample=np.zeros((0, *shape), np.float32),
            sample_rows=np.zeros(0, np.int64),
        )

    def _check_range(self, found: TensorStatistics, flat: Array, finite: NDArray[np.bool_], first: int) -> None:
        if self.spec.range is None:
            return
        low, high = self.spec.range
        bad = np.flatnonzero(finite & ((flat < np.float32(low)) | (flat > np.float32(high))).any(axis=1))
        if len(bad):
            found.first_outside = first + int(bad[0]) if found.outside == 0 else found.first_outside
            found.outside += len(bad)

    def _moments(self, found: TensorStatistics, values: Array) -> None:
        """Merge means and squared deviations (Chan, Golub & LeVeque 1983, eq. 2.1)."""
        table = by_channel(values, found.channel).astype(np.float64)
        mean, count = table.mean(axis=0), len(table)
        total = self._values + count
        delta = mean - found.mean
        self._square += ((table - mean) ** 2).sum(axis=0) + delta**2 * self._values * count / total
        found.mean = found.mean + delta * count / total
        self._values = total
        found.rows += len(values)
        found.channel_low = np.minimum(found.channel_low, table.min(axis=0))
        found.channel_high = np.maximum(found.channel_high, table.max(axis=0))
        found.low, found.high = float(found.channel_low.min()), float(found.channel_high.max())


def channel_of(spec: TensorSpec, dimensions: int) -> int | None:
    """Return the axis of the channels within a sample: that of ``C`` in the layout; without a layout the last one."""
    if spec.layout is None:
        return dimensions - 1 if dimensions else None
    position = spec.layout.find("C") - (1 if has_batch(spec) else 0)
    return position if 0 <= position < dimensions else None


def by_channel(values: NDArray[Any], channel: int | None) -> NDArray[Any]:
    """Return `values` ``(n, *sample)`` as [values, channels]."""
    if channel is None:
        return values.reshape(-1, 1)
    return np.moveaxis(values, 1 + channel, -1).reshape(-1, values.shape[1 + channel])
