"""Exact statistics for yes/no judgements, in pure Python (no numpy), so that the lean agent can use them too.

Two models answer the same labelled examples. Only the *discordant* examples say which is better: ``wins`` (the
newcomer is right, the incumbent wrong) and ``losses`` (the other way round). The newcomer's loss of accuracy is
``p_loss - p_win``, estimated by ``(losses - wins) / n``.

How the test of "the loss is above a margin" is exact. Tables of wins and losses are ordered by the score statistic with
the restricted maximum likelihood estimate of its variance (Tango 1998, "Equivalence test and confidence interval for
the difference in proportions for the paired-sample design", Statistics in Medicine 17). The p-value is the probability
of a table at least as extreme, at the worst share ``psi`` of discordant examples within its ``1 - gamma``
Clopper-Pearson interval, plus ``gamma`` (Berger & Boos 1994, "P values maximized over a confidence set for the nuisance
parameter", JASA 89; Hsueh, Liu & Chen 2001, "Unconditional exact tests for equivalence or noninferiority for paired
binary endpoints", Biometrics 57). The worst share is sought on a grid. At a margin of zero it is McNemar's exact test
(McNemar 1947). So the stated error rate holds for every sample size; it supposes independent examples. The time grows
with the root of n: about 10 ms for 2,000 examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

NUISANCE_SHARE = 0.1
"""Part of alpha that is spent on not knowing the share of discordant examples."""
MIN_EXAMPLES = 200
"""Fewer truth examples than this make a weak judge."""
_BISECTIONS = 60
_FINE_ENOUGH, _FINE_ENOUGH_PROBIT = 1e-5, 0.003
_GRID = 30
_TINY = 1e-9
_DEVIATIONS = 6.5
"""Counts that lie farther from their mean, in standard deviations, have a probability below 1e-10."""


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
        p_above=_p_above(wins, losses, n, margin, gamma),
        p_below=_p_above(losses, wins, n, -margin, gamma),
    )


def paired_loss_p_value(wins: int, losses: int, n: int, margin: float, alpha: float = 0.01) -> float:
    """Return `PairedVerdict.p_above` alone: 15 lost and none won of 252 at a margin of 2 % give 0.005.

    Raises:
        ValueError: If the counts, `margin` (0..1) or `alpha` (0..1) are impossible.
    """
    _check_counts(wins, losses, n)
    _check_open(alpha, "alpha")
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must lie in 0..1, got {margin}")
    return _p_above(wins, losses, n, margin, alpha * NUISANCE_SHARE)


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
    z = NormalDist().inv_cdf(1 - side)
    step = z * math.sqrt((b + c) / n / n) + z * z / n
    low = _edge(lambda value: _p_above(c, b, n, value, gamma), side, estimate, step)
    high = -_edge(lambda value: _p_above(b, c, n, value, gamma), side, -estimate, step)
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
    enough = _normal_size(wins / n, losses / n, margin, alpha)
    size = max(n, math.floor(0.8 * enough)) if math.isfinite(enough) else n
    while size <= 1000 * n:
        scale = size / n
        verdict = paired_loss_test(round(wins * scale), round(losses * scale), size, margin, alpha)
        if verdict.shows_loss or verdict.shows_no_loss:
            return size
        size = math.ceil(size * 1.1)
    return None


def _normal_size(p_win: float, p_loss: float, margin: float, alpha: float) -> float:
    """Return about how many examples decide by the normal approximation: where the exact search may begin."""
    distance = abs(margin - (p_loss - p_win))
    if distance < _TINY:
        return math.inf
    variance = p_win + p_loss - (p_loss - p_win) ** 2
    return variance * (NormalDist().inv_cdf(1 - alpha) / distance) ** 2


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


def _p_above(wins: int, losses: int, n: int, margin: float, gamma: float) -> float:
    """Return the p-value of "the loss is at most `margin`"; a negative margin is "the gain is at least ..."."""
    m = wins + losses
    if margin == 0:
        return binomial_at_least(losses, m, 0.5)
    if losses - wins <= n * margin + _TINY:
        return 1.0  # not even the observed loss is above the margin
    if margin <= -1:
        return gamma  # such a gain is every example won
    least = abs(margin)  # no loss without as many discordant examples
    low, high = max(_lower_bound(m, n, gamma / 2), least), max(_upper_bound(m, n, gamma / 2), least)
    steps = _GRID if high > low else 0
    shares = [low + (high - low) * step / _GRID for step in range(steps + 1)]
    first, last = _likely(n, shares[0])[0], _likely(n, shares[-1])[1]
    enough = _enough(_score(wins, losses, n, margin) - _TINY, n, margin, first, last)
    return min(1.0, max(_at_least(enough, n, psi, margin, first) for psi in shares) + gamma)


def _score(wins: int, losses: int, n: int, margin: float) -> float:
    """Return Tango's score: the distance of the loss from `margin` in its standard deviations if it were `margin`."""
    b = (2 * n - losses + wins) * margin - losses - wins
    c = -wins * margin * (1 - margin)
    p_win = max((math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n), 0.0, -margin)
    variance = n * (2 * p_win + margin * (1 - margin))
    return (losses - wins - n * margin) / math.sqrt(max(variance, _TINY * _TINY))


