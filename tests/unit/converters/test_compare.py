"""Paired comparisons: their error rates, their intervals, and what they say when samples are few."""

import functools

import numpy as np
import pytest
from edgesdk_converters.evaluate import scores
from edgesdk_converters.evaluate.bootstrap import bootstrap
from edgesdk_converters.evaluate.compare import Question, compare
from edgesdk_converters.evaluate.looks import looks, order

from edgesdk.stats import paired_loss_test


def _noisy(random, count, bias):
    """Return absolute errors of a source and of an artifact whose mean error is larger by `bias`."""
    source = np.abs(random.normal(0, 1, count))
    return scores.mean_of(source), scores.mean_of(source + bias + random.normal(0, 0.2, count))


def test_errors_that_grow_are_a_loss_where_less_is_better():
    """For an error, more is worse; the interval is of the artifact minus the source, in the metric's own unit."""
    source, artifact = _noisy(np.random.default_rng(1), 500, 0.3)
    found = compare(source, artifact, 500, Question(greater=False, unit=2.0, margin=0.02, alpha=0.01))
    assert found.method == "t"
    assert found.loss == pytest.approx(0.15, abs=0.02)
    assert found.p_above < 1e-6 < found.p_below
    assert found.interval[0] < 0.3 < found.interval[1]


def test_t_values_agree_with_scipy():
    """The p-values and the interval are those of the paired t-test."""
    stats = pytest.importorskip("scipy.stats")
    source, artifact = _noisy(np.random.default_rng(3), 60, 0.02)
    found = compare(source, artifact, 60, Question(greater=False, margin=0.01, alpha=0.01))
    expected = stats.ttest_1samp(artifact.samples - source.samples, 0.01, alternative="greater")
    assert found.p_above == pytest.approx(expected.pvalue, abs=1e-6)
    low, high = stats.ttest_1samp(artifact.samples - source.samples, 0.0).confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high), abs=1e-6)


def test_the_bootstrap_agrees_with_t_where_both_apply():
    """The BCa interval of a mean is nearly the t interval; the p-value at its end is nearly half its alpha."""
    random = np.random.default_rng(4)
    source, artifact = _noisy(random, 400, 0.05)
    question = Question(greater=False, margin=0.02, alpha=0.01)
    exact = compare(source, artifact, 400, question)
    whole = [scores.Scored(value=each.value) for each in (source, artifact)]
    drawn = compare(*whole, 400, question)
    assert (drawn.method, drawn.loss) == ("bootstrap", pytest.approx(exact.loss))
    assert drawn.interval == pytest.approx(exact.interval, abs=0.003)
    resampled = bootstrap(lambda rows: artifact.value(rows) - source.value(rows), 400)
    assert resampled.below(drawn.interval[1]) == pytest.approx(0.025, abs=0.005)


def test_a_limit_far_away_is_shown_even_where_the_metric_is_skewed():
    """One outlier makes the acceleration large, and BCa's tail short: a limit a hundred deviations away is passed."""
    errors = np.full(400, 1e-4)
    errors[7] = 0.2
    worse = scores.Scored(value=lambda rows: 1 - float(np.mean(errors[rows])))
    best = scores.Scored(value=lambda _rows: 1.0)
    found = compare(best, worse, 400, Question(margin=0.3, alpha=0.01))
    assert found.p_below <= 0.001
    assert found.p_above >= 0.99


def test_few_samples_show_nothing_by_approximate_methods():
    """Under thirty samples neither a pass nor a refusal is shown; the same artifact with more is passed."""
    for count, shown in ((20, False), (200, True)):
        same = scores.mean_of(np.random.default_rng(1).normal(size=count))
        found = compare(same, same, count, Question(greater=False, margin=0.02, alpha=0.01))
        assert (found.p_below <= 0.01) is shown
        assert found.p_above > 0.01


def test_says_about_how_many_numbers_would_decide():
    """The number that is named decides, at the same rates."""
    random = np.random.default_rng(6)
    source = random.normal(size=4000)
    artifact = source + random.normal(0.0, 0.5, 4000)
    question = Question(greater=False, margin=0.05, alpha=0.01)
    few = compare(scores.mean_of(source[:100]), scores.mean_of(artifact[:100]), 100, question)
    assert few.needed is not None
    again = [scores.mean_of(np.resize(each[:100], few.needed)) for each in (source, artifact)]
    enough = compare(*again, few.needed, question)
    assert min(enough.p_above, enough.p_below) <= 0.012


def test_looks_double_and_spend_alpha_exactly():
    """The looks see ever more samples, the last all; their shares of alpha sum to one, most of it at the end."""
    for count in (1, 100, 255, 256, 1000, 2267, 50_000):
        taken = looks(count)
        assert taken[-1].samples == count
        assert sum(look.share for look in taken) == pytest.approx(1)
        assert taken[-1].share >= 0.74
        assert [look.number for look in taken] == list(range(1, len(taken) + 1))
        assert sorted(order(count).tolist()) == list(range(count))


@pytest.mark.parametrize(("p_win", "margin"), [(0.0, 0.05), (0.03, 0.05), (0.1, 0.05)])
def test_all_looks_together_keep_the_error_rate(p_win, margin):
    """An artifact at the very margin, looked at until something is shown, is refused, and passed, in at most alpha."""
    random = np.random.default_rng(8)
    alpha, runs, taken = 0.05, 500, looks(512)
    judge = functools.cache(paired_loss_test)
    refused = passed = 0
    for _ in range(runs):
        drawn = random.random(512)
        wins, losses = np.cumsum(drawn < p_win), np.cumsum((drawn >= p_win) & (drawn < 2 * p_win + margin))
        for look in taken:
            at = look.samples - 1
            verdict = judge(int(wins[at]), int(losses[at]), look.samples, margin, alpha * look.share)
            if verdict.shows_loss or verdict.shows_no_loss:
                refused, passed = refused + verdict.shows_loss, passed + verdict.shows_no_loss
                break
    # 500 runs: three standard errors above 5 % are 7.9 %.
    assert refused / runs <= 0.079
    assert passed / runs <= 0.079
