"""What was seen, what came twice and what is missing on one channel, by (device, run, seq); pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records of one run that are missing, `first` to `last` inclusive.

    Attributes:
        declared: The device itself said that it dropped them. Otherwise they may still come: a later record of the
            range is delivered as any other.
        channel: ``telemetry`` or ``event``: each has its own numbers.
    """

    device: str
    run: str
    first: int
    last: int
    declared: bool = False
    channel: str = "telemetry"


@dataclass(slots=True)
class _Stream:
    """Disjoint, sorted, inclusive ranges of what was seen or declared lost; `top` is the highest that was seen."""

    top: int | None = None
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def holds(self, seq: int) -> bool:
        at = bisect_right(self.starts, seq) - 1
        return at >= 0 and seq <= self.ends[at]

    def insert(self, first: int, last: int) -> None:
        """Add a range and join it with what it overlaps or touches."""
        low = bisect_right(self.ends, first - 2)
        high = bisect_right(self.starts, last + 1)
        if low < high:
            first, last = min(first, self.starts[low]), max(last, self.ends[high - 1])
        self.starts[low:high] = [first]
        self.ends[low:high] = [last]

    def missing_in(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the parts of a range that are not held."""
        parts = []
        for start, end in zip(self.starts, self.ends, strict=True):
            if end < first:
                continue
            if start > last:
                break
            if start > first:
                parts.append((first, start - 1))
            first = end + 1
        if first <= last:
            parts.append((first, last))
        return parts


class SequenceTracker:
    """Tells duplicates and gaps apart, in bounded memory: forgetting makes a duplicate, never a loss.

    Args:
        channel: Named in the gaps; a tracker is for one channel.
        max_streams: Runs of devices that are remembered; the one heard longest ago is forgotten.
        max_ranges: Disjoint ranges remembered for a run; the lowest is forgotten.
    """

    def __init__(self, *, channel: str = "telemetry", max_streams: int = 100_000, max_ranges: int = 1_000) -> None:
        self._channel = channel
        self._max_streams = max_streams
        self._max_ranges = max_ranges
        self._streams: OrderedDict[tuple[str, str], _Stream] = OrderedDict()

    def observe(self, device: str, run: str, seq: int) -> tuple[bool, list[Gap]]:
        """Note one record.

        Returns:
            Whether it is new, and what is missing between the highest `seq` seen of its run and this one. What a run
            sent before its first record seen here is not missing: the subscriber came later.
        """
        stream = self._stream(device, run)
        if stream.holds(seq):
            return False, []
        parts = stream.missing_in(stream.top + 1, seq - 1) if stream.top is not None else []
        stream.top = seq if stream.top is None else max(stream.top, seq)
        self._insert(stream, seq, seq)
        return True, [self._gap(device, run, part) for part in parts]

    def declare_lost(self, device: str, run: str, first: int, last: int) -> list[Gap]:
        """Note that the device dropped a range; returns the parts that were not seen or declared before.

        A range that ends before it begins says nothing. A declared record that comes all the same is dropped as a
        duplicate would be.
        """
        if first > last:
            return []
        stream = self._stream(device, run)
        parts = stream.missing_in(first, last)
        self._insert(stream, first, last)
        return [self._gap(device, run, part, declared=True) for part in parts]

    def _gap(self, device: str, run: str, part: tuple[int, int], *, declared: bool = False) -> Gap:
        first, last = part
        return Gap(device=device, run=run, first=first, last=last, declared=declared, channel=self._channel)

    def _insert(self, stream: _Stream, first: int, last: int) -> None:
        stream.insert(first, last)
        if len(stream.starts) > self._max_ranges:
            del stream.starts[0], stream.ends[0]

    def _stream(self, device: str, run: str) -> _Stream:
        stream = self._streams.setdefault((device, run), _Stream())
        self._streams.move_to_end((device, run))
        if len(self._streams) > self._max_streams:
            self._streams.popitem(last=False)
        return stream
