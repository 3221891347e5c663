"""The paired bootstrap: BCa intervals of a difference of two metrics on the same samples, seeded.

Rows are drawn with replacement, the same for both models, so that what the samples have in common cancels. BCa (Efron
1987, "Better bootstrap confidence intervals", JASA 82) corrects for bias by the median of the replicates and for skew
by a jackknife over up to `JACKKNIFE` groups of rows. Its error rate is approximate: see `docs/statistics.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

REPLICATES = 2000
JACKKNIFE = 200
FAR = 6
SEED = 20_260_101
_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Replicates of a figure, and the two corrections.

    Attributes:
        estimate: The figure on the samples themselves.
        replicates: float64 [B], sorted; only finite ones.
        bias: z0, the normal quantile of the share of replicates below the estimate.
        skew: The acceleration.
    """

    estimate: float
    replicates: NDArray[np.float64]
    bias: float
    skew: float

    def below(self, value: float) -> float:
        """Return the p-value of "the figure is at least `value`": small when the samples show that it is less.

        BCa's own tail ends at one over the skew, so a value `FAR` deviations beyond every replicate is told by its
        distance: the least p-value that so many replicates can give.
        """
        count, deviation = len(self.replicates), float(np.std(self.replicates))
        if abs(value - self.estimate) > FAR * deviation and not self.replicates[0] <= value <= self.replicates[-1]:
            return 0.5 / count if value > self.estimate else 1 - 0.5 / count
        less = np.searchsorted(self.replicates, value, "left") + np.searchsorted(self.replicates, value, "right")
        share = min(1 - 0.5 / count, max(0.5 / count, float(less) / (2 * count)))
        distance = _NORMAL.inv_cdf(share) - self.bias
        return 1 - _NORMAL.cdf(distance / (1 + self.skew * distance) - self.bias)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the ``1 - alpha`` interval."""
        return self._quantile(alpha / 2), self._quantile(1 - alpha / 2)

    def _quantile(self, p: float) -> float:
        z = self.bias + _NORMAL.inv_cdf(p)
        return float(np.quantile(self.replicates, _NORMAL.cdf(self.bias + z / (1 - self.skew * z))))


def bootstrap(figure: Callable[[NDArray[np.int64]], float], count: int, *, seed: int = SEED) -> Bootstrap:
    """Resample `figure`, a function of chosen rows of `count` samples.

    Raises:
        ValueError: If the figure is not finite on the samples, or on nearly none of their replicates.
    """
    every = np.arange(count)
    estimate = figure(every)
    random = np.random.default_rng(seed)
    drawn = np.array([figure(random.integers(0, count, count)) for _ in range(REPLICATES)])
    replicates = np.sort(drawn[np.isfinite(drawn)])
    if not np.isfinite(estimate) or len(replicates) < REPLICATES / 2:
        raise ValueError(f"the metric is {estimate} on these samples: they do not determine it")
    below = float(np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2)
    bias = _NORMAL.inv_cdf(min(1 - 0.5 / len(replicates), max(0.5 / len(replicates), below)))
    return Bootstrap(estimate=estimate, replicates=replicates, bias=bias, skew=_skew(figure, every))


def _skew(figure: Callable[[NDArray[np.int64]], float], every: NDArray[np.int64]) -> float:
    groups = [part for part in np.array_split(np.random.default_rng(SEED).permutation(every), JACKKNIFE) if len(part)]
    left_out = np.array([figure(np.setdiff1d(every, part)) for part in groups]) if len(groups) > 1 else np.zeros(1)
    away = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    scale = float(np.sum(away**2)) ** 1.5
    return float(np.sum(away**3)) / (6 * scale) if scale > 0 else 0.0
