"""Quantiles of streams in little memory that merge over a fleet: DDSketch, in pure Python (no numpy on this path).

After Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (PVLDB 12,
2019). With relative accuracy a and g = (1 + a) / (1 - a), bin i counts the values in (g^(i-1), g^i] and answers
2 g^i / (g + 1), which is within a of each of them. Negative values have bins of their own, mirrored; what is near 0 is
counted as 0.
"""

from __future__ import annotations

import math
from typing import Any, Self

from edgesdk.errors import ContractError, LinkError

ENCODING = "ddsketch/1"
ACCURACY = 0.01
FINEST = 1e-6
MAX_BINS = 1024
"""Bins of each sign. 1024 bins of 1 % span a factor of 10⁸·⁹, for example 10 µs to two hours."""
SMALLEST = 1e-300
"""Magnitudes below count as 0: a float's relative precision ends there."""


class _Store:
    """Counts by bin index; beyond the limit the lowest bins become one."""

    def __init__(self, max_bins: int) -> None:
        self.bins: dict[int, int] = {}
        self._max_bins = max_bins

    def add(self, index: int, count: int) -> None:
        self.bins[index] = self.bins.get(index, 0) + count
        if len(self.bins) > self._max_bins:
            self._collapse()

    def _collapse(self) -> None:
        """Fold the lowest bins into the next: small magnitudes lose accuracy, high quantiles keep it."""
        ordered = sorted(self.bins)
        spare = ordered[: len(ordered) - self._max_bins]
        target = ordered[len(spare)]
        for index in spare:
            self.bins[target] += self.bins.pop(index)


