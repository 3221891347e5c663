"""A float model that guesses, or names classes in another order, is told from one that knows something."""

from __future__ import annotations

import numpy as np
import pytest
from edgesdk_converters.evaluate.metrics import NO_ANSWER
from edgesdk_converters.evaluate.source import at_random, suspect
from edgesdk_converters.evaluate.tried import best
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

LABELS = ("cat", "dog", "owl", "pig")


def drawn(seed: int, rows: int = 2000) -> NDArray[np.int64]:
    """Classes of rows, not equally often."""
    return np.random.default_rng(seed).choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])


def noisy(truth: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Answers of which a share is drawn at random."""
    generator = np.random.default_rng(seed)
    return np.where(generator.random(len(truth)) < share, generator.integers(0, 4, len(truth)), truth)


@given(st.integers(0, 2**16), st.integers(30, 60))
def test_mean_and_deviation_are_those_of_shuffled_answers(seed: int, rows: int) -> None:
    """The formula agrees with 400 shuffles, rows without an answer included."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(4, rows)
    answers = np.where(generator.random(rows) < 0.2, NO_ANSWER, generator.choice(4, rows, p=[0.7, 0.1, 0.1, 0.1]))
    mean, deviation = at_random(answers, truth, 4)
    hits = [np.count_nonzero(generator.permutation(answers) == truth) for _ in range(400)]
    assert abs(np.mean(hits) - mean) < 5 * deviation / 20 + 1e-9
    assert deviation * 0.75 - 0.05 < np.std(hits) < deviation * 1.3 + 0.05


@pytest.mark.parametrize("answers", ["one class", "at random", "none", "hardly better"])
def test_who_guesses_is_suspected(answers: str) -> None:
    """One class for all, chance, no answer at all, and an advantage too small to be of use."""
    truth = drawn(1, 20_000)
    given_answers = {
        "one class": np.zeros_like(truth),
        "at random": drawn(2, 20_000),
        "none": np.full_like(truth, NO_ANSWER),
        "hardly better": noisy(truth, 0.97, 3),
    }[answers]
    found = suspect(given_answers, truth, LABELS)
    assert found is not None
    assert not found.moved
    assert "guessing" in found.reason


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.8])
def test_who_knows_something_is_not(share: float) -> None:
    """Four fifths of noise are still no guessing."""
    truth = drawn(4)
    assert suspect(noisy(truth, share, 5), truth, LABELS) is None


def test_a_rare_class_is_no_reason() -> None:
    """A detector of one row in fifty that finds half of them is of use, though always saying no is right as often."""
    generator = np.random.default_rng(6)
    truth = (generator.random(4000) < 0.02).astype(np.int64)
    answers = np.where(truth == 1, generator.random(4000) < 0.5, generator.random(4000) < 0.01).astype(np.int64)
    assert suspect(answers, truth, ("no", "yes")) is None


def test_exchanged_labels_are_named() -> None:
    """Two names that changed places, or a circle of three, are told, also where most rows are right."""
    truth = drawn(7)
    swapped = np.array([0, 1, 3, 2])[noisy(truth, 0.3, 8)]
    found = suspect(swapped, truth, LABELS)
    assert found is not None
    assert found.moved == {"owl": "pig", "pig": "owl"}
    assert "another order" in found.reason
    circle = suspect(np.array([1, 2, 0, 3])[noisy(truth, 0.3, 9)], truth, LABELS)
    assert circle is not None
    assert circle.moved == {"cat": "dog", "dog": "owl", "owl": "cat"}


def test_a_class_that_is_taken_for_another_is_no_order() -> None:
    """Every pig is called an owl: a weakness of the model, as no owl is called a pig."""
    truth = drawn(10)
    answers = np.where(truth == 3, 2, truth)
    assert suspect(answers, truth, LABELS) is None


def test_too_little_says_nothing() -> None:
    """Few rows, or one class only."""
    assert suspect(np.zeros(29, np.int64), drawn(11, 29), LABELS) is None
    assert suspect(np.zeros(500, np.int64), np.ones(500, np.int64), LABELS) is None


def test_rows_without_a_class_are_left_out() -> None:
    """A truth below 0 stands for none."""
    truth = np.concatenate([drawn(12), np.full(5000, -1)])
    answers = np.concatenate([drawn(12), np.zeros(5000, np.int64)])
    assert suspect(answers, truth, LABELS) is None


def test_clean_sets_are_hardly_ever_suspected() -> None:
    """Of 300 weak models (three fifths noise), judged on 200 rows each, none looks like guessing."""
    alarms = 0
    for seed in range(300):
        truth = drawn(seed, 200)
        alarms += suspect(noisy(truth, 0.6, seed + 1000), truth, LABELS) is not None
    assert alarms == 0


@pytest.mark.parametrize(
    ("other", "expected"), [(150, "normalised already"), (159, "normalised already"), (180, "other")]
)
def test_data_that_looks_normalised_is_blamed_where_nothing_else_is_far_better(other: int, expected: str) -> None:
    """A few rows more by the data's own figures change nothing; exchanged colours may matter more."""
    found = [
        {"way": "normalised already", "right": 150, "rows": 200, "doubled": True},
        {"way": "other", "right": other, "rows": 200, "doubled": False},
    ]
    assert best(found)["way"] == expected
    assert best([]) == {}
