"""What the float model says about mistakes that were made in both sets."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from edgesdk_converters.calibration.doctor import examine
from edgesdk_converters.calibration.statistics import summarise

from edgesdk.contract import Normalisation


@pytest.fixture
def model(images):
    """A classifier of pictures by the nearest mean picture, as sure as it is near."""
    known = images.judged / 255
    means = np.stack([known[images.judged_y == label].mean(axis=0) for label in range(4)])

    def scores(rows: np.ndarray) -> np.ndarray:
        distance = ((rows[:, None] / 255 - means) ** 2).sum(axis=(2, 3, 4))
        likely = np.exp(-distance)
        return likely / (likely.sum(axis=1, keepdims=True) + 0.05)

    return scores


def both(images, change, model, *, labelled: bool):
    """Make the same mistake in calibration and evaluation data, and examine."""
    sets = [
        summarise(images.contract, {"x": change(x)}, y if labelled else None)
        for x, y in ((images.x, images.y), (images.judged, images.judged_y))
    ]
    return examine(sets[0], images.contract, sets[1], model)


def test_clean_data_and_its_model_agree(images, model):
    """Nothing is said about clean data, with labels and without."""
    for labelled in (True, False):
        assert both(images, lambda x: x, model, labelled=labelled).findings == ()


def test_a_mistake_in_both_sets_is_told_by_the_models_accuracy(images, model):
    """Pictures on their side in both sets: the sets agree, the model does not."""
    lying = both(images, lambda x: x.transpose(0, 2, 1, 3), model, labelled=True)
    assert [(f.code, f.severity) for f in lying.findings] == [("calibration-layout", "refuse")]
    assert "24% right, and 94% when it is undone" in lying.findings[0].what
    assert both(images, lambda x: x.transpose(0, 2, 1, 3), None, labelled=True).findings == ()


def test_without_labels_confidence_only_warns(images, model):
    """A model that is surer of nearly every row when colours are reversed is a hint, no proof."""
    reversed_colours = both(images, lambda x: x[..., ::-1], model, labelled=False)
    assert [(f.code, f.severity) for f in reversed_colours.findings] == [("calibration-colour", "warn")]


@pytest.mark.parametrize("labelled", [True, False])
def test_both_sets_normalised_alike(images, model, labelled):
    """Beside each other both sets look clean; beside the contract they do not, whether or not a model is asked."""

    def normalised(x: np.ndarray) -> np.ndarray:
        means = images.contract.inputs[0].normalisation
        return (x - np.float32(means.mean)) / np.float32(means.std)

    free = msgspec.structs.replace(images.contract.inputs[0], range=None)  # a range would show it at once
    wide = replace(images, contract=msgspec.structs.replace(images.contract, inputs=(free,)))
    for asked in (model, None):
        told = [f for f in both(wide, normalised, asked, labelled=labelled).findings if "too" in f.what]
        assert [(f.code, f.severity) for f in told] == [("calibration-double-normalised", "refuse")]
        assert both(wide, lambda x: x, asked, labelled=labelled).findings == ()


def test_a_model_that_is_right_as_it_is_keeps_figures_that_do_not_fit_from_refusing(images, model):
    """A contract whose mean and deviation are not the data's: the model's accuracy says that it means them."""
    odd = Normalisation(mean=(-400.0,) * 3, std=(300.0,) * 3)
    spec = msgspec.structs.replace(images.contract.inputs[0], range=None, normalisation=odd)
    lying = replace(images, contract=msgspec.structs.replace(images.contract, inputs=(spec,)))

    def standard(x: np.ndarray) -> np.ndarray:
        return (x - images.x.mean()) / images.x.std()

    def right(rows: np.ndarray) -> np.ndarray:
        return model(rows * images.x.std() + images.x.mean())

    told = [f for f in both(lying, standard, right, labelled=True).findings if "too" in f.what]
    assert [(f.code, f.severity) for f in told] == [("calibration-double-normalised", "warn")]
