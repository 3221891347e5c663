"""float16 of ONNX: what half precision cannot hold stays in float32, all the way."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from edgesdk_converters.passes.half_onnx import beyond_half, computing, join_islands
from edgesdk_converters.recipes import RECIPES, OnnxFloat16
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgesdk.errors import ReleaseError

SIZE = 16
QUIET = np.geomspace(1e-6, 1, SIZE, dtype=np.float32)[None]
"""From far below what half precision holds when it is squared, to what it holds well."""


def level_of_sound(tmp_path, floor=1e-10):
    """A model file: a matrix product, its squares' logarithm with a floor, and a second matrix product."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["bands"], name="bands"),
        helper.make_node("Mul", ["bands", "bands"], ["power"], name="power"),
        helper.make_node("Add", ["power", "floor"], ["floored"], name="floored"),
        helper.make_node("Log", ["floored"], ["level"], name="level"),
        helper.make_node("MatMul", ["level", "last"], ["y"], name="last"),
    ]
    eye = np.eye(SIZE, dtype=np.float32)
    stored = {"first": eye, "last": eye / 8, "floor": np.array(floor, np.float32)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "level", ends[:1], ends[1:], tensors)
    path = tmp_path / "level.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def answer(path):
    """What a file says of quiet and loud sounds."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": QUIET})[0]


@pytest.fixture
def halved(act, tmp_path):
    """Returns the float16 file of the model, by a recipe with changes."""

    def make(**changes):
        recipe = msgspec.structs.replace(RECIPES["float16"], **changes)
        params = {"recipe": msgspec.to_builtins(recipe), "max_opset": 21, "max_ir": 10}
        out, _ = act("passes.shrink_onnx:to_float16", {"source": level_of_sound(tmp_path)}, **params)
        return out / "model.onnx"

    return make


def test_a_floor_below_half_precision_stays_where_it_is(halved, tmp_path):
    """The tool alone lifts it to 1e-7, and quiet sounds with it; here weights are halved and the level is float's.

    The report counts the three operators that make it.
    """
    expected = answer(level_of_sound(tmp_path))
    ours, tools = halved(), halved(onnx=OnnxFloat16(tiny="float16"))
    assert np.abs(answer(tools) - expected).max() > 0.5, "the trap"
    assert np.abs(answer(ours) - expected).max() < 0.1
    weights = {tensor.name: tensor.data_type for tensor in onnx.load(ours).graph.initializer if len(tensor.dims) == 2}
    assert set(weights.values()) == {TensorProto.FLOAT16}
    assert (computing(onnx.load(ours)), computing(onnx.load(tools))) == ((3, 5), (0, 5))


def test_where_everything_stays_in_float32_the_refusal_says_why(halved):
    """The model has weights, and a recipe that leaves all of them makes nothing."""
    with pytest.raises(
        ReleaseError, match="weights beside the 5 nodes that stay in float32 by `float_layers` or `tiny`"
    ):
        halved(float_layers=("bands", "last"))


def test_what_stays_in_float32_is_not_rounded_between_two_operators(halved):
    """Three neighbours in float32 have one cast before them and one behind them; the tool puts a pair between each."""
    model = onnx.load(halved())
    writers = {name: node for node in model.graph.node for name in node.output}
    read = {node.name: writers[node.input[0]].name for node in model.graph.node if node.name in {"floored", "level"}}
    assert read == {"floored": "power", "level": "floored"}


@pytest.mark.parametrize(("floor", "expected"), [(1e-10, {"power", "floored", "level"}), (1e-5, set())])
def test_only_constants_that_half_precision_lacks_make_an_island(tmp_path, floor, expected):
    """What is squared above a tiny constant and read below it belongs to it; matrix products do not."""
    assert set(beyond_half(onnx.load(level_of_sound(tmp_path, floor)))) == expected


def test_a_root_of_what_is_tiny_and_its_quotient_belong_to_it():
    """A normalisation's deviation may be tiny as well: who divides by it divides in float32; what is divided is not."""
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"], name="centred"),
        helper.make_node("Pow", ["centred", "two"], ["squares"], name="squares"),
        helper.make_node("ReduceMean", ["squares"], ["variance"], name="variance"),
        helper.make_node("Add", ["variance", "epsilon"], ["safe"], name="safe"),
        helper.make_node("Sqrt", ["safe"], ["deviation"], name="deviation"),
        helper.make_node("Div", ["centred", "deviation"], ["y"], name="quotient"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    stored = {"mean": 0.5, "two": 2.0, "epsilon": 1e-12}
    tensors = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in stored.items()]
    found = beyond_half(helper.make_model(helper.make_graph(nodes, "norm", ends[:1], ends[1:], tensors)))
    assert set(found) == {"squares", "variance", "safe", "deviation", "quotient"}


def branch(operator):
    """A body that adds up or multiplies the level of its surroundings."""
    nodes = [helper.make_node(operator, ["level", "level"], [operator], name=operator)]
    return helper.make_graph(nodes, operator, [], [helper.make_tensor_value_info(operator, TensorProto.FLOAT, [SIZE])])


def test_islands_take_whole_numbers_and_are_read_by_branches():
    """The model's own cast of integers stays before an island, and the cast that only a branch reads behind it."""
    nodes = [
        helper.make_node("Cast", ["counts"], ["numbers"], name="numbers", to=TensorProto.FLOAT),
        helper.make_node("Add", ["numbers", "floor"], ["floored"], name="floored"),
        helper.make_node("Log", ["floored"], ["level"], name="level"),
        helper.make_node("If", ["twice"], ["y"], name="if", then_branch=branch("Add"), else_branch=branch("Mul")),
    ]
    counts = helper.make_tensor_value_info("counts", TensorProto.INT64, [SIZE])
    ends = [helper.make_tensor_value_info("twice", TensorProto.BOOL, []), counts]
    floor = numpy_helper.from_array(np.array([1e-10], np.float32), "floor")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [SIZE])
    graph = helper.make_graph(nodes, "counts", ends, [y], [floor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"counts": np.arange(SIZE), "twice": np.array(True)}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    own = {node.name for node in model.graph.node}
    made = convert_float_to_float16(model, keep_io_types=True, node_block_list=beyond_half(model))
    assert join_islands(made, own) == 1
    assert computing(made) == (2, 5), "sum and logarithm stay in float32; the If and its bodies do not"
    found = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
