"""What testing decides about outputs and answers, without a runtime."""

import numpy as np
import pytest
from edgesdk_agent.workers.judging import (
    answered_label,
    compare_labels,
    compare_parity,
    judge_growth,
    judge_slowdown,
    judge_truth,
    not_comparable,
)
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.bundle.manifest import Tolerance
from edgesdk.contract import Contract, TensorSpec

CONTRACT = Contract(
    version="1.0",
    task="classification",
    inputs=(TensorSpec(name="x", shape=(1, 1)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
    labels=("a", "b"),
)


def parity(want: list[float], got: list[float], **tolerance: float) -> tuple[bool, float, float]:
    found = compare_parity({"y": np.array(want)}, {"y": np.array(got)}, {"y": Tolerance(**tolerance)})
    return found.passed, found.share, found.largest


def test_parity_is_within_absolute_plus_relative() -> None:
    """The rule of `Tolerance`, its share, and the largest difference for people."""
    assert parity([1, 100], [1.1, 101], absolute=0.1, relative=0.01) == (True, 1.0, 1.0)
    assert parity([1, 100], [1.1, 103], absolute=0.1, relative=0.01) == (False, 0.5, 3.0)
    assert parity([1, 100], [1.1, 103], absolute=0.1, relative=0.01, share=0.5)[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_never_pass(bad: float) -> None:
    """Not even with a tolerance that lets everything through."""
    assert not parity([1.0, 1.0], [bad, 1.0], absolute=1e300)[0]
    assert not parity([1.0, 1.0], [bad, 1.0], absolute=10)[0]


def test_another_shape_is_an_error() -> None:
    """Outputs of another shape cannot be compared."""
    with pytest.raises(ValueError, match="expected shape"):
        compare_parity({"y": np.zeros((2, 3))}, {"y": np.zeros((2, 2))}, {"y": Tolerance(absolute=1)})


def test_labels_are_names_and_nan_is_no_answer() -> None:
    """The largest score names the label; NaN or the wrong number of scores is wrong, whatever the truth."""
    assert answered_label(CONTRACT, {"y": np.array([[0.1, 0.9]])}) == "b"
    assert answered_label(CONTRACT, {"y": np.array([[np.nan, 0.9]])}) is None
    assert answered_label(CONTRACT, {"y": np.array([[0.1, 0.2, 0.7]])}) is None
    assert compare_labels(["b", None, "a"], ["b", "a", "b"]).tolist() == [True, False, False]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=400))
def test_a_truth_result_counts_rightly_and_never_refuses_a_better_model(answers: list[tuple[bool, bool]]) -> None:
    """Wins, losses and scores add up; without more losses than wins nothing is refused."""
    newcomer, other = (np.array(column, np.bool_) for column in zip(*answers, strict=True))
    found = judge_truth("incumbent", newcomer, other, margin=0.02, alpha=0.01)
    assert found.wins - found.losses == newcomer.sum() - other.sum()
    assert found.incumbent_score == other.mean()
    if found.losses <= found.wins:
        assert found.verdict == ("weak" if found.n < 200 else "passed")


def test_a_clear_loss_is_refused_however_few_the_examples() -> None:
    """Few examples are a weak judge only where they show nothing."""
    right, wrong = np.ones(60, np.bool_), np.zeros(60, np.bool_)
    assert judge_truth("anchor", wrong, right, margin=0.02, alpha=0.01).verdict == "refused"
    assert judge_truth("anchor", right, None, margin=0.02, alpha=0.01).verdict == "weak"
    assert not_comparable("incumbent").verdict == "weak"


def test_twice_the_time_is_refused_and_the_same_time_is_not() -> None:
    """The sign test refuses what is clearly above the factor, however noisy, and nothing at or below it."""
    random = np.random.default_rng(5)
    base, noise = random.uniform(1, 3, 100), random.lognormal(0, 0.2, (2, 100))
    slow = judge_slowdown(2 * base * noise[0], base * noise[1], factor=1.5, alpha=0.01)
    assert not slow.passed
    assert slow.ratio == pytest.approx(2, rel=0.1)
    assert judge_slowdown(base * noise[0], base * noise[1], factor=1.5, alpha=0.01).passed


def test_exactly_at_the_factor_is_refused_as_rarely_as_stated() -> None:
    """At the factor itself, the worst acceptable case, at most alpha of releases are refused."""
    random = np.random.default_rng(7)
    runs, alpha = 2000, 0.05
    refused = 0
    for _ in range(runs):
        mine, theirs = random.lognormal(0, 0.3, (2, 60))
        refused += not judge_slowdown(1.5 * mine, theirs, factor=1.5, alpha=alpha).passed
    assert refused / runs <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


def test_steady_growth_is_refused_and_one_step_is_not() -> None:
    """Memory that rises with every block is a leak; an allocator's one step, and what falls again, is none."""
    mebi = 1 << 20

    def passed(resident: list[int]) -> bool:
        return judge_growth(resident, 64, limit=1024, alpha=0.01).passed

    assert not passed([mebi * step for step in range(9)])
    assert passed([0, *[64 * mebi] * 8])
    assert passed([0, mebi] * 4 + [0])
    assert passed([4096 * step for step in range(9)]), "64 bytes a call are within the limit"
