"""What compilers do not take is written out: one-value inputs, recurrent layers, sizes that are computed on the way."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from edgesdk_converters.passes.gather_onnx import gather, widen_sigmoids
from edgesdk_converters.passes.unroll_onnx import unroll
from edgesdk_converters.sources.settled import settle
from onnx import TensorProto, helper, numpy_helper

from edgesdk.contract import Contract, TensorSpec

STEPS, BATCH, FEATURES, HIDDEN = 3, 2, 4, 5


def model(nodes, inputs, outputs, stored):
    """A graph of nodes; inputs and outputs as (name, type, shape), what is stored by name."""
    ends = [[helper.make_tensor_value_info(*entry) for entry in side] for side in (inputs, outputs)]
    made = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(each, name) for name, each in stored.items()])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(made, feed):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def recurrent(direction, *, kind="LSTM", states=True, **attributes):
    """A recurrent layer with random weights, as exporters write it; all that it gives are the graph's outputs."""
    random, ways, gates = (
        np.random.default_rng(0),
        2 if direction == "bidirectional" else 1,
        {"LSTM": 4, "GRU": 3}[kind],
    )
    sizes = {
        "w": (ways, gates * HIDDEN, FEATURES),
        "r": (ways, gates * HIDDEN, HIDDEN),
        "b": (ways, 2 * gates * HIDDEN),
    }
    stored = {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    named = ("h", "c")[: gates - 2]
    inputs = [("x", TensorProto.FLOAT, [STEPS, BATCH, FEATURES])]
    inputs += [(name, TensorProto.FLOAT, [ways, BATCH, HIDDEN]) for name in named if states]
    outputs = [("y", TensorProto.FLOAT, [STEPS, ways, BATCH, HIDDEN])]
    outputs += [(f"{name}n", TensorProto.FLOAT, [ways, BATCH, HIDDEN]) for name in named]
    taken = ["x", "w", "r", "b", *(["", *named] if states else [])]
    given = [name for name, *_ in outputs]
    node = helper.make_node(kind, taken, given, name="layer", hidden_size=HIDDEN, direction=direction, **attributes)
    return model([node], inputs, outputs, stored)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize(("kind", "attributes"), [("LSTM", {}), ("GRU", {"linear_before_reset": 1})])
def test_a_recurrent_layer_is_written_out_and_computes_the_same(kind, attributes, direction, states):
    """Every direction, with states that are given or zero: all outputs are the same but for rounding."""
    source = recurrent(direction, kind=kind, states=states, **attributes)
    made = onnx.ModelProto()
    made.CopyFrom(source)
    assert unroll(made) == 1
    onnx.checker.check_model(made, full_check=True)
    assert not {node.op_type for node in made.graph.node} & {"LSTM", "GRU", "If", "Loop"}
    random = np.random.default_rng(1)
    shapes = {entry.name: [size.dim_value for size in entry.type.tensor_type.shape.dim] for entry in made.graph.input}
    feed = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for expected, found in zip(answers(source, feed), answers(made, feed), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("LSTM", {"clip": 1.0}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"activations": ["Relu", "Tanh", "Tanh"]}),
        ("GRU", {}),
    ],
)
def test_a_layer_of_another_kind_stays_as_it_is(kind, attributes):
    """What is not written out is left alone, and not computed otherwise: a GRU that resets before its product too."""
    made = recurrent("forward", kind=kind, **attributes)
    assert unroll(made) == 0
    assert [node.op_type for node in made.graph.node] == [kind]


RATE = Contract(
    version="1.0",
    task="other",
    inputs=(TensorSpec(name="x", shape=(1, 4)), TensorSpec(name="rate", shape=(), dtype="int64", range=(16000, 16000))),
    outputs=(TensorSpec(name="y", shape=(1, 4)),),
)


