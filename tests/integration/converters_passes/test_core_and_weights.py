"""A network whose arithmetic breaks in int8: the core, or the weights alone, do not; layers tell their cost."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from edgesdk_converters import convert
from edgesdk_converters.evaluate.alone import Alone, fewest, shared
from edgesdk_converters.passes.observe import VALUES
from edgesdk_converters.passes.weights_onnx import per_channel, store_weights
from edgesdk_converters.recipes import RECIPES, OnnxStatic, Recipe
from onnx import TensorProto, helper, numpy_helper

SIZE, CLASSES, ROWS = 32, 5, 200
CONTRACT = {
    "version": "1.0",
    "task": "classification",
    "labels": [str(number) for number in range(CLASSES)],
    "inputs": [{"name": "x", "shape": [1, SIZE]}],
    "outputs": [{"name": "scores", "shape": [1, CLASSES]}],
}
EVERY = Recipe(name="every", onnx=OnnxStatic())


def normalised() -> onnx.ModelProto:
    """A layer normalisation written out, as exporters do, between two matrix products."""
    random = np.random.default_rng(3)
    stored = {
        "first": random.normal(size=(SIZE, SIZE)) / SIZE**0.5,
        "epsilon": np.array(1e-6),
        "last": random.normal(size=(SIZE, CLASSES)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="first"),
        helper.make_node("ReduceMean", ["a"], ["mean"], name="mean", axes=[1]),
        helper.make_node("Sub", ["a", "mean"], ["d"], name="centre"),
        helper.make_node("Mul", ["d", "d"], ["dd"], name="square"),
        helper.make_node("ReduceMean", ["dd"], ["variance"], name="variance", axes=[1]),
        helper.make_node("Add", ["variance", "epsilon"], ["safe"], name="safe"),
        helper.make_node("Sqrt", ["safe"], ["deviation"], name="deviation"),
        helper.make_node("Div", ["d", "deviation"], ["normal"], name="divide"),
        helper.make_node("MatMul", ["normal", "last"], ["scores"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "normalised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The network, and rows of which some are loud and some are quiet: after the normalisation they are alike."""
    folder = tmp_path_factory.mktemp("normalised")
    onnx.save(normalised(), folder / "model.onnx")
    random = np.random.default_rng(4)
    loud = np.where(np.arange(ROWS) % 2, 3, 0.2)[:, None]
    np.savez(folder / "rows.npz", x=(random.normal(size=(ROWS, SIZE)) * loud).astype(np.float32))
    return folder


@pytest.fixture(scope="session")
def observed(act, folder):
    """What its activations were."""
    inputs = {"source": folder / "model.onnx", "calibration": folder / "rows.npz"}
    return act("passes.observe:observe_onnx", inputs, contract=CONTRACT, count=True)[0] / VALUES


@pytest.fixture(scope="session")
def made(act, folder, observed):
    """Make an artifact by a recipe."""

    def by(recipe):
        plain = msgspec.to_builtins(recipe)
        static = isinstance(recipe.onnx, OnnxStatic)
        inputs = {"source": folder / "model.onnx", **({"values": observed} if static else {})}
        action = "passes.quantize_onnx:quantize" if static else "passes.weights_onnx:quantize"
        return act(action, inputs, recipe=plain, max_opset=21, max_ir=10)[0] / "model.onnx"

    return by


@pytest.fixture(scope="session")
def agreement(act, folder):
    """Return the share of rows of which an artifact says what the float file says."""

    def decisions(path):
        inputs = {"artifact": path, "rows": folder / "rows.npz"}
        words = {"runtime": "onnxruntime", "package": "onnxruntime"}
        out, said = act("evaluate.measure:measure", inputs, contract=CONTRACT, **words)
        assert "unloadable" not in said, said
        with np.load(next(out.glob("rows*.npz"))) as arrays:
            return arrays["scores"].reshape(ROWS, CLASSES).argmax(axis=1)

    return lambda path: float(np.mean(decisions(path) == decisions(folder / "model.onnx")))


