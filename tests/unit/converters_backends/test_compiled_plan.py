"""Plans for targets whose artifact a vendor's tool makes: pure decisions."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgesdk_converters.backends import BACKENDS, by_file, find_backend
from edgesdk_converters.planning.plan import Plan, Wanted, build_plan
from edgesdk_converters.recipes import find_recipe
from edgesdk_converters.repair.ladder import _Ladder
from edgesdk_converters.repair.rungs import rungs
from edgesdk_converters.running.steps import Ref
from edgesdk_converters.sources import Source

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError, TargetError
from edgesdk.targets.profiles import load_profile, profile_names

CONTRACT = Contract(
    version="1.0",
    task="classification",
    labels=("a", "b"),
    inputs=(TensorSpec(name="x", shape=(1, 2)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
)
DATA = {"calibration": Path("c.npz"), "evaluation": Path("e.npz"), "truth": Path("t.npz")}


def plan(*targets: str, recipes: tuple[str, ...] = ("int8",), **changes) -> Plan:
    words = {
        "sources": {kind: Source(path=Path(f"v1.{kind}"), format=kind, sha256="0" * 64, size=1) for kind in KINDS},
        "formats": ("tflite", "onnx"),
        "data": DATA,
        "packages": ("ai-edge-litert", "tflite-runtime", "onnxruntime"),
        "max_drop": 0.02,
        **changes,
    }
    profiles, named = [load_profile(name) for name in targets], [find_recipe(name) for name in recipes]
    return build_plan(Wanted(contract=CONTRACT, targets=profiles, recipes=named, **words))


KINDS = ("tflite", "onnx")


def test_every_target_can_be_planned():
    """The default recipe makes a variant for each profile that we ship."""
    made = plan(*profile_names())
    assert {variant.target.name for variant in made.variants} == set(profile_names())


def test_vela_compiles_what_is_judged():
    """The int8 file is judged in the TFLite runtimes, the same file goes to Vela, and no time is taken of it."""
    [variant] = plan("ethos-u55-128").variants
    assert variant.name == "ethos-u55-128-int8"
    assert list(variant.measures) == ["tflite-runtime", "ai-edge-litert"]
    steps = {step.name: step for step in plan("ethos-u55-128").steps}
    compiling = steps[str(variant.compile_step)]
    assert compiling.inputs["artifact"] == variant.artifact
    assert variant.compiled == Ref(step=compiling.name, file="model_vela.tflite")
    assert compiling.environment == BACKENDS["vela"].environment
    assert compiling.params["options"]["accelerator_config"] == "ethos-u55-128"
    assert variant.latency is None


def test_two_accelerators_share_all_but_compiling():
    """A second Ethos-U costs a compilation (and a lint), not a quantization."""
    one, two = plan("ethos-u55-128"), plan("ethos-u55-128", "ethos-u85-256")
    added = {step.name for step in two.steps} - {step.name for step in one.steps}
    assert {name.partition(" ")[0] for name in added} == {"compile", "lint"}


def test_rockchips_tool_quantizes_itself():
    """It gets the float file and the examined calibration data; its simulator answers for the same two."""
    made = plan("rk3588", "linux-x86_64-cpu", formats=("onnx",))
    rockchip, _ = made.variants
    steps = {step.name: step for step in made.steps}
    compiling, running = steps[str(rockchip.compile_step)], steps[rockchip.measures["rknn"]]
    for step in (compiling, running):
        assert step.inputs["artifact"] == rockchip.artifact
        assert step.inputs["calibration"] == DATA["calibration"]
        assert (step.params["precision"], step.params["ranges"]) == ("int8", "minmax")
    assert "examine calibration" in steps
    assert rockchip.recipe.name == "int8"
    with pytest.raises(ConfigError, match="needs calibration"):
        plan("rk3588", data={"evaluation": Path("e.npz")})


def test_qualcomms_runtime_runs_the_compiled_file():
    """What is judged is the context binary itself; its float reference is ours."""
    made = plan("qualcomm-htp-v75")
    [variant] = made.variants
    steps = {step.name: step for step in made.steps}
    running = steps[variant.measures["qnn"]]
    assert running.inputs["artifact"] == variant.compiled
    assert running.params["options"] == {"htp_arch": 75}
    assert list(variant.judgements) == ["qnn"]
    early = {step.name: step for step in plan("qualcomm-htp-v75", stop_early=True).steps}
    assert "gate" in early[running.name].params


def test_a_jetsons_file_is_shipped_as_it_is(tmp_path):
    """No tool runs, unless a profile asks a parser."""
    [variant] = plan("jetson-orin-gpu").variants
    assert variant.compiled is None
    assert variant.recipe.name == "int8-tensorrt"
    assert list(variant.measures) == ["onnxruntime"]
    board = tmp_path / "board.toml"
    board.write_text('base = "jetson-orin-gpu"\nname = "b"\n[compiler.options]\nparser = "tensorrt-rtx"\n')
    [variant] = plan(str(board)).variants
    assert variant.compiled is not None


def test_a_profile_lets_the_portable_file_answer(tmp_path):
    """A simulator may take seconds a call: asked so, the file before compilation is judged; the tool still compiles."""
    board = tmp_path / "b.toml"
    board.write_text('base = "qualcomm-htp"\nname = "b"\n[compiler.options]\njudge = "source"\n')
    made = plan(str(board))
    [variant] = made.variants
    assert list(variant.measures) == ["onnxruntime"]
    assert variant.backend is not None
    assert variant.backend.judged == "source"
    [compiling] = [step for step in made.steps if step.name == variant.compile_step]
    assert compiling.params["options"] == {"htp_arch": 73}


def test_a_repair_asks_the_portable_file_before_a_simulator():
    """What is worse before it is compiled is not run for minutes on the HTP back end; a profile can be asked so too."""
    profile = by_file(load_profile("qualcomm-htp"))
    assert profile.name == "qualcomm-htp"
    backend = find_backend(profile)
    assert backend is not None
    assert (backend.judged, backend.measure) == ("source", None)


@pytest.mark.parametrize(("base", "judge"), [("qualcomm-htp", "nobody"), ("rk3588", "source")])
def test_who_cannot_answer_is_refused(tmp_path, base, judge):
    """A judge that there is none, and a portable file that is still float where the tool quantizes."""
    board = tmp_path / "b.toml"
    board.write_text(f'base = "{base}"\nname = "b"\n[compiler.options]\njudge = "{judge}"\n')
    with pytest.raises(ConfigError, match=r"compiler\.options\.judge"):
        plan(str(board))


@pytest.mark.parametrize(("target", "mixes"), [("jetson-orin-gpu", True), ("qualcomm-htp", False), ("rk3588", False)])
def test_a_gpu_may_be_left_layers_in_float(target, mixes):
    """TensorRT computes in float what is not quantized, so its repair may leave all but the core; an NPU's may not."""
    [variant] = plan(target, formats=("onnx",)).variants
    ladder = _Ladder(None, variant, None, None)  # type: ignore[arg-type] # it runs nothing
    assert ("core" in rungs(ladder._kind)) == mixes


