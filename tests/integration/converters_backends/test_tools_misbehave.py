"""Qualcomm's, Rockchip's and NVIDIA's tools on bad days (fakes of `edgesdk.testing`): typed errors, their own words."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.steps import fitting_recipes
from edgesdk_converters.recipes import RECIPES, find_recipe
from onnx import TensorProto, helper

from edgesdk.errors import ReleaseError, TargetError
from edgesdk.targets.profiles import load_profile

CONTRACT = {
    "version": "1.0",
    "task": "other",
    "inputs": [{"name": "x", "shape": [1, 4]}],
    "outputs": [{"name": "y", "shape": [1, 4]}],
}
TARGETS = {"qnn": "qualcomm-htp", "rknn": "rk3588", "tensorrt": "jetson-orin-gpu"}
TABLE = """
D RKNN: [08:53:02.313] 0    InputOperator      INT8     CPU    \\          (1,4)   0/0/0   0   InputOperator:x
D RKNN: [08:53:02.313] 1    Relu               INT8     CPU    (1,4)       (1,4)   0/0/0   0   Relu:act
D RKNN: [08:53:02.313] 2    OutputOperator     INT8     CPU    (1,4)       \\      0/0/0   0   OutputOperator:y
"""


@pytest.fixture
def model(tmp_path) -> Path:
    """A Relu."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="act")], "g", [tensors[0]], [tensors[1]])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def compile_with(name: str, call, model: Path, timeout_s: float = 60.0):
    """Compile as a step would."""
    np.savez(model.with_name("calibration.npz"), x=np.eye(4, dtype=np.float32))
    module = importlib.import_module(f"edgesdk_converters.backends.{name}")
    profile = load_profile(TARGETS[name])
    params = {"options": BACKENDS[name].params(profile), "contract": CONTRACT}
    params["profile"] = msgspec.to_builtins(profile)
    inputs = {"artifact": model, "calibration": model.with_name("calibration.npz")}
    return module.compile_model(call(inputs, timeout_s=timeout_s, precision="int8", ranges="minmax", **params))


@pytest.mark.parametrize("name", list(TARGETS))
@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("crash", "tool-crashed", "died of SIGFPE .*its last words: tool: I begin"),
        ("fail", "tool-crashed", "failed with status 3; its last words: tool: I begin"),
        ("hang", "tool-timeout", "did not end within 0.9 s; its last words: tool: I begin"),
        ("succeed", "tool-did-nothing", r"did not write answer\.json, .*; its last words: tool: I begin"),
    ],
)
def test_each_way_to_fail_is_a_typed_error(stand_in, call, model, name, deed, code, words):  # noqa: PLR0917 - fixtures
    """The same four for every vendor."""
    stand_in(BACKENDS[name].environment, deed, says="tool: I begin")
    with pytest.raises(ReleaseError, match=words) as caught:
        compile_with(name, call, model, timeout_s=1 if deed == "hang" else 60)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "op", "cure"),
    [
        ("qnn", "Selu", "Selu act: Selu stops it (must: the HTP's compiler takes it). Use Elu"),
        ("rknn", "Erf", "Erf act: Erf is none (must: an operator of Rockchip NPU). Use a Gelu"),
        ("tensorrt", "Det", "Det act: Det is none (must: an operator of TensorRT). Leave it"),
    ],
)
def test_a_failure_names_what_the_tool_stumbles_over(stand_in, call, model, name, op, cure):  # noqa: PLR0917 - fixtures
    """The tool says that it failed; the cure says which operator it was likely for, and what to do."""
    changed = onnx.load(model)
    changed.graph.node[0].op_type = op
    onnx.save(changed, model)
    stand_in(BACKENDS[name].environment, "fail", says="tool: I begin")
    with pytest.raises(ReleaseError, match="tool: I begin") as caught:
        compile_with(name, call, model)
    assert cure in caught.value.hint


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("qnn", {"nodes": [{"ep": "CPUExecutionProvider", "op": "Relu", "name": "act"}], "title": "t"}, ""),
        ("rknn", {"title": "t"}, TABLE),
    ],
)
def test_success_with_nothing_on_the_npu_is_an_error(stand_in, call, model, tmp_path, name, answer, says):  # noqa: PLR0917
    """A file came out, and every operator of it runs on the CPU."""
    made = tmp_path / "work" / "out" / BACKENDS[name].file
    writes = {"answer.json": json.dumps(answer).encode(), str(made): b"compiled"}
    stand_in(BACKENDS[name].environment, "succeed", says=says, writes=writes)
    with pytest.raises(ReleaseError, match="none of 1 operators on the NPU") as caught:
        compile_with(name, call, model)
    assert caught.value.code == "tool-did-nothing"


@pytest.mark.parametrize("name", list(BACKENDS))
def test_a_backend_takes_the_recipes_that_it_names(name):
    """Of the named recipes just those; each refusal of another says why."""
    backend = BACKENDS[name]
    for recipe in RECIPES.values():
        refusal = backend.refusal(recipe)
        if recipe.name in backend.recipes:
            assert refusal is None
        elif refusal is not None:
            assert recipe.name in refusal


@pytest.mark.parametrize(
    ("target", "flavour"),
    [
        ("ethos-u55-128", "int8"),
        ("rk3588", "int8"),
        ("qualcomm-htp", "int8-qnn"),
        ("jetson-orin-gpu", "int8-tensorrt"),
    ],
)
def test_plain_int8_becomes_the_targets_own(target, flavour):
    """`--target qualcomm-htp` alone works: symmetric int8 would be wrong there, int32 biases would be refused here."""
    profile = load_profile(target)
    assert profile.compiler is not None
    [found] = fitting_recipes(BACKENDS[profile.compiler.name], profile, [find_recipe("int8")])
    assert found.name == flavour


@pytest.mark.parametrize(
    ("target", "recipe", "words"),
    [
        ("qualcomm-htp", "int8-per-channel-fast", "not quantized by Qualcomm's rules"),
        ("jetson-orin-gpu", "int8-per-channel-fast", "int32 biases or zero points"),
        ("jetson-orin-gpu", "int8-dynamic", "on the fly"),
        ("rk3588", "int8-qnn", "not what the NPU computes"),
        ("rk3588", "int16x8", "makes no onnx"),
    ],
)
def test_what_a_target_computes_wrongly_or_not_at_all_is_refused(target, recipe, words):
    """Before any tool runs, with the recipes that would do in the hint."""
    profile = load_profile(target)
    assert profile.compiler is not None
    backend = BACKENDS[profile.compiler.name]
    with pytest.raises(TargetError, match=words) as caught:
        fitting_recipes(backend, profile, [find_recipe(recipe)])
    assert backend.recipes[0] in caught.value.hint
