"""The interval of a speed ratio: it covers, and it is the same every time."""

import numpy as np
import pytest
from edgesdk_converters.evaluate.checks import processor
from edgesdk_converters.evaluate.latency import interval


def test_the_interval_covers_the_true_ratio():
    """With rounds that scatter by a fifth, 95 % intervals of the median hold the truth nearly always."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        low, high = interval(1.5 * np.exp(random.normal(0, 0.2, 60)))
        held += low <= 1.5 <= high
    assert held >= 180


def test_one_slow_round_does_not_move_it():
    """A round in which the machine did something else is one of many."""
    steady = np.full(60, 2.0) + np.linspace(-0.01, 0.01, 60)
    disturbed = steady.copy()
    disturbed[7] = 0.05
    assert interval(disturbed) == pytest.approx(interval(steady), abs=0.01)
    assert interval(steady) == interval(steady)


def test_the_processor_has_a_name():
    """Figures are marked with what they were measured on."""
    assert processor()
