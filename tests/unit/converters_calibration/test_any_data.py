"""The doctor answers about any data: odd shapes, several inputs, nothing finite, one row."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from edgesdk_converters.calibration.doctor import examine
from edgesdk_converters.calibration.statistics import Collector, summarise
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.contract import Contract, TensorSpec


def contract(*specs: TensorSpec) -> Contract:
    output = TensorSpec(name="scores", shape=(1, 2))
    return Contract(version="1.0", task="classification", labels=("a", "b"), inputs=specs, outputs=(output,))


ODD = np.array([0, 0, 1, 1, -3, 255, 1e-30, 3e38, -3e38, np.nan, np.inf, -np.inf], np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 4), max_size=4),
    rows=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    odd=st.integers(2, len(ODD)),
    labelled=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_it_never_fails_and_its_answer_is_json(seed, shape, rows, odd, labelled):
    """Whatever numbers come in whatever shape, there is a diagnosis that can be written down."""
    promised = contract(TensorSpec(name="x", shape=(1, *shape)))
    rng = np.random.default_rng(seed)
    data, evaluation = (
        summarise(promised, {"x": rng.choice(ODD[:odd], (count, *shape))}, np.arange(count) % 2 if labelled else None)
        for count in rows
    )
    for other in (evaluation, None):
        json.dumps(msgspec.to_builtins(examine(data, promised, other)), allow_nan=False)


def test_two_inputs_are_examined_each(waves):
    """With two inputs the fault is named by its input."""
    first = waves.contract.inputs[0]
    promised = contract(first, TensorSpec(name="extra", shape=(1, 3)))
    rng = np.random.default_rng(0)
    extra = rng.normal(size=(760, 1)) * [1, 2, 3] + rng.normal(size=(760, 3))
    real = summarise(promised, {"x": waves.judged, "extra": extra[160:]}, waves.judged_y % 2)
    clean = summarise(promised, {"x": waves.x, "extra": extra[:160]}, waves.y % 2)
    assert examine(clean, promised, real).findings == ()
    spoilt = summarise(promised, {"x": waves.x, "extra": extra[:160] * 50}, waves.y % 2)
    [finding] = examine(spoilt, promised, real).findings
    assert "input 'extra'" in finding.where


@given(cuts=st.lists(st.integers(1, 159), max_size=6, unique=True))
@settings(max_examples=20, deadline=None)
def test_statistics_do_not_depend_on_the_batches(waves, cuts):
    """One pass in any batches gives the moments, extremes and sample of the whole."""
    spec = waves.contract.inputs[0]
    collector = Collector(spec, 160, seed=0)
    edges = [0, *sorted(cuts), 160]
    for start, end in pairwise(edges):
        collector.add(waves.x[start:end], start, "float32")
    found = collector.finish()
    np.testing.assert_allclose(found.mean, waves.x.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.std, waves.x.std((0, 1)), rtol=1e-4)
    assert (found.low, found.high) == (pytest.approx(waves.x.min()), pytest.approx(waves.x.max()))
    np.testing.assert_array_equal(found.sample, waves.x[found.sample_rows])


def test_the_sample_is_bounded_however_many_rows_come(waves):
    """Of 5,000 rows at most 1,024 are kept."""
    rows = np.tile(waves.x, (32, 1, 1))[:5000]
    collector = Collector(waves.contract.inputs[0], 5000, seed=0)
    for start in range(0, 5000, 64):
        collector.add(rows[start : start + 64], start, "float32")
    assert len(collector.finish().sample) == 1024


@pytest.mark.parametrize(
    ("shape", "layout", "noisy"),
    [
        ((1, 8), None, False),
        ((1, 8), "NC", False),
        ((1, 1, 8), "NTC", False),
        ((1, 8), "NT", True),
        ((1, 4, 2), None, True),
    ],
)
def test_only_neighbours_in_space_or_time_must_be_alike(shape, layout, noisy):
    """Independent columns of a table are no noise; the same numbers as a series are."""
    promised = contract(TensorSpec(name="x", shape=shape, layout=layout))
    x = np.random.default_rng(3).normal(size=(400, *shape[1:])).astype(np.float32)
    found = examine(summarise(promised, {"x": x}, None), promised, None)
    assert ("calibration-noise" in {each.code for each in found.refusals}) == noisy
    assert any(each.startswith("noise in 'x'") for each in found.unchecked) != noisy
