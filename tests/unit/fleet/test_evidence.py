"""The exact test that halts a large wave."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.fleet.evidence import binomial_tail, halting_count

SHARES = st.floats(0.001, 0.5)
ALPHAS = st.floats(0.0005, 0.1)


def exact_tail(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@given(st.integers(1, 60), st.integers(0, 61), SHARES)
def test_tail_agrees_with_the_definition(n: int, k: int, p: float) -> None:
    """The tail in logarithms equals the sum of the definition."""
    assert binomial_tail(k, n, p) == pytest.approx(exact_tail(k, n, p), rel=1e-9, abs=1e-300)


@given(st.integers(1, 3000), SHARES, ALPHAS)
def test_limit_is_the_smallest_that_keeps_alpha(n: int, p: float, alpha: float) -> None:
    """At the limit the chance of halting a tolerable release is at most alpha; one fewer would exceed it."""
    limit = halting_count(n, p, alpha)
    assert 1 <= limit <= n + 1
    assert binomial_tail(limit, n, p) <= alpha * (1 + 1e-9)
    if limit > 1:
        assert binomial_tail(limit - 1, n, p) > alpha * (1 - 1e-9)


def test_nothing_tolerated_halts_at_once() -> None:
    """With a tolerated share of zero the first bad device halts."""
    assert halting_count(1000, 0.0, 0.01) == 1


def test_edges_of_the_tail() -> None:
    """Certain and impossible outcomes have probabilities one and zero."""
    assert (binomial_tail(0, 5, 0.1), binomial_tail(6, 5, 0.1), binomial_tail(1, 5, 0.0)) == (1.0, 0.0, 0.0)
    assert binomial_tail(5, 5, 1.0) == 1.0


def test_ten_thousand_devices_do_not_underflow() -> None:
    """A large fleet has a finite limit a little above the tolerated number."""
    assert 200 < halting_count(10_000, 0.02, 0.01) < 260
