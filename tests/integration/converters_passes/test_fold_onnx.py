"""Folding before quantization: fewer operators, the same answers, or the file as it was."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.passes.fold_onnx import fold
from edgesdk_converters.running.isolation import Call
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from edgesdk.contract import Contract, TensorSpec

SHAPE = (1, 4, 8, 8)


@pytest.fixture
def folded(tmp_path):
    def run(nodes, **constants):
        x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPE) for name in "xy")
        stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "model", [x], [y], stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        source, out = tmp_path / "source.onnx", tmp_path / "work" / "out"
        out.mkdir(parents=True)
        onnx.save(model, source)
        specs = {name: TensorSpec(name=name, shape=SHAPE) for name in "xy"}
        contract = Contract(version="1.0", task="other", inputs=(specs["x"],), outputs=(specs["y"],))
        call = Call(
            inputs={"source": source},
            params={"contract": msgspec.to_builtins(contract)},
            out=out,
            progress=lambda _done, _total: None,
        )
        result = fold(call)
        return result, source, onnx.load(out / "model.onnx")

    return run


def test_a_depthwise_convolution_takes_scale_offset_and_normalisation(folded):
    """What exporters leave beside a convolution goes into its weights; opset and IR stay, no other domain comes."""
    random = np.random.default_rng(0)
    each = {name: random.uniform(0.5, 2, (1, 4, 1, 1)).astype(np.float32) for name in ("scale", "offset")}
    four = {name: random.uniform(0.5, 2, 4).astype(np.float32) for name in ("gain", "bias", "mean", "var")}
    result, _, model = folded(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], group=4, pads=[1, 1, 1, 1], name="conv"),
            helper.make_node("Mul", ["a", "scale"], ["b"], name="mul"),
            helper.make_node("Add", ["b", "offset"], ["c"], name="add"),
            helper.make_node("Relu", ["c"], ["d"], name="relu"),
            helper.make_node("Conv", ["d", "v"], ["e"], name="pointwise"),
            helper.make_node("BatchNormalization", ["e", "gain", "bias", "mean", "var"], ["y"], name="norm"),
        ],
        w=random.normal(size=(4, 1, 3, 3)).astype(np.float32),
        v=random.normal(size=(4, 4, 1, 1)).astype(np.float32),
        **each,
        **four,
    )
    assert result == {"before": 6, "after": 3, "left": ""}
    assert Counter(node.op_type for node in model.graph.node) == {"Conv": 2, "Relu": 1}
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 13)]
    assert model.ir_version == 8


def test_a_file_that_would_grow_stays_as_it_is(folded):
    """A large constant that a graph makes by formula is not written out."""
    result, source, model = folded(
        [
            helper.make_node("Expand", ["one", "many"], ["filled"]),
            helper.make_node("Tile", ["filled", "twice"], ["long"]),
            helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
            helper.make_node("Add", ["long", "top"], ["moved"]),
            helper.make_node("ReduceMean", ["moved"], ["level"], keepdims=0),
            helper.make_node("Add", ["x", "level"], ["y"]),
        ],
        one=np.ones(1, np.float32),
        many=np.array([100_000], np.int64),
        twice=np.array([2], np.int64),
    )
    assert "grow" in result["left"]
    assert result["before"] == result["after"]
    assert model == onnx.load(source)


def test_a_file_that_onnxruntime_does_not_load_stays_as_it_is(folded):
    """The pass is no gate: what is wrong with a file is said by who runs it."""
    result, source, model = folded([helper.make_node("Conv", ["x", "missing"], ["y"])])
    assert "does not fold" in result["left"]
    assert model == onnx.load(source)


def test_a_shared_bias_becomes_one_for_each_user(folded):
    """Quantized, each needs its own scale; onnxruntime's copies take the names of other tensors (Basic Pitch)."""
    weights = np.random.default_rng(0).normal(size=(3, 4, 4, 1, 1)).astype(np.float32)
    result, source, model = folded(
        [
            helper.make_node("Conv", ["x", "w0", "b"], ["b1"], name="first"),
            helper.make_node("Conv", ["b1", "w1", "b"], ["b2"], name="second"),
            helper.make_node("Conv", ["b2", "w2", "b"], ["y"], name="third"),
        ],
        b=np.ones(4, np.float32),
        **{f"w{k}": weights[k] for k in range(3)},
    )
    assert not result["left"]
    biases = [node.input[2] for node in model.graph.node]
    assert len(set(biases)) == 3
    assert not set(biases) & {"b1", "b2"}
    quantized = source.with_name("quantized.onnx")
    quantize_static(model, quantized, _Ones(), per_channel=True)
    InferenceSession(quantized, providers=["CPUExecutionProvider"])
    with pytest.raises(Fail):  # the trap itself: if this no longer fails, `unshare` has had its day
        InferenceSession(_quantized_as_it_is(source), providers=["CPUExecutionProvider"])


def test_a_bias_of_two_dimensions_becomes_one(folded):
    """What a dense layer adds has one value for each output; of shape (1, N) it stops the quantizer (Magika)."""
    result, source, model = folded(
        [
            helper.make_node("Reshape", ["x", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "w"], ["a"]),
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("Reshape", ["c", "shape"], ["y"]),
        ],
        flat=np.array([1, 256], np.int64),
        shape=np.array(SHAPE, np.int64),
        w=np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32),
        b=np.full((1, 256), 1e6, np.float32),
    )
    assert not result["left"]
    dense = next(node for node in model.graph.node if node.op_type == "Gemm")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == dense.input[2])
    assert list(bias.dims) == [256]
    assert {tensor.name for tensor in model.graph.initializer} <= {name for n in model.graph.node for name in n.input}
    quantize_static(model, source.with_name("quantized.onnx"), _Ones(), per_channel=True)


class _Ones(CalibrationDataReader):
    def __init__(self):
        self.left = 2

    def get_next(self):
        self.left -= 1
        return {"x": np.full(SHAPE, 1.0 + self.left, np.float32)} if self.left >= 0 else None


def _quantized_as_it_is(source):
    path = source.with_name("as_it_is.onnx")
    quantize_static(source, path, _Ones(), per_channel=True)
    return path