def rated():
    """A sampling rate times zero, added: how PyTorch's tracer keeps an input alive that nobody needs."""
    nodes = [
        helper.make_node("Mul", ["rate", "zero"], ["nothing"], name="mul"),
        helper.make_node("Cast", ["nothing"], ["none"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Add", ["r", "none"], ["y"], name="add"),
    ]
    inputs = [("x", TensorProto.FLOAT, ["batch", 4]), ("rate", TensorProto.INT64, [])]
    return model(nodes, inputs, [("y", TensorProto.FLOAT, ["batch", 4])], {"zero": np.array(0, np.int64)})


def test_an_input_that_has_one_value_stays_an_input_that_nothing_reads(tmp_path, act):
    """The contract holds as before, and no compiler can take an input out that the artifact's bindings name."""
    onnx.save(rated(), tmp_path / "model.onnx")
    contract = msgspec.to_builtins(RATE)
    out, _ = act("onnx:pin", tmp_path / "model.onnx", contract=contract, flat=True)
    made = onnx.load(out / "model.onnx").graph
    assert [entry.name for entry in made.input] == ["x", "rate"]
    assert not any("rate" in node.input for node in made.node)
    plain, _ = act("onnx:pin", tmp_path / "model.onnx", contract=contract)
    assert any("rate" in node.input for node in onnx.load(plain / "model.onnx").graph.node)


def test_sizes_that_are_computed_on_the_way_are_known(tmp_path):
    """Paddle's Shape, Slice, Concat, Reshape: the output's sizes are the contract's, and the arithmetic is gone."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Slice", ["shape", "begin", "end"], ["first"], name="slice"),
        helper.make_node("Concat", ["first", "rest"], ["wanted"], name="concat", axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"], name="reshape"),
    ]
    stored = {name: np.array([value], np.int64) for name, value in (("begin", 0), ("end", 1), ("rest", -1))}
    source = model(nodes, [("x", TensorProto.FLOAT, [1, 2, 2])], [("y", TensorProto.FLOAT, ["?", "?"])], stored)
    contract = Contract(
        version="1.0",
        task="other",
        inputs=(TensorSpec(name="x", shape=(1, 2, 2)),),
        outputs=(TensorSpec(name="y", shape=(1, 4)),),
    )
    assert settle(source, contract, tmp_path) is None
    made = settle(source, contract, tmp_path, whole=True)
    assert [size.dim_value for size in made.graph.output[0].type.tensor_type.shape.dim] == [1, 4]
    assert [node.op_type for node in made.graph.node] == ["Reshape"]


def softmaxed(stored, *, axis=1):
    """A softmax as JAX writes it out, behind a reciprocal square root."""
    axes = {"axes": np.array([axis], np.int64)}
    nodes = [
        helper.make_node("Sqrt", ["x"], ["s"], name="sqrt"),
        helper.make_node("Reciprocal", ["s"], ["logits"], name="reciprocal"),
        helper.make_node("ReduceMax", ["logits"], ["most"], name="most", axes=[axis], keepdims=0),
        helper.make_node("Max", ["least", "most"], ["bounded"], name="bounded"),
        helper.make_node("Reshape", ["bounded", "column"], ["column_of_most"], name="column"),
        helper.make_node("Sub", ["logits", "column_of_most"], ["below"], name="below"),
        helper.make_node("Exp", ["below"], ["powers"], name="exp"),
        helper.make_node("ReduceSum", ["powers", "axes"], ["whole"], name="whole", keepdims=0),
        helper.make_node("Reshape", ["whole", "column"], ["column_of_whole"], name="again"),
        helper.make_node("Div", ["powers", "column_of_whole"], ["y"], name="div"),
    ]
    stored = {"column": np.array([2, 1], np.int64), **axes, **stored}
    return model(nodes, [("x", TensorProto.FLOAT, [2, 5])], [("y", TensorProto.FLOAT, [2, 5])], stored)


def test_a_softmax_that_was_written_out_is_one_operator_again():
    """Compilers know Softmax and Div, and neither Exp, ReduceMax and Reciprocal nor minus infinity."""
    source = onnx.shape_inference.infer_shapes(softmaxed({"least": np.array(-np.inf, np.float32)}), data_prop=True)
    made = onnx.ModelProto()
    made.CopyFrom(source)
    assert gather(made) == 2
    onnx.checker.check_model(made, full_check=True)
    assert [node.op_type for node in made.graph.node] == ["Sqrt", "Div", "Softmax"]
    feed = {"x": np.random.default_rng(2).uniform(0.1, 2, (2, 5)).astype(np.float32)}
    np.testing.assert_allclose(answers(made, feed)[0], answers(source, feed)[0], rtol=1e-6)


def test_what_only_looks_like_a_softmax_is_left():
    """A bound that is no infinity changes what is computed."""
    source = onnx.shape_inference.infer_shapes(softmaxed({"least": np.array(0.5, np.float32)}), data_prop=True)
    gather(source)
    assert "Softmax" not in {node.op_type for node in source.graph.node}


def test_a_hard_sigmoid_is_written_with_relu6():
    """The same values by operators that TFLite's tools quantize, with the operator's own slope or the usual one."""
    nodes = [
        helper.make_node("HardSigmoid", ["x"], ["a"], name="usual"),
        helper.make_node("HardSigmoid", ["a"], ["y"], name="own", alpha=0.4, beta=0.1),
    ]
    source = model(nodes, [("x", TensorProto.FLOAT, [2, 5])], [("y", TensorProto.FLOAT, [2, 5])], {})
    made = onnx.ModelProto()
    made.CopyFrom(source)
    assert widen_sigmoids(made) == 2
    onnx.checker.check_model(made, full_check=True)
    feed = {"x": np.linspace(-5, 5, 10, dtype=np.float32).reshape(2, 5)}
    np.testing.assert_allclose(answers(made, feed)[0], answers(source, feed)[0], atol=1e-6)


def test_a_slice_of_everything_is_dropped_and_one_that_turns_round_is_not():
    """It changes nothing, and converters stumble over it."""
    nodes = [
        helper.make_node("Slice", ["x", "begin", "end", "axis"], ["whole"], name="whole"),
        helper.make_node("Slice", ["whole", "last", "before", "axis", "back"], ["turned"], name="turned"),
        helper.make_node("Relu", ["turned"], ["y"], name="relu"),
    ]
    bounds = {"begin": 0, "end": 9, "axis": 1, "last": -1, "before": -9, "back": -1}
    stored = {name: np.array([value], np.int64) for name, value in bounds.items()}
    source = model(nodes, [("x", TensorProto.FLOAT, [2, 5])], [("y", TensorProto.FLOAT, [2, 5])], stored)
    made = onnx.shape_inference.infer_shapes(source, data_prop=True)
    assert gather(made) == 1
    assert [node.name for node in made.graph.node] == ["turned", "relu"]
    feed = {"x": np.arange(-5, 5, dtype=np.float32).reshape(2, 5)}
    np.testing.assert_array_equal(answers(made, feed)[0], answers(source, feed)[0])
