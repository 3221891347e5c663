"""The ladder's decisions: which rungs, at which error rate, from which recipes, and which points stand out."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from edgesdk_converters import ALPHA
from edgesdk_converters.evaluate.alone import Alone, fewest
from edgesdk_converters.evaluate.gate import GateVerdict, Outcome
from edgesdk_converters.planning.joining import merged
from edgesdk_converters.planning.plan import Plan
from edgesdk_converters.recipes import (
    RECIPES,
    OnnxFloat16,
    OnnxStatic,
    OnnxWeights,
    Recipe,
    TfliteDynamic,
    TfliteWeights,
)
from edgesdk_converters.repair.ladder import loss_interval, pareto
from edgesdk_converters.repair.rungs import Asked, Heard, Point, alpha_of, changed, front, rungs
from edgesdk_converters.running.steps import Ref, Step
from hypothesis import given
from hypothesis import strategies as st

NOISY = [f"layer_{number}" for number in range(20)]


WEIGHTS = ("weights", "weights-island", "weights-islands", "weights-archipelago")
EVERY = Recipe(name="every", onnx=OnnxStatic())
"""As asked of ONNX before int8 meant the core."""


def heard(noisy=(), alone=None, ranges="mse"):
    """What the calibration data said."""
    return Heard(ranges=ranges, noisy=noisy, alone=alone)


def on(recipe, artifact_format, **more):
    """What a ladder is for."""
    return Asked(recipe=recipe, format=artifact_format, **more)


def costs(*noises):
    """Layers that cost these noises alone."""
    return [Alone(names=(f"conv_{number}",), noise=noise) for number, noise in enumerate(noises)]


def test_rungs_follow_the_recipe_and_the_target():
    """What is not calibrated has no ladder; 7-bit weights help only where x86 saturates; 16 bits only 8-bit recipes."""
    assert rungs(on(RECIPES["float"], "tflite", x86=True)) == ("asked",)
    assert rungs(on(RECIPES["int8-dynamic"], "onnx", x86=True)) == ("asked",)
    assert rungs(on(RECIPES["int8-weights"], "onnx", x86=True)) == ("asked",)
    ranges, islands = ("percentile", "mse"), ("island", "islands", "archipelago")
    assert rungs(on(RECIPES["int8"], "tflite", compiled=True)) == ("asked", *ranges, "16-bit", *islands)
    fast = RECIPES["int8-per-channel-fast"]
    assert rungs(on(fast, "onnx", x86=True))[1] == "7-bit"
    assert "7-bit" not in rungs(on(fast, "onnx"))
    assert "16-bit" not in rungs(on(RECIPES["int16x8"], "tflite", x86=True))


def test_weights_of_seven_bits_get_the_eighth_where_no_x86_runs_them():
    """`int8` is safe on every CPU; what is repaired for ARM alone need not be, from the second rung on."""
    arm = on(RECIPES["int8"], "onnx")
    assert rungs(arm)[:3] == ("asked", "8-bit", "percentile")
    assert [changed(arm, kind, heard()).onnx.reduce_range for kind in ("asked", "8-bit", "mse")] == [True, False, False]
    assert changed(arm, "8-bit", heard()).onnx.operators == "core"
    assert "8-bit" not in {*rungs(on(RECIPES["int8"], "onnx", x86=True)), *rungs(on(RECIPES["int8"], "tflite"))}
    assert "8-bit" not in {*rungs(on(RECIPES["int8-tensorrt"], "onnx")), *rungs(on(RECIPES["int8-qnn"], "onnx"))}


def test_onnx_on_a_cpu_leaves_arithmetic_in_float_and_at_last_all_of_it():
    """The core comes before the ranges unless it was asked for; a vendor's compiler gets 16 bits, as TFLite does."""
    last = ("percentile", "mse", "island", "islands", *WEIGHTS)
    assert rungs(on(EVERY, "onnx", x86=True)) == ("asked", "core", *last)
    assert rungs(on(RECIPES["int8"], "onnx", x86=True)) == ("asked", *last)
    compiled = rungs(on(EVERY, "onnx", compiled=True))
    assert "16-bit" in compiled
    assert not {"core", "weights"} & {*compiled, *rungs(on(RECIPES["int8-qnn"], "onnx"))}


