"""Several targets in one conversion: each gets what it would get alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgesdk_converters.planning.joining import joined_plan
from edgesdk_converters.planning.plan import Plan, Wanted
from edgesdk_converters.recipes import find_recipe
from edgesdk_converters.running.steps import Ref
from edgesdk_converters.sources import Source

from edgesdk.contract import Contract, TensorSpec
from edgesdk.targets.profiles import load_profile

CONTRACT = Contract(
    version="1.0",
    task="classification",
    labels=("a", "b"),
    inputs=(TensorSpec(name="x", shape=(1, 2)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
)
DATA = {"calibration": Path("c.npz"), "evaluation": Path("e.npz")}
KINDS = ("tflite", "onnx")


def plan(*targets: str, recipes: tuple[str, ...] = ("int8",)) -> Plan:
    return joined_plan(
        Wanted(
            sources={kind: Source(path=Path(f"m.{kind}"), format=kind, sha256="0" * 64, size=1) for kind in KINDS},
            contract=CONTRACT,
            targets=[load_profile(name) for name in targets],
            formats=KINDS,
            recipes=[find_recipe(name) for name in recipes],
            data=DATA,
            packages=("ai-edge-litert", "tflite-runtime", "onnxruntime"),
            max_drop=0.02,
        )
    )


def ancestry(made: Plan, artifact: Path | Ref) -> object:
    """Return how a file comes about, without the names of the steps."""
    if isinstance(artifact, Path):
        return artifact
    step = next(step for step in made.steps if step.name == artifact.step)
    inputs = {name: ancestry(made, each) for name, each in step.inputs.items()}
    return step.action, dict(step.params), inputs, artifact.file


@pytest.mark.parametrize(
    "targets",
    [
        ("qualcomm-htp", "rk3588"),
        ("rk3588", "linux-x86_64-cpu", "ethos-u55-128"),
        ("linux-arm64-cpu", "jetson-orin-gpu", "rk3588", "qualcomm-htp"),
    ],
)
def test_every_target_gets_the_file_that_it_gets_alone(targets):
    """A target with a low ceiling of operator sets (RK3588: 19) lowers nothing for the others, and stops none."""
    joined = plan(*targets)
    assert list(dict.fromkeys(variant.target.name for variant in joined.variants)) == list(targets)
    for target in targets:
        alone = plan(target)
        mine = [variant for variant in joined.variants if variant.target.name == target]
        for before, now in zip(alone.variants, mine, strict=True):
            assert before.name == now.name
            assert ancestry(alone, before.artifact) == ancestry(joined, now.artifact)
            assert len(before.measures) == len(now.measures)


def test_a_recipe_counts_where_it_is_taken():
    """16-bit activations need operator set 21: the NPU that takes them gets it, the one that reads 19 its own int8."""
    made = plan("qualcomm-htp", "rk3588", recipes=("int8", "int16-qnn"))
    limits = {(step.params["min_opset"], step.params["max_opset"]) for step in made.steps if "pin onnx" in step.name}
    assert limits == {(21, 21), (13, 19)}
    assert [variant.name for variant in made.variants] == [
        "qualcomm-htp-int8-qnn",
        "qualcomm-htp-int16-qnn",
        "rk3588-int8",
    ]
    assert any("int16-qnn" in words for words in made.left_out)


def test_targets_with_one_ceiling_share_their_steps():
    """Nothing is done twice for targets that read the same, nor for those that read no ONNX."""
    for targets in (("linux-x86_64-cpu", "linux-arm64-cpu", "ethos-u55-128"), ("qualcomm-htp", "jetson-orin-gpu")):
        assert not [step.name for step in plan(*targets).steps if "pin onnx for" in step.name]


def test_a_step_that_targets_have_in_two_ways_says_whose_it_is():
    """No bare number behind a name, which nobody understands."""
    names = [step.name for step in plan("linux-arm64-cpu", "qualcomm-htp", "jetson-orin-gpu", "rk3588").steps]
    assert not [name for name in names if name.endswith(")") and name[-2].isdigit()]
    assert {"pin onnx", "pin onnx for qualcomm-htp and others", "pin onnx for rk3588"} <= set(names)


def test_what_a_profile_needs_at_least_is_a_floor():
    """The least operator set of a target's tool counts beside what recipes need."""
    target = load_profile("rk3588")
    [runtime] = target.runtimes
    assert runtime.min_opset == 12
    [pin] = [step for step in plan("rk3588", recipes=("float16",)).steps if step.name == "pin onnx"]
    assert pin.params["min_opset"] == 12