class DDSketch:
    """A mergeable quantile sketch: every quantile is within `accuracy` of the exact one, relatively.

    The guarantee ends for the lowest quantiles when values span more than `max_bins` bins: those bins are folded.

    Args:
        accuracy: Relative error of a quantile, from 1e-6 to below 1.
        max_bins: Bins of each sign.

    Raises:
        ContractError: ``input-range`` when an argument is out of range.
    """

    def __init__(self, *, accuracy: float = ACCURACY, max_bins: int = MAX_BINS) -> None:
        if not FINEST <= accuracy < 1 or max_bins < 1:
            raise ContractError(
                "input-range", f"expected {FINEST} <= accuracy < 1 and bins >= 1, got {accuracy}, {max_bins}"
            )
        self.accuracy = accuracy
        self.max_bins = max_bins
        self._gamma = (1 + accuracy) / (1 - accuracy)
        self._log_gamma = math.log(self._gamma)
        self._positive = _Store(max_bins)
        self._negative = _Store(max_bins)
        self._zero = 0
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf

    def add(self, value: float, count: int = 1) -> None:
        """Count a value.

        Args:
            value: A finite number.
            count: How often, at least 1.

        Raises:
            ContractError: ``input-nan`` for NaN and infinities (count those yourself), ``input-range`` for a count < 1.
        """
        value = float(value)
        if not math.isfinite(value):
            raise ContractError("input-nan", f"a sketch takes finite values, got {value}")
        if count < 1:
            raise ContractError("input-range", f"expected a count of at least 1, got {count}")
        if abs(value) < SMALLEST:
            self._zero += count
        elif value > 0:
            self._positive.add(self._index(value), count)
        else:
            self._negative.add(self._index(-value), count)
        self.count += count
        self.sum += value * count
        self.min = min(self.min, value)
        self.max = max(self.max, value)

    def merge(self, other: DDSketch) -> None:
        """Take another sketch's counts in; the result is what one sketch of all values would be.

        Raises:
            ContractError: ``input-range`` when the accuracies differ.
        """
        if other.accuracy != self.accuracy:
            raise ContractError(
                "input-range", f"sketches of accuracy {self.accuracy} and {other.accuracy} do not merge"
            )
        for mine, theirs in ((self._positive, other._positive), (self._negative, other._negative)):
            for index, count in list(theirs.bins.items()):
                mine.add(index, count)
        self._zero += other._zero
        self.count += other.count
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def quantile(self, q: float) -> float | None:
        """Return the value of rank floor(q (count - 1)) within `accuracy`; None when the sketch is empty.

        Raises:
            ContractError: ``input-range`` unless 0 <= q <= 1.
        """
        if not 0 <= q <= 1:
            raise ContractError("input-range", f"expected a quantile in [0, 1], got {q}")
        if not self.count:
            return None
        rank = q * (self.count - 1)
        return min(max(self._at_rank(rank), self.min), self.max)

    def below(self, value: float) -> int:
        """Return how many values are surely below `value`: those whose whole bin is."""
        found = self._zero if value > 0 else 0
        found += sum(count for index, count in self._positive.bins.items() if self._edge(index) < value)
        return found + sum(count for index, count in self._negative.bins.items() if -self._edge(index - 1) <= value)

    def _at_rank(self, rank: float) -> float:
        seen = 0
        for index in sorted(self._negative.bins, reverse=True):
            seen += self._negative.bins[index]
            if seen > rank:
                return -self._value(index)
        seen += self._zero
        if seen > rank:
            return 0.0
        for index in sorted(self._positive.bins):
            seen += self._positive.bins[index]
            if seen > rank:
                return self._value(index)
        return self.max

    def _index(self, magnitude: float) -> int:
        return math.ceil(math.log(magnitude) / self._log_gamma)

    def _edge(self, index: int) -> float:
        """Return the largest magnitude of a bin."""
        try:
            return math.exp(index * self._log_gamma)
        except OverflowError:
            return math.inf

    def _value(self, index: int) -> float:
        try:
            return 2 * math.exp(index * self._log_gamma) / (self._gamma + 1)
        except OverflowError:
            return max(abs(self.min), abs(self.max))

    def to_dict(self) -> dict[str, Any]:
        """Return the sketch as JSON-able data, ``{"encoding": "ddsketch/1", …}``; bins as sorted ``[index, count]``."""
        data: dict[str, Any] = {
            "encoding": ENCODING,
            "accuracy": self.accuracy,
            "max_bins": self.max_bins,
            "count": self.count,
            "zero": self._zero,
            "positive": [[index, self._positive.bins[index]] for index in sorted(self._positive.bins)],
            "negative": [[index, self._negative.bins[index]] for index in sorted(self._negative.bins)],
        }
        if self.count:
            data |= {"sum": self.sum, "min": self.min, "max": self.max}
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a sketch that `to_dict` wrote, maybe on another machine.

        Raises:
            LinkError: ``message-invalid`` when it is not what `to_dict` writes.
        """
        try:
            return cls._rebuild(data)
        except (KeyError, TypeError, ValueError, OverflowError, ContractError) as error:
            raise LinkError("message-invalid", f"no {ENCODING} sketch: {error}") from error

    @classmethod
    def _rebuild(cls, data: dict[str, Any]) -> Self:
        if data["encoding"] != ENCODING:
            msg = f"expected encoding {ENCODING}, got {data['encoding']!r}"
            raise ValueError(msg)
        sketch = cls(accuracy=float(data["accuracy"]), max_bins=min(int(data["max_bins"]), MAX_BINS))
        for store, name in ((sketch._positive, "positive"), (sketch._negative, "negative")):
            if len(data[name]) > MAX_BINS:
                msg = f"{name} has {len(data[name])} bins; {MAX_BINS} is the most"
                raise ValueError(msg)
            for index, count in data[name]:
                store.add(_integer(index, low=-(2**31)), _integer(count, low=1))
        sketch._zero = _integer(data["zero"], low=0)
        counted = sum(sketch._positive.bins.values()) + sum(sketch._negative.bins.values()) + sketch._zero
        if counted != data["count"]:
            msg = f"the bins hold {counted} values, count says {data['count']}"
            raise ValueError(msg)
        sketch.count = counted
        if counted:
            sketch.sum, sketch.min, sketch.max = (float(data[name]) for name in ("sum", "min", "max"))
            if not (math.isfinite(sketch.sum) and -math.inf < sketch.min <= sketch.max < math.inf):
                msg = f"sum, min and max are {sketch.sum}, {sketch.min}, {sketch.max}"
                raise ValueError(msg)
        return sketch


def _integer(value: Any, *, low: int) -> int:
    if type(value) is not int or not low <= value < 2**53:
        msg = f"expected an integer of at least {low}, got {value!r}"
        raise ValueError(msg)
    return value