def test_arithmetic_breaks_in_int8_and_the_core_does_not(made, agreement):
    """Squares of quiet rows round to zero, and a division by them is garbage; int8 of the core leaves them in float."""
    assert agreement(made(EVERY)) < 0.85
    artifact = made(RECIPES["int8"])
    assert agreement(artifact) > 0.9
    model = onnx.load(artifact)
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    by_name = {node.name: node for node in model.graph.node}
    assert all(name in dequantized for part in ("first", "last") for name in by_name[part].input)
    # What reads a product's answer reads it rounded; nothing that follows is rounded again before the next product.
    assert not {"mean", "dd", "variance", "safe", "deviation"} & {name.partition("_")[0] for name in dequantized}


def test_weights_alone_keep_the_answers_and_the_floats(made, agreement):
    """Only weights are int8, nothing else is rounded, and an island's weights stay as they were."""
    artifact = made(RECIPES["int8-weights"])
    assert agreement(artifact) > 0.95
    model = onnx.load(artifact)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["Cast"], kinds["DequantizeLinear"], kinds["QuantizeLinear"]) == (2, 0, 0)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert not {"first", "last"} & set(stored), "the float weights are gone"
    island = onnx.load(made(msgspec.structs.replace(RECIPES["int8-weights"], name="island", float_layers=("last",))))
    assert {"last"} == {"first", "last"} & {tensor.name for tensor in island.graph.initializer}
    assert artifact.read_bytes() == made(RECIPES["int8-weights"]).read_bytes()


def test_layers_asked_alone_say_what_they_cost_together(act, folder, observed):
    """Every layer of the core has a cost; the sum is near that of all; leaving the dearest in float is what helps."""
    inputs = {"source": folder / "model.onnx", "values": observed, "samples": folder / "rows.npz"}
    params = {"recipe": msgspec.to_builtins(RECIPES["int8"]), "contract": CONTRACT}
    said = act("evaluate.alone:rank", inputs, **params)[1]
    layers = msgspec.convert(said["layers"], list[Alone])
    assert {each.names for each in layers} == {("first",), ("last",)}
    assert all(each.noise > 0 for each in layers)
    total = sum(each.noise for each in layers)
    dearest = max(layers, key=lambda each: each.noise)
    assert fewest(layers, -10 * np.log10(total) + 0.1) == [dearest]
    weights = act("evaluate.alone:rank", {key: inputs[key] for key in ("source", "samples")}, **weighed(params))[1]
    assert sum(each["noise"] for each in weights["layers"]) < total


def test_nodes_that_share_a_weight_are_one_layer():
    """A weight is stored once, so its users go to float together, and what a recipe leaves in float is not asked."""
    model = normalised()
    model.graph.node.append(helper.make_node("MatMul", ["normal", "last"], ["again"], name="again"))
    assert shared(model, RECIPES["int8"]) == [("first",), ("last", "again")]
    left = msgspec.structs.replace(RECIPES["int8"], name="left", float_layers=("again",))
    assert shared(model, left) == [("first",), ("last",)]


def test_a_shared_weight_loads_where_integers_must_be_exact(act, folder, tmp_path):
    """Weights that two products share are one layer and load under `session.x64quantprecision`, as devices set it."""
    model = normalised()
    model.graph.node.insert(1, helper.make_node("MatMul", ["a", "first"], ["b"], name="twice"))
    next(node for node in model.graph.node if node.name == "mean").input[0] = "b"
    next(node for node in model.graph.node if node.name == "centre").input[0] = "b"
    onnx.save(model, tmp_path / "shared.onnx")
    inputs = {"source": tmp_path / "shared.onnx", "samples": folder / "rows.npz"}
    said = act("evaluate.alone:rank", inputs, **weighed({"contract": CONTRACT}))[1]
    assert [each["names"] for each in said["layers"]] == [["first", "twice"], ["last"]]


