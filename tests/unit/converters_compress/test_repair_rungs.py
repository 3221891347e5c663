"""The ladder's decisions: which rungs, at which error rate, from which recipes, and which points stand out."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from edgesdk_converters import ALPHA
from edgesdk_converters.plan import Plan
from edgesdk_converters.recipes import RECIPES
from edgesdk_converters.repair import Point, alpha_of, changed, front, merged, pareto, rungs
from edgesdk_converters.steps import Ref, Step
from hypothesis import given
from hypothesis import strategies as st

NOISY = [f"layer_{number}" for number in range(20)]


def test_rungs_follow_the_recipe_and_the_target():
    """What is not calibrated has no ladder; 7-bit weights help only where x86 saturates; 16 bits only 8-bit recipes."""
    assert rungs(RECIPES["float"], "tflite", x86=True) == ("asked",)
    assert rungs(RECIPES["int8-dynamic"], "onnx", x86=True) == ("asked",)
    ranges, islands = ("percentile", "mse"), ("island", "islands", "archipelago")
    assert rungs(RECIPES["int8"], "onnx", x86=True) == ("asked", *ranges, "16-bit", *islands)
    fast = RECIPES["int8-per-channel-fast"]
    assert rungs(fast, "onnx", x86=True)[1] == "7-bit"
    assert "7-bit" not in rungs(fast, "onnx", x86=False)
    assert "16-bit" not in rungs(RECIPES["int16x8"], "tflite", x86=True)


@given(st.integers(1, 12))
def test_the_error_rates_of_all_rungs_make_the_gates(count):
    """Bonferroni: however many rungs there are, together they spend the gate's alpha and no more."""
    spent = [alpha_of(place, count) for place in range(count)]
    assert sum(spent) == pytest.approx(ALPHA)
    assert spent[0] >= max(spent)


def test_each_rung_changes_one_thing():
    """A rung's recipe has a name of its own, is for one format, and keeps what was asked otherwise."""
    asked = RECIPES["int8"]
    percentile = changed(asked, "percentile", "onnx", NOISY, "mse")
    assert (percentile.name, percentile.calibration_range, percentile.tflite) == ("int8-percentile", "percentile", None)
    assert percentile.onnx == asked.onnx
    assert changed(asked, "16-bit", "tflite", NOISY, "mse").precision == "int16x8"
    assert changed(asked, "16-bit", "onnx", NOISY, "mse").onnx.activations == "uint16"
    assert changed(RECIPES["int8-per-channel-fast"], "7-bit", "onnx", [], "minmax").onnx.reduce_range
    assert changed(asked, "asked", "onnx", NOISY, "mse") == replace_formats(asked)


def replace_formats(recipe):
    """The recipe as asked, for ONNX only."""
    return msgspec.structs.replace(recipe, tflite=None)


def test_islands_are_the_noisiest_layers():
    """One, three, then a quarter of all; without known layers, or where a quarter is no more, there is no rung."""
    asked = RECIPES["int8"]
    assert changed(asked, "island", "tflite", NOISY, "mse").float_layers == ("layer_0",)
    assert changed(asked, "island", "tflite", NOISY, "mse").calibration_range == "mse"
    assert len(changed(asked, "islands", "tflite", NOISY, "mse").float_layers) == 3
    assert len(changed(asked, "archipelago", "tflite", NOISY, "mse").float_layers) == 5
    assert changed(asked, "archipelago", "tflite", NOISY[:12], "mse") is None
    assert changed(asked, "island", "tflite", [], "mse") is None


def test_names_stay_within_the_limit():
    """A long name is cut, and the rung's ending stays."""
    asked = replace_name(RECIPES["int8"], "a" * 39)
    assert changed(asked, "archipelago", "onnx", NOISY, "mse").name == "a" * 28 + "-archipelago"


def replace_name(recipe, name):
    return msgspec.structs.replace(recipe, name=name)


def point(recipe, loss, size, speedup):
    return Point(rung="asked", recipe=recipe, passed=True, loss=loss, size=size, speedup=speedup)


def test_the_front_holds_what_nothing_beats():
    """A point is left out only if another is no worse in loss, bytes and speed, and better in one of them."""
    points = [
        point("float", 0.0, 100, 1.0),
        point("int8", 0.03, 25, 2.0),
        point("worse", 0.04, 30, 1.5),
        point("twin", 0.03, 25, 2.0),
        point("wide", 0.01, 30, 0.9),
        Point(rung="mse", recipe="failed", passed=False),
    ]
    assert [each.recipe for each in front(points)] == ["float", "int8", "twin", "wide"]


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.integers(1, 9), st.floats(0.1, 4)), max_size=12))
def test_every_point_off_the_front_is_beaten_by_one_on_it(figures):
    """The front leaves out nothing that a person could prefer."""
    points = [point(str(number), *each) for number, each in enumerate(figures)]
    best = front(points)
    for each in points:
        assert each in best or any(
            other.loss <= each.loss and other.size <= each.size and other.speedup >= each.speedup for other in best
        )


def test_the_report_says_what_was_tried_and_chosen():
    """Points, front, choice and the correction stand under the variant that was asked for."""
    tried = [point("int8", 0.03, 25, 2.0), replace(point("int8-mse", 0.001, 25, 2.0), rung="mse")]
    told = pareto({"here": tried})["here"]
    assert told["chosen"] == "int8-mse"
    assert told["front"] == ["int8-mse"]
    assert "Bonferroni" in told["correction"]


def step(name, inputs, **params):
    return Step(name=name, action="a:b", inputs=inputs, params=params)


def test_plans_of_different_rungs_are_merged_without_mixing():
    """Equal steps become one; of two that only share a name the later is renamed, with everything that reads it."""
    one = Plan(steps=(step("see", {}, n=1), step("use", {"x": Ref(step="see", file="f")})), variants=())
    two = Plan(steps=(step("see", {}, n=2), step("use", {"x": Ref(step="see", file="f")})), variants=())
    steps = {each.name: each for each in merged([one, two, one]).steps}
    assert set(steps) == {"see", "use", "see (2)", "use (2)"}
    assert steps["use"].inputs["x"].step == "see"
    assert steps["use (2)"].inputs["x"].step == "see (2)"
