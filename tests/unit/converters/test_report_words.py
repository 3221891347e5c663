"""What people read of figures: one sign convention, and a recipe described for the format that it made."""

from __future__ import annotations

import msgspec
import pytest
from edgesdk_converters.recipes import RECIPES
from edgesdk_converters.report.words import change, described, is_share, rung_change


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_described_for_the_format_that_it_made(name: str) -> None:
    """What it does to the other format is not said: of `tflite · int8` nobody wants to read about QDQ."""
    recipe = msgspec.to_builtins(RECIPES[name])
    for made, foreign in (("tflite", ("QDQ", "ONNX", "7-bit")), ("onnx", ("TFLite", "takes and gives int8"))):
        if recipe[made] is not None:
            assert len(described(recipe, made)) > 10
            assert not [word for word in foreign if word in described(recipe, made)]


def test_what_a_repair_changed_is_said() -> None:
    """Ranges and islands, a few by their short names."""
    layers = [f"model/trunk/conv2d_{place}/Conv2D" for place in range(5)]
    recipe = {**msgspec.to_builtins(RECIPES["int8"]), "calibration_range": "mse", "float_layers": layers}
    words = described(recipe, "onnx")
    assert "ranges by least square error" in words
    assert "left in float: conv2d_0/Conv2D, conv2d_1/Conv2D, conv2d_2/Conv2D and 2 more" in words


def test_float16_says_what_stays_in_float32() -> None:
    """Operators are counted where the file was made; before, only that there may be some."""
    recipe = msgspec.to_builtins(RECIPES["float16"])
    whole = {**recipe, "onnx": {**recipe["onnx"], "tiny": "float16"}}
    ends = "float32 inputs and outputs"
    some = "float16 inside but for 3 of 5 operators, which stay in float32; " + ends
    assert described(recipe, "onnx", {"float32_operators": 3, "float_operators": 5}) == some
    assert described(recipe, "onnx", {"float32_operators": 0, "float_operators": 5}) == f"float16 inside; {ends}"
    assert described(recipe, "onnx").startswith("float16 inside but for what it cannot hold")
    assert described(whole, "onnx") == f"float16 inside; {ends}"


def test_a_change_is_artifact_minus_float() -> None:
    """In points where the metric is a share, in its own unit elsewhere; nothing is minus nothing."""
    assert change(-0.0012, (-0.004, 0.0016), share=True) == "-0.12 points (-0.40 to +0.16)"
    assert change(-0.00001, None, share=True) == "+0.00 points"
    assert change(0.5, (0.25, 0.75), share=False) == "+0.5 (+0.25 to +0.75)"


MORE, LESS = {"unit": 1.0, "greater": True}, {"unit": 2.0, "greater": False}
"""What is a loss of accuracy, and of an error whose labels deviate by 2."""


@pytest.mark.parametrize(
    ("point", "share", "expected"),
    [
        (
            {**MORE, "loss": 0.02, "value": 0.88, "source_value": 0.9, "interval": (0.01, 0.03)},
            True,
            "-2.00 (-3.00 to -1.00)",
        ),
        (
            {**MORE, "loss": 0.0, "value": 0.9, "source_value": 0.9, "interval": (-0.01, 0.03)},
            True,
            "+0.00 (-3.00 to +1.00)",
        ),
        ({**MORE, "loss": 0.0, "value": 0.9, "source_value": None, "interval": None}, True, "+0.00"),
        (
            {**LESS, "loss": 0.1, "value": 12.2, "source_value": 12.0, "interval": (0.05, 0.2)},
            False,
            "+0.2 (+0.1 to +0.4)",
        ),
        (
            {**LESS, "loss": 0.0, "value": 12.0, "source_value": 12.0, "interval": (-0.05, 0.2)},
            False,
            "+0 (-0.1 to +0.4)",
        ),
        ({"loss": None}, True, ""),
    ],
)
def test_the_losses_of_the_ladder_are_read_as_changes(point: dict, share: bool, expected: str) -> None:  # noqa: FBT001
    """The sign of the table above it, also of no loss: less accuracy is minus, more error is plus, in its own unit."""
    assert rung_change(point, share=share, unit=False) == expected


def test_a_metric_that_was_not_measured_is_a_share_unless_its_name_says_otherwise() -> None:
    """A refusal may hold no variant that was judged."""
    assert is_share({"variants": [], "metric": "f1"})
    assert not is_share({"variants": [], "metric": "rmse"})
    assert not is_share({"variants": [], "metric": "mine:angle"})
