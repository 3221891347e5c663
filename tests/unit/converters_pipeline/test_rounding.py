"""Weights rounded by what their layer reads: the arithmetic alone."""

from __future__ import annotations

import numpy as np
import pytest
from edgesdk_converters.passes.rounding import round_layer, scales_of
from hypothesis import given, settings
from hypothesis import strategies as st

MOST = 7
"""Four bits: rounding costs much, and what is gained shows."""


def problem(seed, groups=1, channels=4, inputs=9, samples=400, *, biased=True):
    """Weights, and moments of inputs that depend on each other and have a mean, of two halves of the samples."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(groups, channels, inputs))
    mixing, mean = random.normal(size=(groups, inputs, inputs)), 2 * random.normal(size=(groups, inputs, 1))
    read = mixing @ random.normal(size=(groups, inputs, 2 * samples)) + mean
    if biased:
        read = np.concatenate([read, np.ones((groups, 1, 2 * samples))], axis=1)
    halves = read[:, :, :samples], read[:, :, samples:]
    return weights, *(half @ half.transpose(0, 2, 1) for half in halves)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5), st.integers(1, 80), st.booleans())
def test_weights_are_on_the_grid_that_a_quantizer_finds_in_them(seed, groups, channels, inputs, biased):
    """Whole multiples of a scale that is the same before and after, and no judge finds them worse than the nearest."""
    weights, teaching, judging = problem(seed, groups, channels, inputs, 100, biased=biased)
    rounded = round_layer(weights, teaching, judging, MOST)
    scales = scales_of(weights, MOST)
    assert scales_of(rounded.weights, MOST) == pytest.approx(scales)
    whole = rounded.weights / scales[:, :, None]
    assert whole == pytest.approx(np.rint(whole))
    assert np.abs(whole).max() <= MOST + 1e-9
    assert rounded.loss <= rounded.nearest
    assert biased or not rounded.bias.any()


def test_the_loss_is_what_the_outputs_show():
    """The figure that is told is the square error of the layer's outputs on the judging samples, bias included."""
    random = np.random.default_rng(1)
    read = np.concatenate([random.normal(1, 1, size=(6, 50)), np.ones((1, 50))])
    moments = (read @ read.T)[None]
    weights = random.normal(size=(1, 3, 6))
    rounded = round_layer(weights, moments, moments, MOST)
    change = np.concatenate([rounded.weights - weights, rounded.bias[:, :, None]], axis=2)[0]
    assert rounded.loss == pytest.approx(((change @ read) ** 2).sum())
    nearest = np.clip(np.rint(weights / scales_of(weights, MOST)[:, :, None]), -MOST, MOST)
    plain = (nearest * scales_of(weights, MOST)[:, :, None] - weights)[0]
    assert rounded.nearest == pytest.approx(((plain @ read[:-1]) ** 2).sum())


def test_new_samples_show_much_less_of_the_error():
    """Where inputs depend on each other, the outputs on samples that neither taught nor judged are nearer to float."""
    gains = []
    for seed in range(8):
        weights, teaching, judging = problem(seed)
        _weights, fresh, _again = problem(seed, samples=900)
        rounded = round_layer(weights, teaching, judging, MOST)
        plain = np.rint(weights / scales_of(weights, MOST)[:, :, None]) * scales_of(weights, MOST)[:, :, None]
        change = np.concatenate([rounded.weights - weights, rounded.bias[:, :, None]], axis=2)
        before = np.concatenate([plain - weights, np.zeros_like(rounded.bias)[:, :, None]], axis=2)
        gains.append(np.sum((before @ fresh) * before) / np.sum((change @ fresh) * change))
    assert np.median(gains) > 2
    assert min(gains) > 1


def test_too_few_samples_never_make_it_worse_for_the_judges():
    """Two samples for forty inputs teach nothing; other samples judge, and the nearest stays where it is better."""
    weights, _taught, judging = problem(3, inputs=40, biased=False)
    random = np.random.default_rng(4)
    few = random.normal(size=(1, 40, 2))
    rounded = round_layer(weights, few @ few.transpose(0, 2, 1), judging, MOST)
    assert rounded.loss <= rounded.nearest


def test_a_channel_of_zeros_stays_zero():
    """No division by nothing, and nothing becomes of nothing."""
    weights, teaching, judging = problem(5)
    weights[0, 1] = 0
    rounded = round_layer(weights, teaching, judging, MOST)
    assert np.abs(rounded.weights[0, 1]).max() < 1e-9


def test_inputs_that_are_not_finite_teach_nothing():
    """An infinity in a mask, or moments that overflow, leave every weight at its nearest, and all figures finite."""
    weights, teaching, judging = problem(6)
    teaching[0, 0, 0] = np.inf
    rounded = round_layer(weights, teaching, judging, MOST)
    scales = scales_of(weights, MOST)[:, :, None]
    assert np.array_equal(rounded.weights, np.rint(weights / scales) * scales)
    assert not rounded.bias.any()
    assert (rounded.nearest, rounded.loss) == (0, 0)
