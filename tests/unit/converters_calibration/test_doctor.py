"""The calibration doctor: each planted fault by its name, and silence about clean data."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from edgesdk_converters.calibration.doctor import examine, refuse
from edgesdk_converters.calibration.statistics import summarise
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.contract import Contract, Normalisation, TensorSpec
from edgesdk.errors import ConfigError


def test_clean_data_is_fit(world):
    """Rows of the population that judges are not refused or warned about, with labels, without, and alone."""
    for labels in (world.y, None):
        assert world.examine(world.x, labels).findings == ()
        assert world.examine(world.x, labels, alone=True).findings == ()


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("alone", [False, True])
def test_random_noise(world, kind, alone):
    """Random numbers in the range of the data, or with its means and deviations, are noise, seen alone too."""
    rng = np.random.default_rng(1)
    axes = tuple(range(world.x.ndim - 1))
    made = {
        "uniform": rng.uniform(world.x.min(), world.x.max(), world.x.shape),
        "normal": rng.normal(world.x.mean(axes), world.x.std(axes), world.x.shape),
    }
    assert "noise" in world.refused(made[kind].astype(np.float32), alone=alone)


def test_a_constant_input(world):
    """Zeros everywhere teach nothing; nothing else is said about them that would need values."""
    refused = world.refused(np.zeros_like(world.x))
    assert "constant" in refused
    assert not refused & {"noise", "layout", "colour", "range"}


def test_an_input_that_the_contract_declares_constant(world):
    """A range of one value says that an input (a sampling rate) never changes; the rest is examined as without it."""
    rate = TensorSpec(name="rate", shape=(), dtype="int64", range=(16_000, 16_000))
    contract = msgspec.structs.replace(world.contract, inputs=(*world.contract.inputs, rate))

    def refused(x, value=16_000):
        data = summarise(contract, {"x": x, "rate": np.full(len(x), value)}, world.y)
        beside = {"x": world.judged, "rate": np.full(len(world.judged), 16_000)}
        return {each.code for each in examine(data, contract, summarise(contract, beside, world.judged_y)).refusals}

    assert refused(world.x) == set()
    assert "calibration-constant" in refused(np.zeros_like(world.x))
    assert refused(world.x, 8_000)


def test_a_dead_channel(world):
    """One channel that stands still is refused beside data in which it moves, and only a warning alone."""
    dead = world.x.copy()
    dead[..., 1] = 3.0
    [finding] = [f for f in world.examine(dead, world.y).refusals if f.code == "calibration-constant"]
    assert "channel 1" in finding.where
    assert [f.severity for f in world.examine(dead, world.y, alone=True).findings] == ["warn"]


def test_blank_rows(images):
    """A quarter of black pictures is refused."""
    blank = images.x.copy()
    blank[::4] = 0
    assert "constant" in images.refused(blank, images.y)


def test_repeated_rows(world):
    """A few rows over and over are refused, and count as few."""
    assert {"repeated", "few"} <= world.refused(world.x[np.arange(160) % 8])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(world, value):
    """One NaN or infinity is named by its row, and the other rows are still looked at."""
    spoilt = world.x.copy()
    spoilt[17].flat[5] = value
    diagnosis = world.examine(spoilt, world.y)
    assert [finding.code for finding in diagnosis.findings] == ["calibration-not-finite"]
    assert "row 17" in diagnosis.findings[0].where


@pytest.mark.parametrize("factor", [0.01, 0.1, 10.0, 100.0])
def test_wrong_scale(world, factor):
    """Values ten or a hundred times too large or too small are refused."""
    assert world.refused(world.x * np.float32(factor), world.y) & {"range", "double-normalised", "not-normalised"}


def test_outside_the_contract(world):
    """A value outside the contract's range is named by its row."""
    spoilt = world.x.copy()
    spoilt[9].flat[0] = 300.0
    [finding] = world.examine(spoilt, world.y).refusals
    assert finding.code == "calibration-range"
    assert "row 9" in finding.where


@pytest.mark.parametrize(
    ("factor", "code"), [(2.0, "calibration-double-normalised"), (9.81, "calibration-range"), (30, "calibration-range")]
)
def test_values_that_no_normalisation_explains_are_first_a_matter_of_range(waves, factor, code):
    """Values in another unit, beyond the contract's range even when that is normalised, were not normalised twice."""
    halves = Normalisation(mean=(0.0,) * 3, std=(0.5,) * 3)
    spec = msgspec.structs.replace(waves.contract.inputs[0], range=(-9.0, 9.0), normalisation=halves)
    contract = msgspec.structs.replace(waves.contract, inputs=(spec,))
    data, judged = (summarise(contract, {"x": x}, None) for x in (waves.x * np.float32(factor), waves.judged))
    assert examine(data, contract, judged).findings[0].code == code


@pytest.mark.parametrize("alone", [False, True])
def test_double_normalised(world, alone):
    """Data that the contract's normalisation was applied to is recognised, beside evaluation data and without."""
    normalisation = world.contract.inputs[0].normalisation
    twice = (world.x - np.float32(normalisation.mean)) / np.float32(normalisation.std)
    assert "double-normalised" in world.refused(twice, world.y, alone=alone)


def test_divided_by_255_twice(images):
    """Pictures in 0..1 where the app passes 0..255 were normalised already."""
    assert "double-normalised" in images.refused(images.x / np.float32(255), images.y)


