"""What could have been done to the data by mistake? Each mistake is played on the evaluation set and compared. Pure.

A *story* is a mistake as a function on rows. If the calibration rows lie, along the discriminant between the evaluation
rows and the same rows after the mistake, significantly more than half way towards the mistake, the story is told. So a
natural difference between the sets (other people, other days) of up to half the mistake's size is tolerated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import TensorSpec
from edgesdk_converters.calibration.findings import Finding, quantile
from edgesdk_converters.calibration.profile import Direction, Profiler
from edgesdk_converters.calibration.statistics import TensorStatistics
from edgesdk_converters.data.npz import has_batch

Rows = NDArray[np.float32]
LEAST_ROWS = 32
PLAIN = 0.5
"""Separation, in standard deviations of one row, from which on a story refuses; below it only warns."""
VISIBLE = 0.3
"""Below this separation nobody could tell, and hardly anything is harmed."""
HALF_WAY = 0.5
COLOURS = 3
IMAGE_AXES = 3


@dataclass(frozen=True, kw_only=True)
class Story:
    """A mistake.

    Attributes:
        code: The finding's.
        what: What the data looks like.
        fix: What to do.
        play: Makes the mistake on rows ``(m, *sample)``.
        undo: Takes the mistake back; None where that is not asked for.
        reorders: It only moves values, so that it cannot make a model surer by making them larger.
    """

    code: str
    what: str
    fix: str
    play: Callable[[Rows], Rows]
    undo: Callable[[Rows], Rows] | None = None
    reorders: bool = False


def stories(spec: TensorSpec, evaluation: TensorStatistics) -> list[Story]:
    """Return the mistakes that are possible for an input."""
    return [*_orders(spec, evaluation), *_scales(spec, evaluation)]


def tell(
    name: str, tensor: TensorStatistics, evaluation: TensorStatistics, alpha: float, unchecked: list[str]
) -> Iterator[Finding]:
    """Yield the story that explains the calibration rows best, if one does."""
    if min(len(tensor.sample), len(evaluation.sample)) < LEAST_ROWS:
        unchecked.append(f"layout, colours and normalisation of {name!r}: it needs {LEAST_ROWS} rows in both sets")
        return
    profiler = Profiler.of(evaluation.sample, evaluation.channel)
    rows, real = profiler(tensor.sample), profiler(evaluation.sample)
    told: list[tuple[float, Finding]] = []
    for story in stories(tensor.spec, evaluation):
        played = story.play(evaluation.sample)
        if np.array_equal(played, evaluation.sample):
            continue
        judged = _compare(rows, real, profiler(played), alpha)
        if judged is None:
            unchecked.append(f"{story.code.removeprefix('calibration-')} of {name!r}: it would hardly show")
        elif judged.position - judged.error > HALF_WAY:
            told.append((judged.distance, _finding(story, name, judged)))
    if told:
        yield min(told, key=lambda item: item[0])[1]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Where rows lie: 0 is the evaluation set, 1 the story; `distance` from the story, `error` of the position."""

    position: float
    error: float
    separation: float
    distance: float


def _compare(
    rows: NDArray[np.float64], real: NDArray[np.float64], played: NDArray[np.float64], alpha: float
) -> _Judged | None:
    half = np.arange(len(real)) % 2 == 0
    direction = Direction.between(real[half], played[half])
    zero, one = direction.scores(real[~half]), direction.scores(played[~half])
    width = one.mean() - zero.mean()
    deviation = np.sqrt((zero.var() + one.var()) / 2)
    if width <= 0 or width < VISIBLE * deviation:
        return None
    here = direction.scores(rows)
    centre = (zero.mean() + one.mean()) / 2
    # Errors of the rows' mean and of the point half way, from rows that did not choose the direction.
    error = quantile(alpha) * np.sqrt(here.var() / len(here) + (zero.var() + one.var()) / (4 * len(zero)))
    spread = np.sqrt((real.var(axis=0) + played.var(axis=0)) / 2) + 1e-9
    return _Judged(
        position=float(HALF_WAY + (here.mean() - centre) / width),
        error=float(error / width),
        separation=float(width / max(deviation, 1e-12)),
        distance=float(np.mean(((rows.mean(axis=0) - played.mean(axis=0)) / spread) ** 2)),
    )


def _finding(story: Story, name: str, judged: _Judged) -> Finding:
    return Finding(
        code=story.code,
        severity="refuse" if judged.separation >= PLAIN else "warn",
        what=story.what,
        where=f"input {name!r}",
        measure="position between the evaluation set (0) and the mistake (1)",
        evidence=judged.position,
        threshold=HALF_WAY + judged.error,
        fix=story.fix,
    )


