"""What the float model itself says: is it better, or surer, when a mistake is undone? Pure but for the model it asks.

It sees what no comparison of two sets can: a mistake that was made in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.stats import clopper_pearson, paired_loss_test
from edgesdk_converters.calibration.findings import Finding
from edgesdk_converters.calibration.statistics import SetStatistics, TensorStatistics
from edgesdk_converters.calibration.stories import Rows, Story, stories

ASKED = 128
BETTER = 0.1
"""Gain of accuracy that undoing must surely exceed."""
OFTEN = 0.75
"""Share of rows of which undoing must surely make the model surer; most rows of clean data are surer as they are."""

Right = NDArray[np.bool_]
Scores = NDArray[np.floating[Any]]
Model = Callable[[Rows], Scores]


def ask(
    name: str, tensor: TensorStatistics, labels: NDArray[np.int64] | None, model: Model, alpha: float
) -> Iterator[Finding]:
    """Yield the mistake whose undoing helps the model most, if one does.

    With labels accuracy is compared by an exact paired test, and a gain refuses. Without, confidence is compared by an
    exact sign test, only for orders of values, and a gain warns: confidence is no proof.

    Args:
        name: The input's.
        tensor: Statistics of the calibration data.
        labels: int64 [N] of all its rows, or None.
        model: Gives scores [n, classes] of rows ``(n, *sample)``.
        alpha: Error rate of each test.
    """
    rows = tensor.sample[:ASKED]
    if not len(rows):
        return
    plain = model(rows)
    truth = labels[tensor.sample_rows[:ASKED]] if labels is not None else None
    told: list[tuple[float, Finding]] = []
    for story in stories(tensor.spec, tensor):
        if story.undo is None or (truth is None and not story.reorders):
            continue
        undone = story.undo(rows)
        if np.array_equal(undone, rows):
            continue
        scores = model(undone)
        found = _surer(story, name, plain, scores, alpha) if truth is None else None
        if truth is not None:
            found = _better(story, name, plain.argmax(axis=1) == truth, scores.argmax(axis=1) == truth, alpha)
        if found is not None:
            told.append((found.evidence, found))
    if told:
        yield max(told, key=lambda item: item[0])[1]


def helped(data: SetStatistics, labels: NDArray[np.int64], model: Model) -> bool:
    """Say whether a model of one input is right on more rows once the contract's normalisation is taken back."""
    [tensor] = data.tensors.values()
    rows, truth = tensor.sample[:ASKED], labels[tensor.sample_rows[:ASKED]]
    undoing = [story.undo for story in stories(tensor.spec, tensor) if story.undo is not None and not story.reorders]
    before = np.sum(model(rows).argmax(axis=1) == truth)
    return any(np.sum(model(undo(rows)).argmax(axis=1) == truth) > before for undo in undoing)


def _better(story: Story, name: str, before: Right, after: Right, alpha: float) -> Finding | None:
    losses, wins = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    if not paired_loss_test(wins, losses, len(before), BETTER, alpha).shows_loss:
        return None
    gain = float(np.mean(after) - np.mean(before))
    what = f"{story.what}: the float model has {np.mean(before):.0%} right, and {np.mean(after):.0%} when it is undone"
    return _finding(story, name, what, ("gain of accuracy", gain, BETTER), refuse=True)


def _surer(story: Story, name: str, before: Scores, after: Scores, alpha: float) -> Finding | None:
    up = int(np.sum(after.max(axis=1) > before.max(axis=1)))
    share = clopper_pearson(up, len(before), 2 * alpha)[0]
    if share <= OFTEN:
        return None
    what = f"{story.what}: the float model is surer of {up} of {len(before)} rows when it is undone"
    return _finding(story, name, what, ("surely a share of", share, OFTEN), refuse=False)


def _finding(story: Story, name: str, what: str, number: tuple[str, float, float], *, refuse: bool) -> Finding:
    measure, evidence, threshold = number
    return Finding(
        code=story.code,
        severity="refuse" if refuse else "warn",
        what=what,
        where=f"input {name!r}",
        measure=measure,
        evidence=evidence,
        threshold=threshold,
        fix=story.fix + " If the evaluation data was made alike, correct both.",
    )
