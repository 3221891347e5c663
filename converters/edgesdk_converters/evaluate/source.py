"""Is the float model itself any good on this data? Pure.

An artifact that loses nothing against a source that only guesses passes every comparison. Normalisation, layout,
colours or labels in the contract are then mostly not the training's, and every figure is worth nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters import ALPHA
from edgesdk_converters.evaluate.metrics import NO_ANSWER

LEAST_KAPPA = 0.05
"""Cohen's kappa, the share of the way from guessing to perfect: at or below it a model is no use, however surely so."""
LEAST_ROWS = 30
"""Below, the normal approximation says little, and the gate asks for more data anyway."""
Classes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """What is wrong with the answers of a float model.

    Attributes:
        right: Rows that it has right.
        rows: Of how many.
        expected: Rows that it would have right if its answers were dealt out at random.
        moved: Classes by name, and the class that it answers for most of their rows: labels in another order.
    """

    right: int
    rows: int
    expected: float
    moved: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """One sentence with the figures."""
        shares = f"{self.right / self.rows:.1%} of {self.rows} rows"
        if self.moved:
            pairs = ", ".join(f"{answer!r} for {name!r}" for name, answer in self.moved.items())
            return f"the float model mostly answers {pairs} (it is right on {shares}): the labels are in another order"
        return (
            f"the float model is right on {shares}, and guessing as often is right on {self.expected / self.rows:.1%}"
        )


def suspect(answers: Classes, truth: Classes, labels: Sequence[str]) -> Suspicion | None:
    """Say what is wrong with the answers, if that is shown.

    Args:
        answers: Answered class of each row, int64 [N]; `NO_ANSWER` for none.
        truth: Its class, int64 [N]; negative for none.
        labels: Names of the classes.

    Returns:
        None where nothing is shown, or there are too few rows or classes to show it.
    """
    known = truth >= 0
    answers, truth = answers[known], truth[known]
    if len(truth) < LEAST_ROWS or len(np.unique(truth)) == 1:
        return None
    right = int(np.count_nonzero(answers == truth))
    expected, deviation = at_random(answers, truth, len(labels))
    moved = _moved(answers, truth, labels)
    enough = expected + max(_quantile(ALPHA) * deviation, LEAST_KAPPA * (len(truth) - expected))
    if not moved and right > enough:
        return None
    return Suspicion(right=right, rows=len(truth), expected=expected, moved=moved)


def at_random(answers: Classes, truth: Classes, classes: int) -> tuple[float, float]:
    """Return mean and standard deviation of the rows that are right if the answers are shuffled among the rows.

    Hoeffding (1951), *A combinatorial central limit theorem*: the sum of ``a[k, p(k)]`` over a random permutation p has
    the variance ``sum of squares of a, centred by rows and columns, / (N - 1)``. Here ``a[k, l]`` is whether the
    answer of row l is the class of row k, so that rows of one class can be counted together.
    """
    rows = len(truth)
    of_truth = np.bincount(truth, minlength=classes + 1) / rows
    of_answers = np.bincount(np.where(answers == NO_ANSWER, classes, answers), minlength=classes + 1) / rows
    agree = np.eye(classes + 1)
    agree[classes, classes] = 0  # no answer is never right
    by_class, by_answer = agree @ of_answers, of_truth @ agree
    overall = float(of_truth @ by_class)
    centred = agree - by_class[:, None] - by_answer[None, :] + overall
    variance = rows**2 / (rows - 1) * float(of_truth @ np.square(centred) @ of_answers)
    return rows * overall, math.sqrt(max(variance, 0.0))


def _moved(answers: Classes, truth: Classes, labels: Sequence[str]) -> dict[str, str]:
    """Return classes that change places: more than half the rows of each are shown to get the name of another."""
    counts = np.bincount(truth, minlength=len(labels))
    alpha = ALPHA / len(labels)
    favourite: dict[int, int] = {}
    for name in np.flatnonzero(counts).tolist():
        given = answers[truth == name]
        often = np.bincount(given[given >= 0], minlength=len(labels))
        best = int(often.argmax())
        if best != name and often[best] > counts[name] / 2 + _quantile(alpha) * math.sqrt(counts[name]) / 2:
            favourite[name] = best
    while (names := set(favourite)) != (answered := set(favourite.values())):  # only whole circles are an order
        both = names & answered
        favourite = {name: best for name, best in favourite.items() if name in both and best in both}
    return {labels[name]: labels[best] for name, best in favourite.items()}


def _quantile(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha)
