"""One class, seen without labels: a classifier learned from the evaluation set's profiles is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgesdk.stats import clopper_pearson
from edgesdk_converters.calibration.findings import Finding
from edgesdk_converters.calibration.profile import CLIP, RIDGE, Profiler
from edgesdk_converters.calibration.statistics import SetStatistics

Classifier = Callable[[NDArray[np.float64]], NDArray[np.int64]]
LEAST_PER_CLASS = 8
CLEARLY_ABOVE = 0.3
HALF_WAY = 0.5


def one_class_unlabelled(
    data: SetStatistics, evaluation: SetStatistics, alpha: float, unchecked: list[str]
) -> Iterator[Finding]:
    """Find data that a classifier takes for one class about as often as rows that are all of that class.

    Half of the evaluation rows teach a linear classifier; the other half says how often it answers each class (`q`),
    and how often where that is right (`h`). Refused when the share of an answer is surely above ``(q + h) / 2``.
    """
    name, tensor = next(iter(evaluation.tensors.items()))
    if evaluation.labels is None or len(data.tensors) != 1 or not len(data.tensors[name].sample):
        unchecked.append("one class: neither set has labels")
        return
    labels = evaluation.labels[tensor.sample_rows]
    half = np.arange(len(labels)) % 2 == 0
    counts = np.bincount(labels[half], minlength=len(evaluation.class_names))
    known = np.flatnonzero(counts >= LEAST_PER_CLASS)
    if len(known) < 2:  # noqa: PLR2004 - with one class there is nothing to tell apart
        unchecked.append("one class: the evaluation set has too few rows of each class")
        return
    profiler = Profiler.of(tensor.sample, tensor.channel)
    real, rows = profiler(tensor.sample), profiler(data.tensors[name].sample)
    answers = _classifier(real[half], labels[half], known)
    test, truth, here = answers(real[~half]), labels[~half], answers(rows)
    for label in known.tolist():
        of_class = truth == label
        usual = float(np.mean(test == label))
        hit = float(np.mean(test[of_class] == label)) if of_class.any() else 0.0
        if hit - usual < CLEARLY_ABOVE:
            unchecked.append(f"one class: {evaluation.class_names[label]!r} cannot be told from its values")
            continue
        limit = usual + HALF_WAY * (hit - usual)
        share = float(np.mean(here == label))
        if clopper_pearson(int(np.count_nonzero(here == label)), len(here), 2 * alpha / len(known))[0] > limit:
            yield Finding(
                code="calibration-one-class",
                severity="refuse",
                what=f"most rows look like class {evaluation.class_names[label]!r}",
                where=f"input {name!r}",
                measure="share of rows",
                evidence=share,
                threshold=limit,
                fix="Take rows of every class; a folder per class was perhaps read only once.",
            )


def _classifier(rows: NDArray[np.float64], labels: NDArray[np.int64], known: NDArray[np.int64]) -> Classifier:
    means = np.stack([rows[labels == label].mean(axis=0) for label in known])
    within = rows - means[np.searchsorted(known, np.where(np.isin(labels, known), labels, known[0]))]
    within = within[np.isin(labels, known)]
    spread = np.maximum(within.std(axis=0), 1e-6)
    scaled = np.clip(within / spread, -CLIP, CLIP)
    shrunk = (1 - RIDGE) * scaled.T @ scaled / len(scaled) + RIDGE * np.eye(len(spread))
    weights = np.linalg.solve(shrunk, (means / spread).T)
    offsets = ((means / spread) * weights.T).sum(axis=1) / 2

    def answers(of: NDArray[np.float64]) -> NDArray[np.int64]:
        chosen: NDArray[np.int64] = known[np.argmax((of / spread) @ weights - offsets, axis=1)]
        return chosen

    return answers
