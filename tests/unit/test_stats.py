"""The exact tests keep their stated error rates and agree with scipy."""

import functools
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk import stats


def _counts(most: int) -> st.SearchStrategy[tuple[int, int, int]]:
    return st.integers(1, most).flatmap(
        lambda n: st.integers(0, n).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m), st.just(n)))
    )


@settings(deadline=None)
@given(
    a=st.floats(0.5, 5000),
    b=st.floats(0.5, 5000),
    x=st.floats(0, 1),
)
def test_incomplete_beta_agrees_with_scipy(a, b, x):
    """The incomplete beta function is right to nine digits over the range that counts need."""
    special = pytest.importorskip("scipy.special")
    assert math.isclose(stats.incomplete_beta(a, b, x), special.betainc(a, b, x), rel_tol=1e-8, abs_tol=1e-10)


@settings(deadline=None)
@given(n=st.integers(0, 3000), data=st.data(), alpha=st.floats(0.001, 0.5))
def test_clopper_pearson_agrees_with_scipy(n, data, alpha):
    """The interval of a proportion equals scipy's exact interval."""
    binomtest = pytest.importorskip("scipy.stats").binomtest
    k = data.draw(st.integers(0, n))
    low, high = stats.clopper_pearson(k, n, alpha)
    if n == 0:
        assert (low, high) == (0.0, 1.0)
        return
    expected = binomtest(k, n).proportion_ci(1 - alpha, "exact")
    assert math.isclose(low, expected.low, abs_tol=1e-7)
    assert math.isclose(high, expected.high, abs_tol=1e-7)


@settings(deadline=None)
@given(_counts(3000))
def test_without_a_margin_it_is_mcnemars_exact_test(case):
    """At margin 0 the p-value is the one-sided sign test on the discordant pairs."""
    binomtest = pytest.importorskip("scipy.stats").binomtest
    wins, m, n = case
    verdict = stats.paired_loss_test(wins, m - wins, n, 0.0, 0.01)
    expected = binomtest(m - wins, m, alternative="greater").pvalue if m else 1.0
    assert math.isclose(verdict.p_above, expected, abs_tol=1e-9)


@settings(deadline=None)
@given(_counts(1000), st.floats(0, 0.3), st.floats(0.001, 0.2))
def test_never_both_above_and_below(case, margin, alpha):
    """No data show a loss both above and below the margin."""
    wins, m, n = case
    verdict = stats.paired_loss_test(wins, m - wins, n, margin, alpha)
    assert not (verdict.shows_loss and verdict.shows_no_loss)


@settings(deadline=None, max_examples=40)
@given(_counts(300), st.floats(0.001, 0.2))
def test_interval_holds_the_estimate_and_agrees_with_the_test(case, alpha):
    """The interval is ordered, holds the estimate, mirrors when roles swap, and excludes what the tests refuse."""
    wins, m, n = case
    losses = m - wins
    low, high = stats.paired_difference_interval(wins, losses, n, alpha)
    assert -1 <= low <= (wins - losses) / n + 1e-9
    assert (wins - losses) / n - 1e-9 <= high <= 1
    mirrored = stats.paired_difference_interval(losses, wins, n, alpha)
    assert mirrored == pytest.approx((-high, -low), abs=1e-4)
    if -high > 0.001:
        assert stats.paired_loss_test(wins, losses, n, -high - 1e-6, alpha / 2).shows_loss
    if 0.0001 < -high < 0.95:
        assert not stats.paired_loss_test(wins, losses, n, -high + 0.01, alpha / 2).shows_loss


def _draw(rng: random.Random, n: int, p_win: float, p_loss: float) -> tuple[int, int]:
    draws = [rng.random() for _ in range(n)]
    wins = sum(d < p_win for d in draws)
    return wins, sum(d < p_win + p_loss for d in draws) - wins


@pytest.mark.parametrize(("p_win", "margin"), [(0.0, 0.02), (0.02, 0.02), (0.1, 0.02), (0.05, 0.0), (0.2, 0.1)])
def test_error_rate_holds_at_the_worst_acceptable_loss(p_win, margin):
    """A newcomer exactly at the margin is refused, and passed, in at most alpha of simulated samples."""
    rng = random.Random(7)
    alpha, runs = 0.05, 1000
    refused = passed = 0
    judge = functools.cache(stats.paired_loss_test)
    for _ in range(runs):
        verdict = judge(*_draw(rng, 200, p_win, p_win + margin), 200, margin, alpha)
        refused += verdict.shows_loss
        passed += verdict.shows_no_loss
    # 1000 samples: three standard errors above 5 % are 7.1 %.
    assert refused / runs <= 0.071
    assert passed / runs <= 0.071


def test_interval_covers():
    """The 90 % interval holds the true difference in at least 90 % of simulated samples, less simulation error."""
    rng = random.Random(11)
    covered = 0
    interval = functools.cache(stats.paired_difference_interval)
    for _ in range(200):
        low, high = interval(*_draw(rng, 150, 0.01, 0.03), 150, 0.1)
        covered += low - 1e-12 <= 0.01 - 0.03 <= high + 1e-12
    assert covered / 200 >= 0.835