def test_not_normalised_pictures(images):
    """Pictures in 0..255 beside evaluation pictures in 0..1 were not normalised, said by name."""
    spec = msgspec.structs.replace(images.contract.inputs[0], range=(0.0, 1.0), normalisation=None)
    assert _refused(images, spec, images.x, images.judged / np.float32(255)) == {"calibration-not-normalised"}


def test_not_normalised_signals(waves):
    """Raw signals beside evaluation signals of mean 0 and deviation 1 were not normalised."""
    spec = msgspec.structs.replace(waves.contract.inputs[0], range=None, normalisation=None)
    axes = (0, 1)
    standard = (waves.judged - waves.judged.mean(axes)) / waves.judged.std(axes)
    assert _refused(waves, spec, waves.x, standard) == {"calibration-not-normalised"}


def _refused(world, spec: TensorSpec, x: np.ndarray, judged: np.ndarray) -> set[str]:
    contract: Contract = msgspec.structs.replace(world.contract, inputs=(spec,))
    sets = (summarise(contract, {"x": x}, world.y), summarise(contract, {"x": judged}, world.judged_y))
    return {finding.code for finding in examine(sets[0], contract, sets[1]).refusals}


def test_wrong_layout(world):
    """Rows whose channels were stored first and only reshaped are recognised."""
    axes = (0, world.x.ndim - 1, *range(1, world.x.ndim - 1))
    assert world.refused(world.x.transpose(axes).reshape(world.x.shape), world.y) == {"layout"}


def test_pictures_on_their_side(images):
    """Height and width exchanged are a wrong layout too."""
    assert images.refused(images.x.transpose(0, 2, 1, 3), images.y) == {"layout"}


def test_bgr_for_rgb(images):
    """Reversed colours are recognised by name."""
    assert images.refused(images.x[..., ::-1], images.y) == {"colour"}


def test_labels_among_the_inputs(world):
    """A value that is the label, and a one-hot label at the end of a row, are found at their place."""
    flat = world.x.reshape(len(world.x), -1)
    single, hot = flat.copy(), flat.copy()
    single[:, 7] = 10 * world.y
    hot[:, -4:] = np.eye(4, dtype=np.float32)[world.y]
    for spoilt in (single, hot):
        assert "leak" in world.refused(spoilt.reshape(world.x.shape), world.y)


def test_rows_that_also_judge(world):
    """A single row that is in both sets is found, whatever dtype it was stored in."""
    mixed = world.x.astype(np.float64)
    mixed[3] = world.judged[100]
    [finding] = world.examine(mixed, world.y).refusals
    assert finding.code == "calibration-overlap"
    assert finding.evidence == pytest.approx(1 / 160)


def test_too_few_rows(world):
    """Wilks: 46 rows hold 90 % of what comes with 95 % confidence, 93 hold 95 %."""
    assert world.refused(world.x[:45], world.y[:45]) == {"few"}
    assert [f.severity for f in world.examine(world.x[:46], world.y[:46]).findings] == ["warn"]
    assert world.examine(world.x[:93], world.y[:93]).findings == ()


@pytest.mark.parametrize("label", range(4))
def test_one_class(world, label):
    """Rows of one class are refused: by their labels, and without labels by what a classifier makes of them."""
    own = np.concatenate([world.x, world.judged])[np.concatenate([world.y, world.judged_y]) == label]
    for labels in (np.full(len(own), label), None):
        assert "one-class" in world.refused(own, labels)


def test_a_missing_class_is_a_warning(world):
    """Three of four classes still calibrate, with a word about the fourth."""
    kept = world.y != 2
    findings = world.examine(world.x[kept], world.y[kept]).findings
    assert [(f.code, f.severity) for f in findings] == [("calibration-one-class", "warn")]
    assert "'c'" in findings[0].what


def test_the_refusal_is_one_error_with_the_number_the_limit_and_the_fix(images):
    """What stops a conversion says what is wrong, where, how much against what, and what to do."""
    with pytest.raises(ConfigError) as caught:
        refuse(images.examine(images.x[..., ::-1], images.y), "calibration.npz")
    assert caught.value.code == "calibration-colour"
    assert "calibration.npz: input 'x': colours look like BGR" in caught.value.message
    assert "limit" in caught.value.message
    assert "Reverse" in caught.value.hint


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(93, 160), labelled=st.booleans())
@settings(max_examples=15, deadline=None)
def test_any_order_and_any_part_of_clean_rows_is_fit(world, seed, count, labelled):
    """Shuffles and random parts of clean rows are never refused."""
    rows = np.random.default_rng(seed).permutation(160)[:count]
    assert world.refused(world.x[rows], world.y[rows] if labelled else None) == set()


@given(seed=st.integers(0, 2**32 - 1), gain=st.floats(0.85, 1.18), offset=st.floats(-0.1, 0.1))
@settings(max_examples=15, deadline=None)
def test_small_natural_differences_are_tolerated(world, seed, gain, offset):
    """Another sensor's gain and offset, up to 18 % and a tenth of a deviation, are not taken for a mistake."""
    rows = np.random.default_rng(seed).permutation(160)[:120]
    axes = tuple(range(world.x.ndim - 1))
    moved = gain * world.x[rows] + offset * world.x.std(axes)
    moved = np.clip(moved, *world.contract.inputs[0].range)
    assert world.refused(moved.astype(np.float32), world.y[rows]) == set()
