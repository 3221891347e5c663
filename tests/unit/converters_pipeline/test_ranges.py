"""Ranges: gathered from a stream, chosen by rule."""

from __future__ import annotations

import numpy as np
import pytest
from edgesdk_converters.passes.ranges import BINS, Values, choose, gather
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgesdk.errors import ReleaseError

SAMPLES = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.integers(1, 20)), elements=st.floats(-99, 99, width=32)
)


def walk_of(samples):
    return lambda: ({"t": sample} for sample in samples)


def gathered(samples) -> Values:
    return gather(walk_of(samples), count=True)["t"]


def by(rule, values, **changes):
    return choose(values, rule, **{"percentile": 99.0, "bits": 8, "symmetric": False, **changes})


@given(SAMPLES)
def test_true_extremes_and_every_value_counted_in_any_order(samples):
    """Minimum and maximum are the true ones; each value is in a bin; the order of samples plays no part."""
    values = gathered(samples)
    assert (values.low, values.high) == (samples.min(), samples.max())
    assert sum(values.counts) == (samples.size if values.low < values.high else 0)
    assert gathered(samples[::-1]) == values


def test_memory_does_not_grow_with_the_samples():
    """What is kept of a tensor is two numbers and the bins, however many samples pass."""
    sample = np.linspace(-1, 1, 500, dtype=np.float32)
    for count in (1, 3000):
        kept = gather(lambda count=count: ({"t": sample} for _ in range(count)), count=True)
        assert len(kept["t"].counts) == BINS


@given(SAMPLES, st.sampled_from(["minmax", "percentile", "mse"]), st.booleans())
def test_every_rule_gives_a_range_that_holds_zero(samples, rule, symmetric):
    """Zero is always representable, and no rule goes beyond what occurred (made symmetric where asked)."""
    values = gathered(samples)
    low, high = by(rule, values, symmetric=symmetric)
    widest = max(abs(values.low), abs(values.high)) * (1 + 1e-6)
    assert -widest <= low <= 0 <= high <= widest


@given(SAMPLES)
def test_percentile_keeps_what_it_promises(samples):
    """At least the stated percentage of values lies within."""
    low, high = by("percentile", gathered(samples), percentile=90.0)
    inside = (samples >= low - 1e-4) & (samples <= high + 1e-4)
    assert inside.mean() >= 0.9 - 1e-9


def test_percentile_and_mse_cut_off_a_lone_outlier_and_minmax_does_not():
    """One value in a million, ten times beyond the others, decides the range by minimum and maximum only."""
    samples = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    samples[3, 7] = 40
    values = gathered(samples)
    assert by("minmax", values)[1] == 40
    assert by("percentile", values, percentile=99.9)[1] < 10
    assert by("mse", values)[1] < 20


def test_mse_loses_less_than_minmax():
    """The square error of quantized values is smaller by the range of least error, measured and not estimated."""
    samples = np.random.default_rng(1).standard_t(2, size=(200, 500)).astype(np.float32)
    values = gathered(samples)

    def error(low, high):
        scale = (high - low) / 255
        levels = np.clip(np.rint(samples / scale), np.rint(low / scale), np.rint(high / scale))
        return float(((levels * scale - samples) ** 2).mean())

    assert error(*by("mse", values)) < 0.9 * error(*by("minmax", values))


def test_minus_infinity_of_masks_and_paddings_is_no_value():
    """A mask of -inf or of the most negative float does not widen the range."""
    for nothing in (-np.inf, np.finfo(np.float32).min):
        values = gathered(np.array([[nothing, 1, 2]], np.float32))
        assert (values.low, values.high) == (1, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_the_tensor(bad):
    """A float model that overflows on calibration data is refused by the name of the tensor."""
    with pytest.raises(ReleaseError, match="in 't'"):
        gathered(np.array([[0, bad]], np.float32))