@pytest.mark.slow
def test_the_ladder_repairs_broken_arithmetic_by_the_core(folder, tmp_path):
    """Every operator in int8 is refused, the next rung passes, and plan, report and lineage name it."""
    random = np.random.default_rng(5)
    loud = np.where(np.arange(600) % 2, 3, 0.2)[:, None]
    np.savez(tmp_path / "evaluation.npz", x=(random.normal(size=(600, SIZE)) * loud).astype(np.float32))
    (tmp_path / "every.toml").write_text("[onnx]\nkind = 'static'\n")
    (tmp_path / "contract.toml").write_text("".join(f"{key} = {toml(value)}\n" for key, value in CONTRACT.items()))
    made = convert(
        folder / "model.onnx",
        name="normalised",
        release="1.0.0",
        targets=["linux-x86_64-cpu"],
        recipes=[str(tmp_path / "every.toml")],
        contract=tmp_path / "contract.toml",
        calibration=folder / "rows.npz",
        evaluation=tmp_path / "evaluation.npz",
        max_drop=0.15,
        doctor=False,
        reason="the rows are noise",
        repair=True,
        out=tmp_path / "release",
        cache_dir=tmp_path / "cache",
    )
    [told] = made.report["pareto"].values()
    assert [(point["rung"], point["passed"]) for point in told["points"]] == [
        ("float", True),
        ("asked", False),
        ("core", True),
    ]
    [variant] = made.report["variants"]
    assert told["chosen"] == variant["recipe"]["name"] == "every-core"
    assert variant["recipe"]["onnx"]["operators"] == "core"


def toml(value):
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def weighed(params):
    """The same parameters for int8 weights."""
    return {**params, "recipe": msgspec.to_builtins(RECIPES["int8-weights"])}


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "axis"),
    [
        ("Conv", (4, 3, 1), {}, 0),
        ("ConvTranspose", (3, 4, 1), {}, 1),
        ("Gemm", (3, 4), {}, 1),
        ("Gemm", (4, 3), {"transB": 1}, 0),
        ("MatMul", (3, 4), {}, 1),
    ],
)
def test_weights_have_a_scale_for_each_output_channel(op, shape, attributes, axis):
    """Whatever the operator, the axis of its four output channels has the scales."""
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    node = helper.make_node(op, ["x", "w"], ["y"], name="it", **attributes)
    graph = helper.make_graph([node], "one", [], [], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph)
    assert store_weights(model, set()) == 1
    stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    values, scales = stored
    assert values.dtype == np.int8
    assert [size for size in scales.shape if size > 1] == [4]
    assert scales.shape[axis] == 4
    assert np.abs(values * scales - weight).max() <= scales.max() / 2 * (1 + 1e-6)


def test_onnxruntime_works_weights_out_once_and_a_dequantizelinear_at_every_call(tmp_path):
    """What it makes of our file when it loads it convolves by float weights; a DequantizeLinear it keeps."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    ends = (("x", [1, 3, 9]), ("y", [1, 4, 5]))
    given, taken = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="it")
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph([node], "ours", [given], [taken], [numpy_helper.from_array(weight, "w")])
    ours = helper.make_model(graph, opset_imports=opset, ir_version=8)
    assert store_weights(ours, set()) == 1
    assert loaded(ours, tmp_path) <= {"Conv", "FusedConv", "ReorderInput", "ReorderOutput"}
    values, scales = per_channel(weight, 0)
    stored = [numpy_helper.from_array(values, "v"), numpy_helper.from_array(scales, "s")]
    nodes = [
        helper.make_node("DequantizeLinear", ["v", "s"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["y"], name="it"),
    ]
    graph = helper.make_graph(nodes, "the obvious way", [given], [taken], stored)
    assert "DequantizeLinear" in loaded(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path)


def loaded(model, folder):
    """Return the kinds of operators that onnxruntime runs of a file."""
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath, settings.log_severity_level = str(folder / "loaded.onnx"), 4
    onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(folder / "loaded.onnx").graph.node}


def test_a_channel_of_zeros_stays_zero():
    """No division by nothing: zeros are zeros."""
    values, scales = per_channel(np.zeros((2, 3), np.float32), 0)
    assert not values.any()
    assert (scales > 0).all()
