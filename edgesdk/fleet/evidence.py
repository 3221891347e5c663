"""When do the bad devices of a wave speak against a release? An exact test that may be looked at at any time (pure).

Statements arrive in an order that depends on the outcome: a refusal in testing takes seconds, a commit takes the whole
trial. A sequential test over "results so far" would therefore halt good releases. This one does not look at how
many have finished: of the `n` devices that were asked, the number that turn bad only ever grows, so with ``K`` of them
bad in the end, ``P(halting at any look) = P(K >= limit)``. `halting_count` is the smallest limit for which that
is at most `alpha` when each device turns bad independently with the tolerated probability.
"""

from __future__ import annotations

import math


def _log_pmf(k: int, n: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return ``P(X >= k)`` for ``X ~ Binomial(n, p)``, summed exactly from the small end."""
    if k <= 0:
        return 1.0
    if k > n or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    return min(1.0, math.fsum(math.exp(_log_pmf(i, n, p)) for i in range(n, k - 1, -1)))


def halting_count(n: int, tolerated: float, alpha: float) -> int:
    """Return how many bad devices of `n` halt a wave.

    Args:
        n: Devices that were asked.
        tolerated: Share of bad devices that is tolerated, 0..1; at 0 the first bad device halts.
        alpha: Probability, at most, that a release exactly at `tolerated` is halted.

    Returns:
        The smallest ``c >= 1`` with ``P(Binomial(n, tolerated) >= c) <= alpha``; ``n + 1`` when no number of devices
        would be evidence.
    """
    if tolerated <= 0.0:
        return 1
    if tolerated >= 1.0:
        return n + 1
    tail = 0.0
    for k in range(n, 0, -1):
        tail += math.exp(_log_pmf(k, n, tolerated))
        if tail > alpha:
            return k + 1
    return 1
