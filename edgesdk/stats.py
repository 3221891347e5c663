"""Exact statistics for yes/no judgements, in pure Python (no numpy), so that the lean agent can use them too.

Two models answer the same labelled examples. Only the *discordant* examples say which is better: ``wins`` (the
newcomer is right, the incumbent wrong) and ``losses`` (the other way round). The newcomer's loss of accuracy is
``p_loss - p_win``, estimated by ``(losses - wins) / n``.

How the test of "the loss is above a margin" is exact. Given ``m = wins + losses`` discordant examples, ``losses`` is
binomial with probability ``1/2 + loss / (2 psi)``, where ``psi`` is the unknown share of discordant examples; for a
margin of zero this is McNemar's exact test (McNemar 1947). For other margins ``psi`` is replaced by the worst value
within its ``1 - gamma`` Clopper-Pearson bound and ``gamma`` is added to the p-value (Berger & Boos 1994, "P values
maximized over a confidence set for the nuisance parameter", JASA 89). So the stated error rate holds for every sample
size; it supposes independent examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

NUISANCE_SHARE = 0.1
"""Part of alpha that is spent on not knowing the share of discordant examples."""
MIN_EXAMPLES = 200
"""Fewer truth examples than this make a weak judge."""
_BISECTIONS = 60
_GRID = 40
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedVerdict:
    """What paired answers say about the newcomer's loss of accuracy.

    Attributes:
        wins: Examples that only the newcomer has right.
        losses: Examples that only the incumbent has right.
        n: All examples that both answered.
        margin: The largest loss that is acceptable, as a fraction of examples.
        alpha: The error rate of each one-sided test.
        loss: The observed loss ``(losses - wins) / n``; negative when the newcomer is better.
        p_above: p-value of the hypothesis "the loss is at most the margin".
        p_below: p-value of the hypothesis "the loss is at least the margin".
    """

    wins: int
    losses: int
    n: int
    margin: float
    alpha: float
    loss: float
    p_above: float
    p_below: float

    @property
    def shows_loss(self) -> bool:
        """The data show a loss above the margin: refuse (wrong for at most `alpha` of acceptable newcomers)."""
        return self.p_above <= self.alpha

    @property
    def shows_no_loss(self) -> bool:
        """The data show a loss below the margin (wrong for at most `alpha` of unacceptable newcomers)."""
        return self.p_below <= self.alpha

    @property
    def weak(self) -> bool:
        """There are too few examples for this verdict to be a strong judge."""
        return self.n < MIN_EXAMPLES


def paired_loss_test(wins: int, losses: int, n: int, margin: float, alpha: float = 0.01) -> PairedVerdict:
    """Judge a newcomer against an incumbent on the same `n` examples.

    Raises:
        ValueError: If the counts, `margin` (0..1) or `alpha` (0..1) are impossible.
    """
    _check_counts(wins, losses, n)
    _check_open(alpha, "alpha")
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must lie in 0..1, got {margin}")
    gamma = alpha * NUISANCE_SHARE
    return PairedVerdict(
        wins=wins,
        losses=losses,
        n=n,
        margin=margin,
        alpha=alpha,
        loss=(losses - wins) / n if n else 0.0,
        p_above=_Test(wins, losses, n, gamma).p_above(margin),
        p_below=_Test(losses, wins, n, gamma).p_above(-margin),
    )


def paired_loss_p_value(wins: int, losses: int, n: int, margin: float, alpha: float = 0.01) -> float:
    """Return the p-value of "the loss is at most `margin`", by a more powerful test than `paired_loss_test`.

    It is not conditional on the discordant examples ``m = wins + losses``: with the score
    ``T = (losses - wins - n * margin) / sqrt(m)`` it is the largest P(T >= observed) over all shares psi of discordant
    examples in their ``1 - gamma`` Clopper-Pearson interval, plus ``gamma`` (Berger & Boos 1994, as above; Hsueh, Liu &
    Chen 2001, "Unconditional exact tests for equivalence or noninferiority for paired binary endpoints", Biometrics
    57). 15 lost and none won of 252 at a margin of 2 % give 0.005; the conditional test gives 0.33. The maximum is
    sought on a grid of psi. The time grows with n: about 0.1 s for 250 examples, 1 s for 5,000.

    Raises:
        ValueError: If the counts, `margin` (0..1) or `alpha` (0..1) are impossible.
    """
    _check_counts(wins, losses, n)
    _check_open(alpha, "alpha")
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must lie in 0..1, got {margin}")
    gamma, m = alpha * NUISANCE_SHARE, wins + losses
    if losses - wins <= n * margin:
        return 1.0  # not even the observed loss is above the margin
    if margin == 0:
        return binomial_at_least(losses, m, 0.5)
    score = (losses - wins - n * margin) / math.sqrt(m)
    low, high = max(_lower_bound(m, n, gamma / 2), margin), max(_upper_bound(m, n, gamma / 2), margin)
    grid = (low + (high - low) * step / _GRID for step in range(_GRID + 1))
    return min(1.0, max(_score_at_least(score, n, psi, margin) for psi in grid) + gamma)


def paired_difference_interval(b: int, c: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the exact ``1 - alpha`` interval of ``(b - c) / n``, the gain when `b` are wins and `c` are losses.

    It holds every difference that neither one-sided test at ``alpha / 2`` refuses.

    Raises:
        ValueError: If the counts or `alpha` are impossible.
    """
    _check_counts(b, c, n)
    _check_open(alpha, "alpha")
    if n == 0:
        return -1.0, 1.0
    side = alpha / 2
    gamma = side * NUISANCE_SHARE
    estimate = (b - c) / n
    gain, loss = _Test(c, b, n, gamma), _Test(b, c, n, gamma)
    low = _boundary(lambda value: gain.p_above(value) <= side, -1.0, estimate)
    high = -_boundary(lambda value: loss.p_above(value) <= side, -1.0, -estimate)
    return low, high