@pytest.mark.parametrize(
    ("target", "half"),
    [("qualcomm-htp-v68", False), ("qualcomm-htp-v73", True), ("rk3588", True), ("ethos-u55-128", False)],
)
def test_half_precision_is_for_who_has_it(target, half):
    """Hexagon has it from v69 on, Rockchip's NPU always, an Ethos-U never: there the recipe is refused."""
    ladder = _Ladder(None, plan(target).variants[0], None, None)  # type: ignore[arg-type] # it runs nothing
    assert (rungs(ladder._kind)[-1] == "float16") == half
    if half:
        [variant] = plan(target, recipes=("float16",)).variants
        assert variant.recipe.precision == "float16"
    else:
        with pytest.raises(TargetError):
            plan(target, recipes=("float16",))


def test_half_precision_is_whole_for_who_computes_nothing_in_float32():
    """A GPU's file keeps tiny constants in float32, HTP's does not: two files of one recipe in one release."""
    made = plan("jetson-orin-gpu", "qualcomm-htp", recipes=("float16",), formats=("onnx",))
    tiny = {variant.target.name: (variant.name, variant.recipe.onnx.tiny) for variant in made.variants}
    assert tiny == {
        "jetson-orin-gpu": ("jetson-orin-gpu-float16", "float32"),
        "qualcomm-htp": ("qualcomm-htp-float16", "float16"),
    }
    assert {step.name for step in made.steps} > {"quantize onnx float16", "quantize onnx float16-whole"}


def test_a_rung_that_the_compiler_refuses_costs_nothing():
    """Rockchip's tool knows no percentiles and no 16 bits: its ladder has three rungs to divide alpha over."""
    for target, taken in (("rk3588", ["asked", "mse", "float16"]), ("ethos-u55-128", None)):
        ladder = _Ladder(None, plan(target).variants[0], None, None)  # type: ignore[arg-type] # it runs nothing
        every = rungs(ladder._kind)
        assert [kind for kind in every if ladder._taken(kind)] == (taken or list(every))
