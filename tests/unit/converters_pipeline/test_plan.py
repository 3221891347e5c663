"""Plans: pure decisions about steps and variants."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgesdk_converters.planning.plan import Plan, Wanted, build_plan
from edgesdk_converters.recipes import RECIPES, find_recipe
from edgesdk_converters.request import explained
from edgesdk_converters.sources import Source

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError, EdgeError, TargetError
from edgesdk.targets.profiles import load_profile

CONTRACT = Contract(
    version="1.0",
    task="classification",
    labels=("a", "b"),
    inputs=(TensorSpec(name="x", shape=(1, 2)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
)
DATA = {"calibration": Path("c.npz"), "evaluation": Path("e.npz"), "truth": Path("t.npz")}


def source(kind: str) -> Source:
    return Source(path=Path(f"v1.{kind}"), format=kind, sha256="0" * 64, size=1)


def plan(sources=("tflite", "onnx"), targets=("linux-x86_64-cpu",), recipes=("int8",), **changes) -> Plan:
    words = {
        "formats": ("tflite", "onnx"),
        "data": DATA,
        "packages": ("ai-edge-litert", "tflite-runtime", "onnxruntime"),
        "max_drop": 0.02,
        **changes,
    }
    return build_plan(
        Wanted(
            sources={kind: source(kind) for kind in sources},
            contract=CONTRACT,
            targets=[load_profile(name) for name in targets],
            recipes=[find_recipe(name) for name in recipes],
            **words,
        )
    )


def names(made: Plan) -> list[str]:
    return [step.name for step in made.steps]


def test_two_targets_share_their_steps():
    """A second target with the same artifact adds variants, not work."""
    one, two = plan(), plan(targets=("linux-x86_64-cpu", "linux-arm64-cpu"))
    assert one.steps == two.steps
    assert [variant.name for variant in two.variants] == [
        "linux-x86_64-cpu-tflite-int8",
        "linux-x86_64-cpu-onnx-int8",
        "linux-arm64-cpu-tflite-int8",
        "linux-arm64-cpu-onnx-int8",
    ]


def test_an_artifact_is_judged_in_every_runtime_the_oldest_first():
    """A TFLite artifact runs in tflite-runtime and in LiteRT; tflite-runtime, the oldest, judges."""
    [variant] = plan(formats=("tflite",)).variants
    assert list(variant.measures) == ["tflite-runtime", "ai-edge-litert"]


def test_a_keras_model_alone_gives_both_formats():
    """A .keras is exported to both formats before it is quantized."""
    made = names(plan(sources=("keras",)))
    assert made.index("export tflite") < made.index("quantize tflite int8")
    assert made.index("export onnx") < made.index("quantize onnx int8")


def test_given_exports_are_used_instead_of_the_keras_model():
    """Where a float export is given, TensorFlow is not needed for it."""
    assert "export tflite" not in names(plan(sources=("keras", "tflite", "onnx")))


def test_float_artifacts_need_no_calibration():
    """Without calibration data a float recipe works and an int8 recipe says what is missing."""
    without = {name: path for name, path in DATA.items() if name != "calibration"}
    assert not any(name.startswith("quantize") for name in names(plan(recipes=("float",), data=without)))
    with pytest.raises(ConfigError, match="int8 needs calibration"):
        plan(data=without)


def test_only_wide_weights_on_x86_are_asked_about_saturation():
    """7-bit weights cannot saturate, and ARM does not: neither costs the time to look."""
    fast = RECIPES["int8-per-channel-fast"].name
    looks = "look for saturation in onnx int8-per-channel-fast"
    assert looks in names(plan(recipes=(fast,)))
    assert looks not in names(plan(recipes=(fast,), targets=("linux-arm64-cpu",)))
    assert not any(name.startswith("look") for name in names(plan(recipes=("int8", "float"))))


def test_onnx_is_pinned_to_the_oldest_runtime_of_all_targets():
    """The ceiling of opset and IR comes from the profiles."""
    [pin] = [step for step in plan().steps if step.name == "pin onnx"]
    runtime = load_profile("linux-x86_64-cpu").runtime("onnxruntime")
    assert pin.params["max_opset"] == runtime.max_opset
    assert pin.params["max_ir"] == runtime.max_ir


@pytest.mark.parametrize(
    ("source", "wanted", "steps"),
    [
        ("tflite", "tflite", ["read tflite"]),
        ("onnx", "onnx", ["pin onnx"]),
        ("keras", "tflite", ["export tflite", "read tflite"]),
        ("keras", "onnx", ["export onnx", "pin onnx"]),
        ("savedmodel", "tflite", ["export tflite", "read tflite"]),
        ("savedmodel", "onnx", ["export onnx", "pin onnx"]),
        ("pt2", "onnx", ["export torch to onnx", "pin onnx"]),
        ("onnx", "tflite", ["pin onnx", "convert onnx to tflite", "read tflite"]),
        ("tflite", "onnx", ["read tflite", "convert tflite to onnx", "pin onnx"]),
        ("pt2", "tflite", ["export torch to onnx", "pin onnx", "convert onnx to tflite", "read tflite"]),
    ],
)
def test_every_source_has_a_route_to_every_format(source, wanted, steps):
    """From each kind of model to each format, over the other format where there is no direct way."""
    made = plan(sources=(source,), formats=(wanted,), recipes=("float",))
    assert [name for name in names(made) if not name.startswith(("run ", "judge "))] == steps


def test_a_converted_file_is_judged_beside_the_file_it_came_from():
    """ONNX that became TFLite must agree with the ONNX file, run by onnxruntime."""
    [variant] = plan(sources=("onnx",), formats=("tflite",)).variants
    assert variant.source_measure == "run onnx float in onnxruntime"
    [variant] = plan(sources=("onnx",), formats=("onnx",)).variants
    assert variant.source_measure == "run onnx float in onnxruntime"


def test_recipes_share_one_look_at_the_calibration_data():
    """Activations are observed once per format; their values are counted only where a recipe needs more than ends."""
    made = plan(recipes=("int8", "int8-uint8-io", "int8-float-io"), formats=("tflite",))
    [observe] = [step for step in made.steps if step.name.startswith("observe")]
    assert observe.params["count"] is False
    assert sum(name.startswith("quantize") for name in names(made)) == 3


def test_a_format_that_a_recipe_does_not_make_is_left_out():
    """A recipe for TFLite only gives no ONNX variant beside it."""
    assert [variant.format for variant in plan(recipes=("int8-uint8-io",)).variants] == ["tflite"]


def test_the_operator_set_that_a_recipe_needs_is_asked_for_when_the_file_is_read():
    """Per-channel QDQ needs opset 13; float ONNX keeps what it has."""

    def least(recipe: str) -> int:
        [pin] = [step for step in plan(recipes=(recipe,), formats=("onnx",)).steps if step.name == "pin onnx"]
        return pin.params["min_opset"]

    assert (least("float"), least("int8")) == (0, 13)


@pytest.mark.parametrize(
    ("changes", "family", "words"),
    [
        ({"targets": ("linux-armv7-cpu",), "formats": ("onnx",)}, TargetError, "linux-armv7-cpu runs nothing"),
        ({"sources": (), "formats": ("tflite",)}, ConfigError, "tflite cannot be made: no model is given"),
        ({"packages": ()}, ConfigError, "no runtime for tflite is installed"),
    ],
)
def test_what_cannot_be_made_is_refused_before_work_begins(changes, family, words):
    """A plan that cannot work is refused with what is missing."""
    with pytest.raises(EdgeError, match=words) as caught:
        plan(**changes)
    assert type(caught.value) is family


def test_an_unknown_recipe_names_the_known_ones():
    """A misspelt recipe is answered with the list."""
    with pytest.raises(ConfigError) as caught:
        find_recipe("int9")
    assert all(name in caught.value.hint for name in RECIPES)


def test_onnx_is_folded_before_it_is_observed_and_quantized():
    """Observer and quantizer see one folded file, made once; recipes without calibration and TFLite need none."""
    steps = {step.name: step for step in plan(recipes=("int8", "int8-per-channel-fast", "float16")).steps}
    folded = {name: step.inputs["source"] for name, step in steps.items() if name.startswith(("observe", "quantize"))}
    assert [name for name in steps if name.startswith("fold")] == ["fold onnx"]
    for name, source in folded.items():
        assert (source.step == "fold onnx") == ("onnx" in name and "float16" not in name)


def test_a_recipe_that_a_target_does_not_take_is_named_and_why():
    """What was asked for and is not made does not vanish: a vendor's compiler and a CPU both say why."""
    made = plan(targets=("ethos-u55-128",), recipes=("int8", "float16"))
    assert [variant.recipe.name for variant in made.variants] == ["int8"]
    [said] = made.left_out
    assert said.startswith("ethos-u55-128: float16 leaves activations in float")
    [said] = plan(formats=("onnx",), recipes=("int8", "int16x8")).left_out
    assert said.startswith("linux-x86_64-cpu: int16x8")
    assert plan().left_out == ()


@pytest.mark.parametrize(
    ("place", "said"),
    [("$.release", "1.2.0"), ("$.formats[0]", "tflite or onnx"), ("$.out", "at")],
)
def test_a_wrong_word_is_explained_in_the_words_of_the_command(place, said):
    """A person reads what a version looks like, not a regular expression; what is plain already stays."""
    assert said in explained(ValueError(f"Expected `str` matching regex '^[0-9]+$' - at `{place}`"))