def clopper_pearson(k: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the exact ``1 - alpha`` interval of a binomial proportion (Clopper & Pearson 1934), `k` of `n` seen.

    Raises:
        ValueError: If the counts or `alpha` are impossible.
    """
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n, got k={k}, n={n}")
    _check_open(alpha, "alpha")
    return _lower_bound(k, n, alpha / 2), _upper_bound(k, n, alpha / 2)


def examples_needed(wins: int, losses: int, n: int, margin: float, alpha: float = 0.01) -> int | None:
    """Return about how many examples would decide, if the observed rates stayed as they are.

    None: the observed loss is so near the margin that a thousand times as many would not.

    Raises:
        ValueError: If the counts, `margin` or `alpha` are impossible, or `n` is 0.
    """
    if n == 0:
        raise ValueError("expected n > 0: without examples nothing says how many are needed")
    size = n
    while size <= 1000 * n:
        scale = size / n
        verdict = paired_loss_test(round(wins * scale), round(losses * scale), size, margin, alpha)
        if verdict.shows_loss or verdict.shows_no_loss:
            return size
        size = math.ceil(size * 1.1)
    return None


def binomial_at_least(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X binomial(n, p): the regularised incomplete beta function I_p(k, n - k + 1)."""
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    return incomplete_beta(k, n - k + 1, p)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for a, b > 0, to about twelve digits.

    Source: the continued fraction DLMF 8.17.22, evaluated by the modified Lentz algorithm.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny, precision = 1e-300, 1e-15
    c, d = 1.0, 1.0 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1 + term * d, tiny)
            c = _away_from_zero(1 + term / c, tiny)
            step = c * d
            value *= step
        if abs(step - 1) < precision:
            break
    return value


def _away_from_zero(value: float, tiny: float) -> float:
    return tiny if abs(value) < tiny else value


def _score_at_least(score: float, n: int, psi: float, margin: float) -> float:
    """Return P(T >= score) when the loss is `margin` and a share `psi` of the examples is discordant."""
    psi = min(psi, 1 - _NEGLIGIBLE)
    share = min(1.0, 0.5 + margin / (2 * psi))
    log_psi, log_rest, log_n = math.log(psi), math.log1p(-psi), math.lgamma(n + 1)
    total = 0.0
    for m in range(n + 1):
        log_weight = log_n - math.lgamma(m + 1) - math.lgamma(n - m + 1) + m * log_psi + (n - m) * log_rest
        if log_weight > math.log(_NEGLIGIBLE):
            enough = math.ceil((m + n * margin + score * math.sqrt(m)) / 2 - 1e-9)
            total += math.exp(log_weight) * binomial_at_least(enough, m, share)
    return total


class _Test:
    """The one-sided test on fixed counts, for any margin."""

    def __init__(self, wins: int, losses: int, n: int, gamma: float) -> None:
        self._losses, self._discordant, self._gamma = losses, wins + losses, gamma
        self._psi_low = _lower_bound(self._discordant, n, gamma)
        self._psi_high = _upper_bound(self._discordant, n, gamma)

    def p_above(self, margin: float) -> float:
        """Return the p-value of "the loss is at most `margin`"; a negative margin is "the gain is at least ..."."""
        if margin == 0:
            return binomial_at_least(self._losses, self._discordant, 0.5)
        # The share of losses among the discordant examples moves with margin / psi: take the psi that makes it largest.
        psi = self._psi_low if margin > 0 else self._psi_high
        if psi < -margin:
            return self._gamma  # such a gain needs more discordant examples than there can be
        worst = 1.0 if psi <= 0 else min(1.0, 0.5 + margin / (2 * psi))
        return min(1.0, binomial_at_least(self._losses, self._discordant, worst) + self._gamma)


def _lower_bound(k: int, n: int, alpha: float) -> float:
    if k == 0:
        return 0.0
    return _boundary(lambda p: binomial_at_least(k, n, p) <= alpha, 0.0, 1.0)


def _upper_bound(k: int, n: int, alpha: float) -> float:
    return 1.0 - _lower_bound(n - k, n, alpha)


def _boundary(refused: Callable[[float], bool], low: float, high: float) -> float:
    """Return where `refused` turns from true (at `low`) to false, from the refused side."""
    if not refused(low):
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return low


def _check_counts(wins: int, losses: int, n: int) -> None:
    if wins < 0 or losses < 0 or wins + losses > n:
        raise ValueError(f"expected wins + losses <= n, none negative; got wins={wins}, losses={losses}, n={n}")


def _check_open(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
