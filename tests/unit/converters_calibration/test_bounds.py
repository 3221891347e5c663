"""The bounds behind the thresholds hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from edgesdk_converters.calibration.rules import rows_needed
from edgesdk_converters.calibration.scale import median_bounds
from edgesdk_converters.calibration.structure import structure


@pytest.mark.parametrize(("coverage", "rows"), [(0.90, 46), (0.95, 93), (0.99, 473)])
def test_wilks_numbers_are_those_of_the_tables(coverage, rows):
    """Two-sided tolerance limits at 95 % confidence need 46, 93 and 473 samples (Wilks 1941)."""
    assert rows_needed(coverage, 0.95) == rows


@pytest.mark.parametrize("count", [12, 60, 1500])
def test_median_bounds_hold_the_median(count):
    """Of 2,000 samples at most the stated share of bounds lies beside the median, on each side."""
    rng, alpha = np.random.default_rng(3), 0.05
    bounds = [median_bounds(rng.exponential(size=count), alpha) for _ in range(2000)]
    above = np.mean([low > np.log(2) for low, _ in bounds])
    below = np.mean([high < np.log(2) for _, high in bounds])
    assert max(above, below) < alpha + 0.02


def test_too_few_values_have_no_bounds():
    """Three values cannot bound a median at 1 in 1,000."""
    assert median_bounds(np.array([1.0, 2.0, 3.0]), 0.001) == (0.0, np.inf)


def test_independent_places_have_no_structure_whatever_their_distribution():
    """Schott's statistic has mean 0 and the stated deviation for independent columns of any distribution."""
    rng = np.random.default_rng(4)
    found = [structure(rng.standard_cauchy((60, 20))) for _ in range(200)]
    scores = np.array([each.strength / each.error for each in found])
    assert abs(scores.mean()) < 0.25
    assert 0.8 < scores.std() < 1.2


def test_smooth_rows_have_structure():
    """Values side by side that depend on each other are far beyond chance."""
    rng = np.random.default_rng(4)
    found = structure(np.cumsum(rng.normal(size=(60, 20)), axis=1))
    assert found.strength > 10 * found.error