def _orders(spec: TensorSpec, evaluation: TensorStatistics) -> Iterator[Story]:
    shape = evaluation.sample.shape[1:]
    letters = (spec.layout or "")[1 if has_batch(spec) else 0 :]
    letters = letters if len(letters) == len(shape) else ""
    for order in _mistaken_orders(letters, len(shape)):
        other = "".join(letters[axis] for axis in order) if letters else f"axes in the order {order}"
        yield Story(
            code="calibration-layout",
            what=f"rows look as if they were stored as {other}, not as {letters or 'the contract says'}",
            fix=f"Transpose the data to {letters or 'the order of the contract'}; a reshape does not move values.",
            play=partial(_reordered, order=order),
            undo=partial(_restored, order=order),
            reorders=True,
        )
    colours = evaluation.channel is not None and shape[evaluation.channel] == COLOURS
    if colours and (spec.colour in {"RGB", "BGR"} or {"H", "W"} <= set(letters)):
        axis = 1 + (evaluation.channel or 0)
        wanted = spec.colour or "RGB"
        yield Story(
            code="calibration-colour",
            what=f"colours look like {wanted[::-1]}, not {wanted}",
            fix=f"Reverse the colour channels (OpenCV reads BGR): the contract says {wanted}.",
            play=lambda rows: np.flip(rows, axis=axis),
            undo=lambda rows: np.flip(rows, axis=axis),
            reorders=True,
        )


def _reordered(rows: Rows, *, order: tuple[int, ...]) -> Rows:
    return rows.transpose(0, *(1 + axis for axis in order)).reshape(rows.shape)


def _restored(rows: Rows, *, order: tuple[int, ...]) -> Rows:
    stored = rows.reshape(len(rows), *(rows.shape[1 + axis] for axis in order))
    return stored.transpose(0, *(1 + int(axis) for axis in np.argsort(order)))


def _mistaken_orders(letters: str, dimensions: int) -> list[tuple[int, ...]]:
    if dimensions == 2:  # noqa: PLR2004 - a table has one other order
        return [(1, 0)]
    if dimensions != IMAGE_AXES:
        return []
    if "C" not in letters:
        return [(2, 0, 1), (1, 2, 0), (1, 0, 2)]
    c = letters.index("C")
    first, second = (axis for axis in range(3) if axis != c)
    other_layout = (c, first, second) if c == IMAGE_AXES - 1 else (first, second, c)
    swapped = [0, 1, 2]
    swapped[first], swapped[second] = second, first
    return [other_layout, tuple(swapped)]


def _scales(spec: TensorSpec, evaluation: TensorStatistics) -> Iterator[Story]:
    shape = [1] * evaluation.sample.ndim
    if evaluation.channel is not None:
        shape[1 + evaluation.channel] = -1
    if spec.normalisation is not None and len(spec.normalisation.mean) in {1, evaluation.channels}:
        mean, std = (np.asarray(v, np.float32) for v in (spec.normalisation.mean, spec.normalisation.std))
        if len(mean) == evaluation.channels:
            mean, std = mean.reshape(shape), std.reshape(shape)
        yield _twice("the contract's normalisation", lambda rows: (rows - mean) / std, lambda rows: rows * std + mean)
    if evaluation.low >= 0 and evaluation.high > 16:  # noqa: PLR2004 - of 8 bits or more
        yield _twice("a division by 255", lambda rows: rows / np.float32(255))
        yield _twice("scaling to [-1, 1]", lambda rows: rows / np.float32(127.5) - np.float32(1))
    elif evaluation.low >= 0 and evaluation.high <= 1:
        yield _twice("a division by 255", lambda rows: rows / np.float32(255))
        yield _not("divided by 255", lambda rows: rows * np.float32(255))
    elif evaluation.low >= -1 and evaluation.high <= 1:
        yield _not("scaled to [-1, 1]", lambda rows: (rows + 1) * np.float32(127.5))


def _twice(name: str, play: Callable[[Rows], Rows], undo: Callable[[Rows], Rows] | None = None) -> Story:
    return Story(
        code="calibration-double-normalised",
        what=f"values look as if {name} had been applied to them already",
        fix="Give data in the app's units: the runtime applies the contract's normalisation itself.",
        play=play,
        undo=undo,
    )


def _not(name: str, play: Callable[[Rows], Rows]) -> Story:
    return Story(
        code="calibration-not-normalised",
        what=f"values look as if they had not been {name}, which the evaluation set was",
        fix="Prepare the calibration data as the app prepares its inputs.",
        play=play,
    )
