"""From cumulative counters to what happened in an interval, and its summary for telemetry (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from edgesdk.errors import EdgeError
from edgesdk.protocol.evidence import Counters
from edgesdk.protocol.messages import ModelTelemetry
from edgesdk.telemetry.sketches import DDSketch

Slot = Literal["good", "trial", "other"]
_COUNTS = ("calls", "nan", "rejects", "slow", "answered_by_good")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one session said of one generation in an interval; `origin` is (backend, provider, sdk)."""

    model: str
    generation: str
    app: str
    counters: Counters
    origin: tuple[str, str, str]


def difference(now: Counters, before: Counters) -> Counters:
    """Return what `now` counts beyond `before`, both of one session and generation."""
    return Counters(
        errors=_less(now.errors, before.errors),
        classes=_less(now.classes, before.classes),
        latency_ms={
            split: sketch_difference(sketch, before.latency_ms.get(split)) for split, sketch in now.latency_ms.items()
        },
        confidence=sketch_difference(now.confidence, before.confidence) if now.confidence else None,
        **{name: max(getattr(now, name) - getattr(before, name), 0) for name in _COUNTS},
    )


def sketch_difference(now: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """Return the sketch of the values that `now` holds beyond `before` (dicts of `DDSketch.to_dict`), bin by bin.

    `min` and `max` stay those of `now`: bounds of the interval's values, not attained ones.
    """
    try:
        return _sketch_difference(now, before) if before and now["count"] >= before["count"] else now
    except (KeyError, TypeError, ValueError):
        return now  # no sketch of ours; `summarise` leaves it out


def _sketch_difference(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    bins = {sign: _fewer_bins(now[sign], before[sign]) for sign in ("positive", "negative")}
    zero = max(now["zero"] - before["zero"], 0)
    count = zero + sum(held for sign in bins.values() for _, held in sign)
    left = {**now, **bins, "zero": zero, "count": count}
    if not count:
        return {key: value for key, value in left.items() if key not in {"sum", "min", "max"}}
    return {**left, "sum": now["sum"] - before.get("sum", 0.0)}


def _fewer_bins(now: Any, before: Any) -> list[list[int]]:
    had: dict[int, int] = dict(before)
    left = [[index, count - had.get(index, 0)] for index, count in now]
    return [each for each in left if each[1] > 0]


def _less(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    left = {name: count - before.get(name, 0) for name, count in now.items()}
    return {name: count for name, count in left.items() if count > 0}


def summarise(
    pieces: Iterable[Piece], describe: Callable[[str, str], tuple[str, Slot] | None]
) -> tuple[ModelTelemetry, ...]:
    """Put the pieces of each model, generation and app together.

    Args:
        pieces: Of one interval.
        describe: Gives a generation's release and slot; None if it is not known (any more): it is left out.
    """
    together: dict[tuple[str, str, str], ModelTelemetry] = {}
    for piece in pieces:
        key = (piece.model, piece.generation, piece.app)
        described = describe(piece.model, piece.generation)
        if described is None:
            continue
        start = ModelTelemetry(
            model=piece.model,
            generation=piece.generation,
            release=described[0],
            slot=described[1],
            app=piece.app,
            calls=0,
        )
        together[key] = _add(together.get(key, start), piece)
    return tuple(together[key] for key in sorted(together))


def _add(sum_: ModelTelemetry, piece: Piece) -> ModelTelemetry:
    more = piece.counters
    splits = {**sum_.latency_ms, **more.latency_ms}
    backend, provider, sdk = piece.origin
    return msgspec.structs.replace(
        sum_,
        errors=_more(sum_.errors, more.errors),
        classes=_more(sum_.classes, more.classes),
        latency_ms={
            split: merged
            for split in splits
            if (merged := _merged(sum_.latency_ms.get(split), more.latency_ms.get(split))) is not None
        },
        confidence=_merged(sum_.confidence, more.confidence),
        backend=backend or sum_.backend,
        provider=provider or sum_.provider,
        sdk=sdk or sum_.sdk,
        **{name: getattr(sum_, name) + getattr(more, name) for name in _COUNTS},
    )


def _more(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


def _merged(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Merge two sketches; what an app sent that is no sketch is left out."""
    merged: DDSketch | None = None
    for data in (one, other):
        try:
            sketch = DDSketch.from_dict(data) if data else None
            if merged is None:
                merged = sketch
            elif sketch is not None:
                merged.merge(sketch)
        except EdgeError:
            continue
    return merged.to_dict() if merged else None
