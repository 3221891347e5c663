"""Precision, recall and F1, averaged over classes: of a sample, and of a sample whose rows weigh differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Figure = Literal["precision", "recall", "f1"]
FIGURES: tuple[Figure, ...] = get_args(Figure)
Weights = NDArray[np.float64]
"""[B, N]: B ways to weigh N rows."""


@dataclass(frozen=True, kw_only=True)
class ClassFigure:
    """A figure of one model's answers.

    Attributes:
        answers: int64 [N]: classes; negative where there is none.
        truth: int64 [N]: classes.
        classes: How many there are.
        weighted: Whether classes count by their size, not alike.
    """

    answers: NDArray[np.int64]
    truth: NDArray[np.int64]
    classes: int
    figure: Figure
    weighted: bool

    def of(self, weights: Weights) -> NDArray[np.float64]:
        """Return the figure [B]; a class that neither occurs nor is answered counts for nothing, as in scikit-learn."""
        each, support, answered = self.by_class(weights)
        shares = support if self.weighted else ((support + answered) > 0).astype(np.float64)
        return np.asarray(np.sum(each * shares, axis=1) / np.sum(shares, axis=1))

    def by_class(self, weights: Weights) -> tuple[Weights, Weights, Weights]:
        """Return the figure of each class, its weight in the truth and in the answers, each [B, classes]."""
        right = self.answers == self.truth
        hits = _sums(weights[:, right], self.truth[right], self.classes)
        support = _sums(weights, self.truth, self.classes)
        there = self.answers >= 0
        answered = _sums(weights[:, there], self.answers[there], self.classes)
        over = {"precision": answered, "recall": support, "f1": (answered + support) / 2}[self.figure]
        return np.divide(hits, over, out=np.zeros_like(hits), where=over > 0), support, answered


def _sums(weights: Weights, classes: NDArray[np.int64], count: int) -> Weights:
    """Return [B, count]: the weight of each class, where row i is of class `classes[i]`."""
    sums = np.zeros((len(weights), count))
    if classes.size:
        order = np.argsort(classes, kind="stable")
        found, starts = np.unique(classes[order], return_index=True)
        sums[:, found] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums
