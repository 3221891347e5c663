"""onnx2tf and PyTorch themselves: other people's formats, converted and run beside their source."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.planning.routes import ONNX2TF, TORCH
from edgesdk_converters.running.environments import Environment, ensure, find
from edgesdk_converters.running.isolation import Task, run_child
from onnx import TensorProto, helper, numpy_helper

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import TargetError
from edgesdk.runtime import describe_artifact

pytestmark = [pytest.mark.vendor, pytest.mark.timeout(900)]
CONTRACT = Contract(
    version="1.0",
    task="other",
    inputs=(TensorSpec(name="x", shape=(1, 3, 8, 8)),),
    outputs=(TensorSpec(name="scores", shape=(1, 5)), TensorSpec(name="features", shape=(1, 8, 8, 8))),
)
PROGRAM = """
import sys, torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.dense = torch.nn.Linear(8, 5)

    def forward(self, x):
        features = torch.relu(self.conv(x))
        return self.dense(features.mean((2, 3))), features

torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, 8, 8),)), sys.argv[1])
"""


def environment(wanted: Environment) -> Path:
    if os.environ.get("EDGESDK_VENDOR") is None and find(wanted) is None:
        pytest.skip(f"the environment {wanted.name} is not there; EDGESDK_VENDOR=1 makes it")
    return ensure(wanted)


def acted(folder: Path, action: str, source: Path, **params) -> Path:
    """Run one action of a source in a child; return its folder, which is made in another one."""
    out = folder / action.replace(":", "-") / "out"
    out.mkdir(parents=True)
    params = {"contract": msgspec.to_builtins(CONTRACT), **params}
    task = Task(action=f"edgesdk_converters.sources.{action}", inputs={"source": source}, params=params)
    run_child(task, out, log=out.with_suffix(".log"), timeout_s=800)
    return out


@pytest.fixture
def act(tmp_path) -> Callable[..., Path]:
    """Run one action of a source in a child; return its folder."""
    return functools.partial(acted, tmp_path)


def network() -> onnx.ModelProto:
    """A convolution whose height, width and channels are equal: sizes alone do not tell the layouts apart."""
    random = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "w2": (8, 5), "b2": (5,)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["scores"]),
    ]
    outputs = [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape) for spec in CONTRACT.outputs]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    graph = helper.make_graph(nodes, "g", given, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnx_becomes_tflite_that_takes_and_gives_what_the_contract_says(tmp_path, act):
    """Channels stay first at the ends, names are the contract's, and the answers are those of the ONNX file."""
    environment(ONNX2TF)
    onnx.save(network(), tmp_path / "net.onnx")
    out = act("onnx_to_tflite:convert", tmp_path / "net.onnx")
    made = act("tflite:read", out / "model.tflite")
    inputs, outputs = describe_artifact(made / "model.tflite", "tflite", options={"package": "ai-edge-litert"})
    assert {tensor.name: tensor.shape for tensor in inputs} == {"x": (1, 3, 8, 8)}
    assert {tensor.name: tensor.shape for tensor in outputs} == {"scores": (1, 5), "features": (1, 8, 8, 8)}


def gated(function: str) -> onnx.ModelProto:
    """A dense layer and a GELU by an error function, which TFLite has not, or as JAX writes it, by a tangent."""
    weights = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    numbers = {"root": np.sqrt(2), "one": 1, "half": 0.5, "cubic": 0.044715, "slope": np.sqrt(2 / np.pi)}
    stored = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()]
    inner = [helper.make_node("Div", ["m", "root"], ["d"])]
    if function == "Tanh":
        inner = [
            helper.make_node("Mul", ["m", "cubic"], ["b"]),
            helper.make_node("Mul", ["m", "b"], ["s"]),
            helper.make_node("Mul", ["m", "s"], ["c"]),
            helper.make_node("Add", ["m", "c"], ["t"]),
            helper.make_node("Mul", ["t", "slope"], ["d"]),
        ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        *inner,
        helper.make_node(function, ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["a"]),
        helper.make_node("Mul", ["m", "a"], ["p"]),
        helper.make_node("Mul", ["p", "half"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 6])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(weights, "w"), *stored])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("function", ["Erf", "Tanh"])
def test_a_gelu_that_was_written_out_is_one_operator_of_tflite(tmp_path, act, function):
    """Its converter fails at the error function, and fuses one order of the products and a power only."""
    environment(ONNX2TF)
    described = Contract(
        version="1.0",
        task="other",
        inputs=(TensorSpec(name="x", shape=(1, 3, 6)),),
        outputs=(TensorSpec(name="y", shape=(1, 3, 6)),),
    )
    onnx.save(gated(function), tmp_path / "net.onnx")
    out = act("onnx_to_tflite:convert", tmp_path / "net.onnx", contract=msgspec.to_builtins(described))
    ops = {node.op for node in read_graph(out / "model.tflite").nodes}
    assert "GELU" in ops
    assert "TANH" not in ops


