"""Figures of a classifier on labelled samples, from its outputs. An answer with NaN or infinity counts as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.stats import clopper_pearson

NO_ANSWER = -1
MANY_CLASSES = 40
"""Above, a bundle and a page show what changed: tables of 1,000 by 1,000 classes fit into neither."""
SHOWN_CLASSES, SHOWN_PAIRS = 24, 20


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """Figures of one class.

    Attributes:
        label: Name of the class.
        support: Samples that are of this class.
        precision: Share of the answers "this class" that are right; 0 when there are none.
        recall: Share of the samples of this class that are found; 0 when there are none.
        recall_interval: 95 % Clopper-Pearson interval of it; it supposes independent samples.
        f1: Harmonic mean of precision and recall; 0 when both are 0.
    """

    label: str
    support: int
    precision: float
    recall: float
    recall_interval: tuple[float, float]
    f1: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Figures of one classifier on one labelled set.

    Attributes:
        n: Samples.
        correct: Samples answered rightly.
        accuracy: `correct / n`.
        accuracy_interval: 95 % Clopper-Pearson interval of the accuracy; it supposes independent samples.
        classes: One entry per label, in the order of the labels.
        confusion: `confusion[i][j]`: samples of class i answered j. Rows miss the samples without a finite answer.
        non_finite: Samples whose answer holds NaN or infinity.
    """

    n: int
    correct: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    non_finite: int


def decide(outputs: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the answered class of each row of `outputs` [N, classes], `NO_ANSWER` where it holds NaN or infinity.

    One score alone is the probability of class 1 of two.
    """
    alone = outputs.shape[-1] == 1
    answers = (outputs[..., 0] > 0.5 if alone else np.argmax(outputs, axis=-1)).astype(np.int64)  # noqa: PLR2004 - even
    answers[~np.isfinite(outputs).all(axis=-1)] = NO_ANSWER
    return answers


def classification_metrics(
    outputs: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]], labels: Sequence[str]
) -> Metrics:
    """Compute the figures from `outputs` [N, classes] and `truth` [N], indices into `labels`.

    Raises:
        ValueError: The shapes do not fit each other, there are no samples, or `truth` is no index into `labels`.
    """
    classes = len(labels)
    if outputs.shape != (len(truth), classes) and (classes, outputs.shape) != (2, (len(truth), 1)):
        raise ValueError(f"outputs: expected shape {(len(truth), classes)}, got {outputs.shape}")
    if len(truth) == 0:
        raise ValueError("expected at least one sample")
    if truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f"truth: expected 0..{classes - 1}, got {truth.min()}..{truth.max()}")
    answers = decide(outputs)
    answered = answers != NO_ANSWER
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (truth[answered], answers[answered]), 1)
    support = np.bincount(truth, minlength=classes)
    correct = int(np.trace(confusion))
    return Metrics(
        n=len(truth),
        correct=correct,
        accuracy=correct / len(truth),
        accuracy_interval=clopper_pearson(correct, len(truth)),
        classes=tuple(
            _of_class(label, int(confusion[i, i]), int(confusion[:, i].sum()), int(support[i]))
            for i, label in enumerate(labels)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        non_finite=int(np.count_nonzero(~answered)),
    )


def shortened(source: Metrics, artifact: Metrics) -> dict[str, dict[str, Any]]:
    """Return figures of many classes as plain data: those that lost most, and what is most often taken for what.

    Args:
        source: The float source's.
        artifact: The artifact's, on the same samples.

    Returns:
        By ``source`` and ``artifact`` the fields of `Metrics` with some `classes` (in the order of the labels), no
        `confusion`, `classes_in_all`, and ``confused``: ``[truth, answer, samples]``, the most frequent first.
    """
    lost = [
        before.support * (before.recall - now.recall)
        for before, now in zip(source.classes, artifact.classes, strict=True)
    ]
    kept = sorted(sorted(range(len(lost)), key=lambda i: (-lost[i], -source.classes[i].support, i))[:SHOWN_CLASSES])
    both = {"source": source, "artifact": artifact}
    return {name: _short(metrics, kept) for name, metrics in both.items()}


def _short(metrics: Metrics, kept: Sequence[int]) -> dict[str, Any]:
    matrix, labels = np.array(metrics.confusion), [each.label for each in metrics.classes]
    np.fill_diagonal(matrix, 0)
    worst = np.argsort(-matrix, axis=None, kind="stable")[:SHOWN_PAIRS]
    pairs = [divmod(int(place), len(labels)) for place in worst]
    return {
        **asdict(metrics),
        "classes": [asdict(metrics.classes[i]) for i in kept],
        "confusion": [],
        "classes_in_all": len(labels),
        "confused": [[labels[i], labels[j], int(matrix[i, j])] for i, j in pairs if matrix[i, j]],
    }


def agreement(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> float:
    """Return the share of rows for which two models answer the same class; a row without an answer never agrees.

    Raises:
        ValueError: The shapes differ, or there are no samples.
    """
    if first.shape != second.shape or len(first) == 0:
        raise ValueError(f"expected two equal, non-empty shapes, got {first.shape} and {second.shape}")
    ours, theirs = decide(first), decide(second)
    return float(np.mean((ours == theirs) & (ours != NO_ANSWER)))


def _of_class(label: str, hits: int, answered: int, support: int) -> ClassMetrics:
    precision = hits / answered if answered else 0.0
    recall = hits / support if support else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return ClassMetrics(
        label=label,
        support=support,
        precision=precision,
        recall=recall,
        recall_interval=clopper_pearson(hits, support),
        f1=f1,
    )