def test_tflite_on_a_cpu_leaves_arithmetic_in_float_and_at_last_all_of_it():
    """As ONNX does, and with what LiteRT has kernels for: activations quantized on the fly, slow 16 bits at last."""
    floats = ("dynamic", "dynamic-island", *WEIGHTS)
    islands = ("percentile", "mse", "island", "islands")
    assert rungs(on(RECIPES["int8"], "tflite", x86=True)) == ("asked", "core", *islands, *floats, "16-bit")
    core = changed(on(RECIPES["int8-uint8-io"], "tflite"), "core", heard()).tflite
    assert (core.operators, core.inputs_outputs, core.activations) == ("core", "float32", "int8")
    costly = heard(alone=costs(0.01, 1e-9, 1e-9))
    dynamic = changed(on(RECIPES["int8"], "tflite"), "dynamic-island", costly)
    assert (dynamic.tflite, dynamic.float_layers) == (TfliteDynamic(), ("conv_0",))
    assert changed(on(RECIPES["int8"], "tflite"), "weights", heard()).tflite == TfliteWeights()
    assert changed(on(RECIPES["int8"], "tflite"), "dynamic-island", heard(alone=costs(1e-9))) is None


def test_an_accelerator_that_has_half_precision_gets_it_at_last():
    """In place of islands, which it would run in float32 if at all, and of weights alone, which no compiler takes."""
    asked = on(RECIPES["int8-qnn"], "onnx", compiled=True, half=True)
    assert rungs(asked) == ("asked", "percentile", "mse", "16-bit", "float16")
    half = changed(asked, "float16", heard(NOISY))
    assert (half.name, half.precision, half.calibrates("onnx")) == ("int8-qnn-float16", "float16", False)
    assert half.onnx == OnnxFloat16(tiny="float16"), "it computes nothing in float32"
    gpu = rungs(on(RECIPES["int8-tensorrt"], "onnx", half=True))
    assert gpu[-3:] == ("island", "islands", "float16")


@given(st.integers(1, 12))
def test_the_error_rates_of_all_rungs_make_the_gates(count):
    """Bonferroni: however many rungs there are, together they spend the gate's alpha and no more."""
    spent = [alpha_of(place, count) for place in range(count)]
    assert sum(spent) == pytest.approx(ALPHA)
    assert spent[0] >= max(spent)


def test_each_rung_changes_one_thing():
    """A rung's recipe has a name of its own, is for one format, and keeps what was asked otherwise."""
    asked = RECIPES["int8"]
    percentile = changed(on(asked, "onnx", x86=True), "percentile", heard())
    assert (percentile.name, percentile.calibration_range, percentile.tflite) == ("int8-percentile", "percentile", None)
    assert percentile.onnx == asked.onnx
    assert changed(on(asked, "tflite"), "16-bit", heard()).precision == "int16x8"
    assert changed(on(EVERY, "onnx", compiled=True), "16-bit", heard()).onnx.activations == "uint16"
    assert changed(on(asked, "onnx"), "asked", heard()) == replace_formats(asked)


def test_seven_bits_and_the_core_stay_on_the_rungs_above():
    """What helped once is not taken back: later rungs saturate no more, and only the core is quantized."""
    fast = RECIPES["int8-per-channel-fast"]
    seven = changed(on(fast, "onnx", x86=True), "7-bit", heard()).onnx
    assert (seven.reduce_range, seven.operators) == (True, "all")
    later = changed(on(fast, "onnx", x86=True), "mse", heard()).onnx
    assert (later.reduce_range, later.operators) == (True, "core")
    assert not changed(on(fast, "onnx"), "mse", heard()).onnx.reduce_range
    assert changed(on(EVERY, "onnx", x86=True), "core", heard()).onnx == RECIPES["int8"].onnx


def replace_formats(recipe):
    """The recipe as asked, for ONNX only."""
    return msgspec.structs.replace(recipe, tflite=None)


