"""What happened with one generation in this session: noted without a lock, added up elsewhere.

A call appends one note to a deque, which is atomic and takes no lock; the watcher thread folds the notes into
cumulative counters and sketches.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from edgesdk.protocol.evidence import Counters
from edgesdk.runtime.session import Timings
from edgesdk.telemetry.sketches import DDSketch

SPLITS = ("total", "pre", "infer", "post")


@dataclass(frozen=True, slots=True)
class Note:
    """One call.

    Attributes:
        timings: Where its time went; None when it raised.
        error: Code of the error that it raised.
        nan: Whether its outputs held NaN or infinity.
        reject: Whether the contract refused its inputs, so that it never reached the artifact.
        by_good: Whether the good generation answered in its place.
        labels: The top class of each example, for classifications.
        confidences: Its score, for each example.
    """

    timings: Timings | None = None
    error: str | None = None
    nan: bool = False
    reject: bool = False
    by_good: bool = False
    labels: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()


class Ledger:
    """Cumulative counters of one generation in one session.

    Args:
        slow_ms: A call slower than this counts as slow; None: no call does.
    """

    def __init__(self, slow_ms: float | None) -> None:
        self._slow_ms = slow_ms
        self._notes: deque[Note] = deque()
        self.note = self._notes.append  # the whole cost of a call
        self._calls = self._nan = self._rejects = self._slow = self._by_good = 0
        self._errors: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()
        self._latency = {split: DDSketch() for split in SPLITS}
        self._confidence = DDSketch()

    def fold(self) -> bool:
        """Add up the notes so far (one thread only) and say whether there were any."""
        notes = [self._notes.popleft() for _ in range(len(self._notes))]
        for note in notes:
            self._fold(note)
        return bool(notes)

    def counters(self) -> Counters:
        """Return what was folded so far."""
        return Counters(
            calls=self._calls,
            errors=dict(self._errors),
            nan=self._nan,
            rejects=self._rejects,
            slow=self._slow,
            answered_by_good=self._by_good,
            latency_ms={split: sketch.to_dict() for split, sketch in self._latency.items() if sketch.count},
            confidence=self._confidence.to_dict() if self._confidence.count else None,
            classes=dict(self._classes),
        )

    def _fold(self, note: Note) -> None:
        if note.reject:
            self._rejects += 1
            return
        self._calls += 1
        self._nan += note.nan
        self._by_good += note.by_good
        if note.error is not None:
            self._errors[note.error] += 1
        if note.timings is not None:
            self._fold_timings(note.timings)
        self._classes.update(note.labels)
        for confidence in note.confidences:
            self._confidence.add(confidence)

    def _fold_timings(self, timings: Timings) -> None:
        if self._slow_ms is not None and timings.total_ms > self._slow_ms:
            self._slow += 1
        values = (timings.total_ms, timings.pre_ms, timings.infer_ms, timings.post_ms)
        for split, value in zip(SPLITS, values, strict=True):
            self._latency[split].add(value)
