"""How much worse may one classifier's F1, precision or recall be than another's? Bounds from reweighted samples.

The samples are weighed by draws of the flat Dirichlet distribution, the Bayesian bootstrap (Rubin 1981, "The Bayesian
bootstrap", Annals of Statistics 9), and one sample is added that was not seen: for an upper bound of the loss it is the
worst that a sample can be, which the source has right and the artifact wrong, in the class where that costs most. So
samples in which nothing was lost are no proof that nothing can be. Where the figure is a share of samples, the bound is
that of Clopper & Pearson (1934): P(Beta(k + 1, n - k) >= p) = P(Binomial(n, p) <= k). For means of bounded numbers it
is the bound of Learned-Miller & Thomas (2019, "A new confidence interval for the mean of a bounded random variable").
F1 is no mean, so its error rate is seen by simulation (`docs/statistics.md`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.evaluate.classwise import ClassFigure
from edgesdk_converters.evaluate.metrics import NO_ANSWER

DRAWS = 10_000
SEED = 20_261_123
_AT_ONCE = 2_000_000
"""Weights that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Reweighted:
    """Draws of the loss and of the gain, each with the unseen sample that makes it larger; sorted.

    Attributes:
        value: The artifact's figure on the samples themselves.
        source_value: The source's.
        classes: How many occur or are answered.
        losses: float64 [B]: the source's figure less the artifact's.
        gains: float64 [B]: the artifact's figure less the source's.
    """

    value: float
    source_value: float
    classes: int
    losses: NDArray[np.float64]
    gains: NDArray[np.float64]

    def p_values(self, margin: float) -> tuple[float, float]:
        """Return the p-values of "the loss is at most `margin`" and "the loss is at least `margin`"."""
        return _share_from(self.gains, -margin), _share_from(self.losses, margin)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the ``1 - alpha`` interval of the artifact's figure less the source's."""
        low, high = (float(np.quantile(each, 1 - alpha / 2)) for each in (self.losses, self.gains))
        return -low, high


def reweigh(source: ClassFigure, artifact: ClassFigure, *, scale: float = 1.0, draws: int = DRAWS) -> Reweighted:
    """Reweigh the samples that both figures are of.

    Args:
        source: The source's figure.
        artifact: The artifact's, on the same samples.
        scale: As if there were so many times as many samples of each kind.
        draws: How many.
    """
    kinds, counts = np.unique(np.stack([source.truth, source.answers, artifact.answers]), axis=1, return_counts=True)
    before, now = (replace(each, truth=kinds[0], answers=kinds[i]) for i, each in ((1, source), (2, artifact)))
    seen = counts * scale
    return Reweighted(
        value=float(now.of(seen[np.newaxis])[0]),
        source_value=float(before.of(seen[np.newaxis])[0]),
        classes=len(np.unique(kinds[kinds != NO_ANSWER])),
        losses=_drawn(before, now, seen, draws),
        gains=_drawn(now, before, seen, draws),
    )


def _drawn(better: ClassFigure, worse: ClassFigure, seen: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """Return draws of the figure of `better` less that of `worse`, with the unseen sample that parts them most."""
    extra = _unseen(better, worse, seen)
    truth, right, wrong = (
        np.append(kinds, kind) for kinds, kind in zip((better.truth, better.answers, worse.answers), extra, strict=True)
    )
    better, worse = replace(better, truth=truth, answers=right), replace(worse, truth=truth, answers=wrong)
    shapes, random = np.append(seen, 1.0), np.random.default_rng(SEED)
    found, size = [], max(1, _AT_ONCE // len(shapes))
    for start in range(0, draws, size):
        weights = random.standard_gamma(shapes, (min(size, draws - start), len(shapes)))
        found.append(better.of(weights) - worse.of(weights))
    return np.sort(np.concatenate(found))


def _unseen(better: ClassFigure, worse: ClassFigure, seen: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return the truth and both answers of the one sample that raises the difference most: right, and wrong."""
    occurring = np.unique(better.truth)
    wrong = _wrong(worse, seen)[occurring]
    whole = np.hstack([np.broadcast_to(seen, (len(occurring), len(seen))), np.eye(len(occurring))])
    truth = np.append(better.truth, occurring)
    high = replace(better, truth=truth, answers=np.append(better.answers, occurring)).of(whole)
    low = replace(worse, truth=truth, answers=np.append(worse.answers, wrong)).of(whole)
    most = int(np.argmax(high - low))
    return int(occurring[most]), int(occurring[most]), int(wrong[most])


def _wrong(figure: ClassFigure, seen: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each class the wrong answer that costs most: the class whose precision it hurts most."""
    each, support, answered = figure.by_class(seen[np.newaxis])
    over = answered if figure.figure == "precision" else answered + support
    hurt = np.divide(each, over, out=np.zeros_like(each), where=over > 0)[0]
    second, first = np.argsort(hurt, kind="stable")[-2:]
    wrong = np.full(figure.classes, first)
    wrong[first] = second
    return np.where(hurt[wrong] > 0, wrong, NO_ANSWER)


def _share_from(sorted_draws: NDArray[np.float64], value: float) -> float:
    """Return the share of draws from `value` on, one more counted: no p-value is zero."""
    above = len(sorted_draws) - int(np.searchsorted(sorted_draws, value, "left"))
    return (above + 1) / (len(sorted_draws) + 1)