def _likely(n: int, psi: float) -> tuple[int, int]:
    """Return the least and the greatest number of discordant examples that there may be."""
    mean, deviation = n * psi, math.sqrt(n * psi * (1 - psi))
    spread = _DEVIATIONS * deviation
    return max(0, math.floor(mean - spread)), min(n, math.ceil(mean + spread + _DEVIATIONS**2 / 2))


def _enough(score: float, n: int, margin: float, first: int, last: int) -> list[int]:
    """Return for each number of discordant examples the fewest losses that score as high; one more: none does."""
    found, losses = [], 0
    for m in range(first, last + 1):
        losses = min(losses, m)
        while losses > 0 and _score(m - losses + 1, losses - 1, n, margin) >= score:
            losses -= 1
        while losses <= m and _score(m - losses, losses, n, margin) < score:
            losses += 1
        found.append(losses)
    return found


def _at_least(enough: list[int], n: int, psi: float, margin: float, first: int) -> float:
    """Return P(enough losses) when the loss is `margin` and a share `psi` of the examples is discordant."""
    psi = min(psi, 1 - 1e-12)
    share = min(1.0, max(0.0, 0.5 + margin / (2 * psi)))
    low, high = _likely(n, psi)
    low = max(low, first)
    log_psi, log_rest, log_n = math.log(psi), math.log1p(-psi), math.lgamma(n + 1)
    need = enough[low - first]
    tail, total = binomial_at_least(need, low, share), 0.0
    for m in range(low, min(high, first + len(enough) - 1) + 1):
        weight = log_n - math.lgamma(m + 1) - math.lgamma(n - m + 1) + m * log_psi + (n - m) * log_rest
        total += math.exp(weight) * tail
        if m - first + 1 == len(enough):
            break
        # From P(X >= need) for m trials to that for one more trial, and then to the need there.
        tail += share * _binomial(need - 1, m, share)
        for _ in range(enough[m + 1 - first] - need):
            tail -= _binomial(need, m + 1, share)
            need += 1
        for _ in range(need - enough[m + 1 - first]):
            need -= 1
            tail += _binomial(need, m + 1, share)
    return total


def _binomial(k: int, n: int, p: float) -> float:
    """Return P(X = k) for X binomial(n, p)."""
    if not 0 <= k <= n:
        return 0.0
    if p <= 0 or p >= 1:
        return float(k == (0 if p <= 0 else n))
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


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


def _edge(p_value: Callable[[float], float], side: float, estimate: float, step: float) -> float:
    """Return the largest value, from -1 on, that is refused at `side` and lies below `estimate`.

    The p-value is nearly normal in its value, so the Illinois form of false position on the normal scale finds it in a
    few steps.
    """

    def above(value: float) -> float:
        return _probit(p_value(value)) - _probit(side)

    high, low = estimate, max(-1.0, estimate - step)
    at_high, at_low = above(high), above(low)
    while at_low > 0 and low > -1:
        step *= 1.6
        high, at_high, low = low, at_low, max(-1.0, estimate - step)
        at_low = above(low)
    if at_low > 0:
        return -1.0
    halved = 0
    while high - low > _FINE_ENOUGH and at_low < -_FINE_ENOUGH_PROBIT:
        share = at_low / (at_low - at_high)
        middle = low + (high - low) * min(0.98, max(0.02, share))
        at_middle = above(middle)
        if at_middle > 0:
            high, at_high = middle, at_middle
            at_low, halved = (at_low / 2 if halved == 1 else at_low), 1
        else:
            low, at_low = middle, at_middle
            at_high, halved = (at_high / 2 if halved == -1 else at_high), -1
    return low


def _probit(p: float) -> float:
    return NormalDist().inv_cdf(min(1 - 1e-12, max(1e-12, p)))


def _check_counts(wins: int, losses: int, n: int) -> None:
    if wins < 0 or losses < 0 or wins + losses > n:
        raise ValueError(f"expected wins + losses <= n, none negative; got wins={wins}, losses={losses}, n={n}")


def _check_open(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
