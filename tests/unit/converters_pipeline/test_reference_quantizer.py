"""The reference quantizer follows its formula at every width."""

from __future__ import annotations

import numpy as np
import pytest
from edgesdk_converters.passes.reference import dequantize, quantize, quantize_with, scale_of
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConfigError

WIDTHS = st.integers(2, 16)
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def test_the_worked_example():
    """The example of the definition: four values at eight bits."""
    quantized, scale = quantize([0.23, -0.47, 0.91, 0.14], 8)
    assert quantized.tolist() == [32, -66, 127, 20]
    assert scale == pytest.approx(0.91 / 127)


@given(VALUES, WIDTHS)
def test_every_value_comes_back_within_half_a_step(values, bits):
    """At any width nothing is cut off, and the error of a value is at most half of S."""
    quantized, scale = quantize(values, bits)
    top = 2 ** (bits - 1)
    assert quantized.min() >= -top
    assert quantized.max() <= top - 1
    assert np.abs(dequantize(quantized, scale) - values).max() <= scale / 2 * (1 + 1e-9)


@given(VALUES, WIDTHS)
def test_the_range_is_used_to_one_of_its_ends(values, bits):
    """S is as small as it can be where zero is among the values: one end of the integers is reached."""
    quantized, _ = quantize([*values, 0.0], bits)
    top = 2 ** (bits - 1)
    assert not np.any(values) or quantized.max() == top - 1 or quantized.min() == -top


def test_a_scale_per_channel_is_that_of_each_channel_alone():
    """Quantizing along an axis is quantizing each channel by itself."""
    values = np.random.default_rng(0).normal(size=(3, 4, 5)) * np.array([1, 10, 100, 1000])[None, :, None]
    quantized, scale = quantize(values, 8, axis=1)
    assert scale.shape == (1, 4, 1)
    for channel in range(4):
        alone, own = quantize(values[:, channel], 8)
        assert (quantized[:, channel] == alone).all()
        assert scale[0, channel, 0] == own


def test_values_beyond_a_given_scale_are_cut_off():
    """With a scale of one's own, what does not fit meets the ends of the type."""
    assert quantize_with([-10, 0.4, 10], 0.01, 4).tolist() == [-8, 7, 7]


@pytest.mark.parametrize(("values", "bits"), [([1.0], 1), ([1.0], 17), ([np.nan], 8), ([], 8)])
def test_what_it_cannot_quantize_is_refused(values, bits):
    """Other widths, NaN and nothing at all are refused."""
    with pytest.raises(ConfigError):
        scale_of(values, bits)
