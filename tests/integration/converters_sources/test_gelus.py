"""A GELU, in whatever order it was written out, is one operator of TFLite again; what is none is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from edgesdk_converters.lint.as_tflite import as_tflite
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.passes.gelu_onnx import order_gelus, write_erfcs, write_tflite_gelus
from onnx import TensorProto, helper, numpy_helper

CANONICAL = {
    "Erf": ["Mul", "Erf", "Add", "Mul", "Mul"],
    "Tanh": ["Pow", "Mul", "Add", "Mul", "Tanh", "Add", "Mul", "Mul"],
}
SHAPE = [1, 3, 4]
ERF = [("Div", "x root2", "i"), ("Erf", "i", "f"), ("Add", "f one", "g")]
CUBED = [
    ("Mul", "x x", "s"),
    ("Mul", "s x", "c"),
    ("Mul", "c cubic", "b"),
    ("Add", "x b", "t"),
    ("Mul", "t slope", "i"),
]
TANH = [*CUBED, ("Tanh", "i", "f"), ("Add", "one f", "g")]
STEEP = [
    ("Mul", "x cubic", "b"),
    ("Mul", "x b", "c"),
    ("Mul", "x c", "s"),
    ("Add", "x s", "t"),
    ("Mul", "slope t", "i"),
]
FACTORED = [("Mul", "x x", "s"), ("Mul", "s bend", "b"), ("Add", "b slope", "t"), ("Mul", "x t", "i")]
POWER = [("Pow", "x three", "s"), ("Mul", "s cubic", "b"), ("Add", "x b", "t"), ("Mul", "t slope", "i")]
ENDS = {
    "half last": [("Mul", "x g", "p"), ("Mul", "p half", "y")],
    "half first": [("Mul", "x half", "p"), ("Mul", "p g", "y")],
    "half in between": [("Mul", "half g", "p"), ("Mul", "x p", "y")],
    "divided": [("Div", "x two", "p"), ("Mul", "g p", "y")],
}
INNERS = {
    "Erf of a quotient": ERF,
    "Erf of a product": [("Mul", "x root", "i"), *ERF[1:]],
    "Tanh of a cube": TANH,
    "Tanh as JAX writes it": [*STEEP, *TANH[-2:]],
    "Tanh of a factor": [*FACTORED, *TANH[-2:]],
    "Tanh of a power": [*POWER, *TANH[-2:]],
}
NUMBERS = {
    "root2": np.sqrt(2),
    "root": 0.7071068,
    "one": 1,
    "half": 0.5,
    "two": 2,
    "three": 3,
    "other": 0.6,
    "cubic": 0.044715,
    "slope": 0.7978846,
    "bend": 0.7978846 * 0.044715,
}


def model(nodes, numbers=NUMBERS, *, wide=False) -> onnx.ModelProto:
    """A graph of (operator, inputs, output), constants by name; `wide` constants are no single numbers."""
    made = [helper.make_node(op, given.split(), [output], name=f"n/{output}") for op, given, output in nodes]
    shape = SHAPE[-1:] if wide else [1, 1, 1]
    read = {name for node in made for name in node.input}
    stored = [
        numpy_helper.from_array(np.full(shape, value, np.float32), name)
        for name, value in numbers.items()
        if name in read
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)] for name in ("x", "y")]
    graph = helper.make_graph(made, "g", *ends, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    return onnx.shape_inference.infer_shapes(made)


def answer(made: onnx.ModelProto) -> np.ndarray:
    x = np.linspace(-6, 6, 12, dtype=np.float32).reshape(SHAPE)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("inner", INNERS)
def test_every_order_becomes_the_one_that_is_fused(inner, end, tmp_path):
    """It computes the same; and lint sees a GELU where the converter will make one."""
    written = model([*INNERS[inner], *ENDS[end]])
    expected = answer(written)
    onnx.save(written, tmp_path / "model.onnx")
    assert [node.op for node in as_tflite(read_graph(tmp_path / "model.onnx")).nodes] == ["GELU"]
    assert order_gelus(written) == 1
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == CANONICAL[inner.split()[0]]
    np.testing.assert_allclose(answer(written), expected, atol=2e-6)


@pytest.mark.parametrize("name", ["half", "halved", "gate", "one", "raised", "slope", "inner", "cube", "bend", "bent"])
@pytest.mark.parametrize("inner", ["Erf of a product", "Tanh of a power"])
def test_the_source_may_have_any_name(inner, name):
    """Also one of those that the steps of a GELU are called by."""
    named = {"x": name, **{number: f"the_{number}" for number in NUMBERS}}
    steps = [*INNERS[inner], *ENDS["half last"]]
    renamed = [(op, " ".join(named.get(each, each) for each in given.split()), output) for op, given, output in steps]
    written = model([("Neg", "x", name), *renamed], {named[number]: value for number, value in NUMBERS.items()})
    expected = answer(written)
    assert order_gelus(written) == 1
    np.testing.assert_allclose(answer(written), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("nodes", "wide"),
    [
        ([*ERF, ("Mul", "x g", "p"), ("Mul", "p other", "y")], False),  # 0.6 in the place of a half
        ([("Mul", "x other", "i"), *ERF[1:], *ENDS["half last"]], False),  # another slope
        ([*ERF[:-1], ("Add", "f half", "g"), *ENDS["half last"]], False),  # half an error function more
        ([*ERF, ("Mul", "g half", "y")], False),  # Φ, which is not multiplied
        ([("Relu", "x", "r"), *ERF, ("Mul", "r g", "p"), ("Mul", "p half", "y")], False),  # gates another value
        ([*ERF, *ENDS["half last"]], True),  # constants of a value for each channel
        ([*ERF[:-1], ("Sub", "f one", "g"), *ENDS["half last"]], False),
    ],
)
def test_what_is_no_gelu_stays(nodes, wide, tmp_path):
    """Something near to it too: not a node is touched, and lint judges it as it is."""
    written = model(nodes, wide=wide)
    onnx.save(written, tmp_path / "model.onnx")
    before = written.SerializeToString()
    assert order_gelus(written) == 0
    assert written.SerializeToString() == before
    assert "GELU" not in {node.op for node in as_tflite(read_graph(tmp_path / "model.onnx")).nodes}


def test_what_else_is_read_of_it_stays():
    """A gate that another operator reads too is still computed."""
    shared = [*ERF, *ENDS["half last"][:1], ("Mul", "p half", "q"), ("Add", "q g", "y")]
    written = model(shared)
    expected = answer(written)
    assert order_gelus(written) == 1
    assert sum(node.op_type == "Erf" for node in written.graph.node) == 2
    np.testing.assert_allclose(answer(written), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("inner", "ops"),
    [
        ([("Neg", "x", "n"), ("Mul", "n root", "i")], ["Mul", "Erf", "Add", "Mul", "Mul"]),
        ([("Neg", "x", "n"), ("Div", "n root2", "i")], ["Div", "Erf", "Add", "Mul", "Mul"]),
        ([("Mul", "x root", "m"), ("Neg", "m", "i")], ["Mul", "Erf", "Add", "Mul", "Mul"]),
        ([("Sub", "zero x", "n"), ("Mul", "n root", "i")], ["Sub", "Mul", "Erf", "Sub", "Mul", "Mul"]),
    ],
)
def test_an_erfc_is_written_by_an_erf(inner, ops):
    """As TensorFlow writes its GELU, negated where that can be; it is a GELU, and its values are."""
    steps = [*inner, ("Erfc", "i", "f"), ("Mul", "half x", "h"), ("Mul", "h f", "y")]
    written = model(steps, {**NUMBERS, "zero": 0})
    assert write_erfcs(written) == 1
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == ops
    np.testing.assert_allclose(answer(written), answer(model([*ERF, *ENDS["half last"]])), atol=2e-6)
    assert write_erfcs(written) == 0


@pytest.mark.parametrize("function", CANONICAL)
def test_a_gelu_of_tflite_is_written_out(function):
    """tf2onnx lets it stand, exact or approximate, under TFLite's name."""
    written = model([("TFL_GELU", "x", "y")])
    written.graph.node[0].attribute.append(helper.make_attribute("approximate", int(function == "Tanh")))
    assert write_tflite_gelus(written) == 1
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == CANONICAL[function]
    inner = "Erf of a product" if function == "Erf" else "Tanh of a power"
    np.testing.assert_allclose(answer(written), answer(model([*INNERS[inner], *ENDS["half first"]])), atol=2e-6)