def recurrent() -> onnx.ModelProto:
    """An LSTM of one step with its state, as a voice detector has it: an open batch, a rate that nobody needs."""
    random = np.random.default_rng(0)
    shapes = {"w": (1, 20, 4), "r": (1, 20, 5), "b": (1, 40)}
    stored = [
        numpy_helper.from_array(random.normal(size=each).astype(np.float32), name) for name, each in shapes.items()
    ]
    fixed = {"zero": 0, "one": [1], "first": [0], "second": [1], "last": [2]}
    stored += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in fixed.items()]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "first"], ["sequence"], name="Unsqueeze@0"),
        helper.make_node("Slice", ["state", "first", "second", "first"], ["h"], name="h@0"),
        helper.make_node("Slice", ["state", "second", "last", "first"], ["c"], name="c@0"),
        helper.make_node("LSTM", ["sequence", "w", "r", "b", "", "h", "c"], ["", "hn", "cn"], "/lstm@0", hidden_size=5),
        helper.make_node("Concat", ["hn", "cn"], ["both"], name="Concat@0", axis=0),
        helper.make_node("Mul", ["rate", "zero"], ["nothing"], name="Mul@0"),
        helper.make_node("Cast", ["nothing"], ["none"], name="Cast@0", to=TensorProto.FLOAT),
        helper.make_node("Add", ["both", "none"], ["stateN"], name="Add@0"),
        helper.make_node("Squeeze", ["hn", "first"], ["row"], name="Squeeze@0"),
        helper.make_node("Softmax", ["row"], ["y"], name="Softmax@0", axis=1),
    ]
    ends = (("x", [None, 4]), ("state", [2, None, 5]), ("rate", [])), (("y", [None, 5]), ("stateN", [2, None, 5]))
    kinds = {"rate": TensorProto.INT64}
    given, made = (
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), size) for name, size in side]
        for side in ends
    )
    graph = helper.make_graph(nodes, "g", given, made, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def test_what_onnx2tf_stumbles_over_is_put_right(tmp_path, act):
    """Names with an @, a single number, axes of states that it exchanges, an LSTM, an input that nobody needs."""
    environment(ONNX2TF)
    rate = TensorSpec(name="rate", shape=(), dtype="int64", range=(16000, 16000))
    described = Contract(
        version="1.0",
        task="other",
        inputs=(TensorSpec(name="x", shape=(1, 4)), TensorSpec(name="state", shape=(2, 1, 5)), rate),
        outputs=(TensorSpec(name="y", shape=(1, 5)), TensorSpec(name="stateN", shape=(2, 1, 5))),
    )
    contract = msgspec.to_builtins(described)
    onnx.save(recurrent(), tmp_path / "net.onnx")
    pinned = act("onnx:pin", tmp_path / "net.onnx", contract=contract, min_opset=0, max_opset=21, max_ir=10, flat=True)
    made = act("onnx_to_tflite:convert", pinned / "model.onnx", contract=contract)
    inputs, outputs = describe_artifact(made / "model.tflite", "tflite", options={"package": "ai-edge-litert"})
    assert {tensor.name: tensor.shape for tensor in inputs} == {"x": (1, 4), "state": (2, 1, 5), "rate": ()}
    assert {tensor.name: tensor.shape for tensor in outputs} == {"y": (1, 5), "stateN": (2, 1, 5)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The ONNX file of a .pt2."""
    python, folder = environment(TORCH), tmp_path_factory.mktemp("torch")
    subprocess.run([python, "-c", PROGRAM, folder / "net.pt2"], check=True, capture_output=True)
    return acted(folder, "torch:to_onnx", folder / "net.pt2", opset=18) / "model.onnx"


def test_a_torch_program_becomes_onnx(exported, act):
    """A .pt2 is exported with the names that its program has, and fits what our targets read after pinning."""
    made = act("onnx:pin", exported, min_opset=13, max_opset=19, max_ir=8)
    model = onnx.load(made / "model.onnx")
    assert [entry.name for entry in model.graph.input] == ["x"]
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)


def test_a_torch_program_does_not_come_down_to_older_operators(exported, act):
    """Its exporter writes opset 18, whose means take their axes as inputs: below that is a refusal with the number."""
    with pytest.raises(TargetError, match="uses opset 18, expected at most 17") as caught:
        act("onnx:pin", exported, min_opset=13, max_opset=17, max_ir=8)
    assert caught.value.code == "opset-ceiling"