def test_islands_are_the_noisiest_layers_where_nothing_else_is_known():
    """One, three, then a quarter of all; without known layers, or where a quarter is no more, there is no rung."""
    asked = on(RECIPES["int8"], "tflite")
    assert changed(asked, "island", heard(NOISY)).float_layers == ("layer_0",)
    assert changed(asked, "island", heard(NOISY)).calibration_range == "mse"
    assert len(changed(asked, "islands", heard(NOISY)).float_layers) == 3
    assert len(changed(asked, "archipelago", heard(NOISY)).float_layers) == 5
    assert changed(asked, "archipelago", heard(NOISY[:12])) is None
    assert changed(asked, "island", heard()) is None


def test_islands_of_onnx_are_the_fewest_layers_for_a_wanted_ratio():
    """Of layers that were asked alone the dearest stay in float; there is no rung where none or most of them would."""
    asked = on(RECIPES["int8"], "onnx")
    noises = (0.01, 0.0001, 0.001, 0.0001, 0.0001)
    assert changed(asked, "island", heard(alone=costs(*noises))).float_layers == ("conv_0",)
    assert changed(asked, "islands", heard(alone=costs(*noises))).float_layers == ("conv_0", "conv_2")
    assert changed(asked, "island", heard(alone=costs(1e-9, 1e-9))) is None
    assert changed(asked, "island", heard(alone=costs(0.1, 0.1, 0.1, 1e-9))) is None
    kept = changed(asked, "weights-islands", heard(alone=costs(0.1, 0.1, 0.1, 1e-9)))
    assert kept.onnx == OnnxWeights()
    fine = heard(alone=costs(1e-3, 1e-4, 3e-5, 1e-9))
    left = [changed(asked, kind, fine).float_layers for kind in WEIGHTS[1:]]
    assert [len(each) for each in left] == [1, 2, 3], "34, 40 and 46 dB"
    # One weight of two nodes is stored once.
    both = [Alone(names=("conv", "same"), noise=0.1), *costs(1e-9)]
    assert changed(asked, "weights-island", heard(alone=both)).float_layers == ("conv", "same"), (
        "one weight, stored once"
    )
    assert (kept.precision, kept.calibrates("onnx"), len(kept.float_layers)) == ("int8-dynamic", False, 3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 60))
def test_no_fewer_layers_would_do(noises, wanted):
    """The rest stays within the wanted ratio, and with one layer less it would not."""
    layers = costs(*noises)
    left = fewest(layers, wanted)
    rest = sum(each.noise for each in layers if each not in left)
    assert rest <= 10 ** (-wanted / 10) * (1 + 1e-9)
    if left:
        assert rest + min(each.noise for each in left) > 10 ** (-wanted / 10) * (1 - 1e-9)


def test_names_stay_within_the_limit():
    """A long name is cut, and the rung's ending stays."""
    asked = on(replace_name(RECIPES["int8"], "a" * 39), "tflite")
    assert changed(asked, "archipelago", heard(NOISY)).name == "a" * 28 + "-archipelago"


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
    assert pareto({"here": [replace(each, passed=False) for each in tried]})["here"]["chosen"] is None
    assert pareto({"never begun": []}) == {}
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


@pytest.mark.parametrize(
    ("greater", "unit", "interval", "expected"),
    [(True, 1.0, (-0.02, 0.01), (-0.01, 0.02)), (False, 4.0, (0.2, 0.4), (0.05, 0.1))],
)
def test_an_interval_of_a_loss_is_in_its_unit_and_direction(greater, unit, interval, expected):
    """More accuracy is less loss; more error is more, in deviations of the labels as the loss beside it."""
    verdict = GateVerdict(
        outcome=Outcome.PASS,
        reason="",
        metric="m",
        value=1.0,
        source_value=1.0,
        interval=interval,
        loss=0.0,
        unit=unit,
        max_drop=0.01,
        alpha=0.01,
        samples=100,
        method="exact",
        greater=greater,
    )
    assert loss_interval(verdict) == pytest.approx(expected)