def test_interval_covers_exactly():
    """Summed over every table of 16 examples it holds any true difference with at least 90 %, at any shares of wins."""
    n, shares = 16, (0.0, 0.02, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
    tables = [(m - losses, losses) for m in range(n + 1) for losses in range(m + 1)]
    intervals = {table: stats.paired_difference_interval(*table, n, 0.1) for table in tables}
    for p_win, p_loss in itertools.product(shares, repeat=2):
        if p_win + p_loss <= 1:
            true = p_win - p_loss
            holding = (table for table, (low, high) in intervals.items() if low - 1e-12 <= true <= high + 1e-12)
            assert sum(_table_probability(table, n, p_win + p_loss, -true) for table in holding) >= 0.9


def test_it_has_power():
    """A model that lost its labels is refused on 252 examples; an equal one with few discordants is passed."""
    assert stats.paired_loss_test(5, 30, 252, 0.02, 0.01).shows_loss
    assert stats.paired_loss_test(8, 10, 2267, 0.02, 0.01).shows_no_loss
    assert stats.paired_loss_test(0, 0, 2267, 0.02, 0.01).shows_no_loss
    undecided = stats.paired_loss_test(3, 6, 100, 0.02, 0.01)
    assert undecided.weak
    assert not undecided.shows_loss
    assert not undecided.shows_no_loss


def test_examples_needed():
    """What is decided needs no more; a loss at the very margin never is; the number given does decide."""
    assert stats.examples_needed(5, 30, 252, 0.02) == 252
    assert stats.examples_needed(0, 2, 100, 0.02) is None
    needed = stats.examples_needed(3, 3, 100, 0.02)
    assert needed is not None
    scale = needed / 100
    assert stats.paired_loss_test(round(3 * scale), round(3 * scale), needed, 0.02).shows_no_loss


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.paired_loss_test(3, 3, 5, 0.02),
        lambda: stats.paired_loss_test(-1, 3, 5, 0.02),
        lambda: stats.paired_loss_test(1, 1, 5, 1.5),
        lambda: stats.paired_loss_test(1, 1, 5, 0.02, 0.0),
        lambda: stats.clopper_pearson(6, 5, 0.05),
        lambda: stats.examples_needed(0, 0, 0, 0.02),
    ],
)
def test_impossible_counts_are_refused(call):
    """Counts that cannot be are an error of the caller, never a verdict."""
    with pytest.raises(ValueError, match=r"expected|must lie"):
        call()


def _table_probability(table: tuple[int, int], n: int, psi: float, loss: float) -> float:
    wins, losses = table
    p_loss, p_win = (psi + loss) / 2, (psi - loss) / 2
    arrangements = math.comb(n, losses) * math.comb(n - losses, wins)
    return arrangements * p_loss**losses * p_win**wins * (1 - psi) ** (n - losses - wins)


@pytest.mark.parametrize(("n", "margin"), [(20, 0.1), (34, 0.05)])
def test_both_sides_keep_their_error_rate_exactly(n, margin):
    """Summed over every table that can occur, a newcomer at the margin is refused, and passed, with at most alpha."""
    alpha = 0.05
    tables = [(m - losses, losses) for m in range(n + 1) for losses in range(m + 1)]
    verdicts = {table: stats.paired_loss_test(*table, n, margin, alpha) for table in tables}
    refused = [table for table, verdict in verdicts.items() if verdict.shows_loss]
    passed = [table for table, verdict in verdicts.items() if verdict.shows_no_loss]
    assert refused
    for psi in (margin, margin + 0.01, margin + 0.03, 0.2, 0.35, 0.6, 0.9):
        assert sum(_table_probability(table, n, psi, margin) for table in refused) <= alpha
        assert sum(_table_probability(table, n, psi, margin) for table in passed) <= alpha


def test_the_lean_p_value_is_the_test_s_own():
    """What the device asks for is what the gate computes; 15 lost of 252 show a loss above 2 %, 4 do not."""
    for wins, losses in ((0, 15), (9, 29), (0, 4), (5, 30)):
        p_value = stats.paired_loss_p_value(wins, losses, 252, 0.02)
        assert p_value == stats.paired_loss_test(wins, losses, 252, 0.02).p_above
    assert stats.paired_loss_p_value(0, 15, 252, 0.02) <= 0.01
    assert stats.paired_loss_p_value(9, 29, 252, 0.02) <= 0.01
    assert stats.paired_loss_p_value(0, 4, 252, 0.02) == 1.0
    assert stats.paired_loss_p_value(2, 12, 252, 0.0) == pytest.approx(106 / 2**14)


def test_a_model_that_changes_no_answer_passes_with_few_examples():
    """Without a single discordant example 250 show that the loss is below two points."""
    assert stats.paired_loss_test(0, 0, 250, 0.02).shows_no_loss
    assert not stats.paired_loss_test(0, 0, 200, 0.02).shows_no_loss
