"""When samples come in instalments: looks at a growing part of them, and how the error rate is spent on the looks.

The gate may stop at the first look that decides. Each look k tests at its own part of alpha, ``alpha * (t_k**RHO -
t_(k-1)**RHO)`` where t is the share of the samples seen: the power family of spending functions (Kim & DeMets 1987,
Biometrika 74). The parts sum to alpha, so by the union bound all looks together are wrong with a probability of at most
alpha, whatever they have in common; the last look keeps three quarters of it, so little power is lost.

Or it may stop only where the artifact is worse (`HOPELESS`), as a repair does, which has other recipes to try. What
passes is then judged on all samples, once, at the whole of alpha; what is refused is refused wrongly with a probability
of at most twice alpha.

Samples are taken in a seeded random order: a data set sorted by class must not be judged by its first class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST = 128
"""Samples of the first look."""
HOPELESS = "hopeless"
"""In place of True: instalments end where the artifact is shown to be worse, and only there."""
RHO = 2
SEED = 20_260_102


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look.

    Attributes:
        number: Counted from 1.
        of: How many there are.
        samples: How many samples it sees.
        share: Its part of alpha.
    """

    number: int
    of: int
    samples: int
    share: float


def looks(count: int) -> tuple[Look, ...]:
    """Return the looks at `count` samples: each sees twice as many as the one before, the last all of them."""
    sizes = [count]
    while sizes[0] // 2 >= FIRST:
        sizes.insert(0, sizes[0] // 2)
    spent = [(size / count) ** RHO for size in sizes]
    shares = [now - before for before, now in zip([0.0, *spent], spent, strict=False)]
    return tuple(
        Look(number=index + 1, of=len(sizes), samples=size, share=share)
        for index, (size, share) in enumerate(zip(sizes, shares, strict=True))
    )


def order(count: int) -> NDArray[np.int64]:
    """Return the rows of `count` samples in the order in which looks take them."""
    return np.random.default_rng(SEED).permutation(count)


def rows_seen(count: int, samples: int) -> NDArray[np.int64]:
    """Return which rows the first `samples` of `count` are, ascending, as their answers are kept."""
    return np.sort(order(count)[:samples])
