"""Float ONNX whose weights calibration data rounded: every kind of layer, and what a quantizer finds in it."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from edgesdk_converters.passes import moments
from edgesdk_converters.passes.moments import columns_of, in_parts
from edgesdk_converters.passes.round_onnx import layers_of, take
from edgesdk_converters.passes.rounding import scales_of
from edgesdk_converters.recipes import RECIPES, Grid, OnnxStatic, Recipe
from onnx import TensorProto, helper, numpy_helper

MOST = 127
CHANNELS, LENGTH, ROWS = 6, 20, 96
CONTRACT = {
    "version": "1.0",
    "task": "classification",
    "labels": [str(number) for number in range(4)],
    "inputs": [{"name": "x", "shape": [1, CHANNELS, LENGTH, LENGTH]}],
    "outputs": [{"name": "scores", "shape": [1, 4]}],
}


def network():
    """Convolutions with stride, dilation, groups and both paddings, a matrix product and a Gemm of each orientation."""
    random = np.random.default_rng(0)
    shapes = {
        "plain": (8, CHANNELS, 3, 3),
        "depthwise": (8, 1, 3, 3),
        "grouped": (8, 4, 2, 2),
        "product": (8, 12),
        "turned": (10, 12),
        "straight": (10, 4),
    }
    stored = {name: random.normal(size=shape) / np.prod(shape[1:]) ** 0.5 for name, shape in shapes.items()}
    stored |= {f"{name}_bias": random.normal(size=shapes[name][0]) for name in ("plain", "depthwise", "turned")}
    nodes = [
        helper.make_node("Conv", ["x", "plain", "plain_bias"], ["a"], name="plain", strides=[2, 1], pads=[1, 0, 1, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "depthwise", "depthwise_bias"], ["c"], name="d", group=8, dilations=[2, 1]),
        helper.make_node("Conv", ["c", "grouped"], ["e"], name="g", group=2, auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], name="pool"),
        helper.make_node("Flatten", ["f"], ["h"], name="flat"),
        helper.make_node("MatMul", ["h", "product"], ["i"], name="product"),
        helper.make_node("Gemm", ["i", "turned", "turned_bias"], ["j"], name="turned", transB=1),
        helper.make_node("Gemm", ["j", "straight"], ["scores"], name="straight"),
    ]
    shape = [1, CHANNELS, LENGTH, LENGTH]
    graph = helper.make_graph(
        nodes,
        "every kind",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The network, and smooth pictures: neighbouring pixels depend on each other."""
    folder = tmp_path_factory.mktemp("rounding")
    onnx.save(network(), folder / "model.onnx")
    noise = np.random.default_rng(1).normal(size=(ROWS, CHANNELS, LENGTH, LENGTH))
    smooth = noise.cumsum(axis=2).cumsum(axis=3)
    np.savez(folder / "rows.npz", x=(smooth / np.abs(smooth).max(axis=(1, 2, 3), keepdims=True)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def rounded(act, folder):
    """The rounded file and what the step says."""
    inputs = {"source": folder / "model.onnx", "calibration": folder / "rows.npz"}
    out, said = act("passes.round_onnx:round_weights", inputs, contract=CONTRACT, most=MOST)
    return out / "model.onnx", said["layers"]


def weights(path):
    """Return the layers of a file by name."""
    return {layer.name: layer.weights for layer in layers_of(onnx.load(path))}


def scores(model, rows):
    """Return a model's scores, [N, 4]."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])


def test_every_kind_of_layer_is_rounded_to_its_own_grid(folder, rounded):
    """Six layers lie on the grid of their float weights, and their outputs are nearer to float than the nearest's."""
    path, said = rounded
    before, after = weights(folder / "model.onnx"), weights(path)
    assert set(before) == {"plain", "depthwise", "grouped", "product", "turned", "straight"}
    assert {layer.name: layer.biased for layer in layers_of(onnx.load(path))} == {
        name: name in {"plain", "depthwise", "turned"} for name in before
    }
    for name, values in before.items():
        assert scales_of(after[name], MOST) == pytest.approx(scales_of(values, MOST), rel=1e-6)
        whole = after[name] / scales_of(values, MOST)[:, :, None]
        assert whole == pytest.approx(np.rint(whole), abs=1e-4)
    assert all(each["loss"] <= each["nearest"] for each in said.values())
    assert sum(each["loss"] < 0.8 * each["nearest"] for each in said.values()) >= 4


def test_the_patches_are_those_that_a_convolution_sees(folder, monkeypatch):
    """Weights times the columns are the convolution's own outputs, whatever its strides, dilations, pads and groups."""
    monkeypatch.setattr(moments, "POSITIONS", 10**6)
    model = network()
    names = [node.output[0] for node in model.graph.node]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "scores")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.load(folder / "rows.npz")["x"][:1]
    seen = {"x": x, **dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x}), strict=True))}
    biases = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for layer in layers_of(model):
        [node] = [node for node in model.graph.node if layer.name in node.input]
        [(tensor, window)] = layer.reads
        columns = columns_of(layer, window, seen[tensor])
        full = layer.weights
        if layer.biased:
            bias = biases[node.input[2]].reshape(*full.shape[:2], 1)
            full = np.concatenate([full, bias], axis=2)
        expected = seen[node.output[0]].reshape(-1) if node.op_type == "Conv" else seen[node.output[0]].T.reshape(-1)
        assert (full @ columns).reshape(-1) == pytest.approx(expected, rel=1e-3, abs=1e-4), layer.name


def test_the_answers_are_nearer_to_float(folder, make_int8):
    """Int8 from the rounded file errs less on new pictures than int8 that rounds to the nearest."""
    noise = np.random.default_rng(2).normal(size=(60, CHANNELS, LENGTH, LENGTH)).cumsum(axis=2).cumsum(axis=3)
    fresh = (noise / np.abs(noise).max(axis=(1, 2, 3), keepdims=True)).astype(np.float32)
    expected = scores(onnx.load(folder / "model.onnx"), fresh)
    errors = [
        np.mean((scores(onnx.load(make_int8(kind)), fresh) - expected) ** 2) for kind in ("calibrated", "nearest")
    ]
    assert errors[0] < 0.7 * errors[1]


@pytest.fixture
def make_int8(act, folder, rounded):
    """Make int8 weights alone by a way of rounding."""

    def make(kind):
        inputs = {"source": folder / "model.onnx"} | ({"rounded": rounded[0]} if kind == "calibrated" else {})
        recipe = msgspec.to_builtins(RECIPES["int8-weights"])
        return act("passes.weights_onnx:quantize", inputs, recipe=recipe, max_opset=21, max_ir=10)[0] / "model.onnx"

    return make


def test_layers_that_stay_in_float_keep_their_own_weights(folder, rounded):
    """An island has the weights and the bias of the source, every other layer those of the rounded file."""
    model = onnx.load(folder / "model.onnx")
    take(model, onnx.load(rounded[0]), {"turned"})
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    sources = {tensor.name: numpy_helper.to_array(tensor) for tensor in network().graph.initializer}
    assert {name for name in stored if np.array_equal(stored[name], sources[name])} == {"turned", "turned_bias"}


def test_weights_that_two_products_share_are_one_layer_without_a_bias():
    """Both teach, and no bias changes, as it would have to serve both; where something else reads them, none."""
    model = network()
    model.graph.node.append(helper.make_node("Gemm", ["i", "turned", "turned_bias"], ["k"], name="again", transB=1))
    [layer] = [layer for layer in layers_of(model) if layer.name == "turned"]
    assert ([tensor for tensor, _window in layer.reads], layer.biased) == (["i", "i"], False)
    model.graph.node.append(helper.make_node("Identity", ["turned"], ["l"], name="other"))
    assert "turned" not in {layer.name for layer in layers_of(model)}


def test_layers_that_do_not_fit_into_memory_come_in_parts(monkeypatch):
    """Every layer comes once, in order, and the moments of each part are bounded."""
    layers = layers_of(network())
    monkeypatch.setattr(moments, "MEMORY", max(layer.size for layer in layers))
    parts = list(in_parts(layers))
    assert [layer.name for part in parts for layer in part] == [layer.name for layer in layers]
    assert all(len(part) == 1 or sum(each.size for each in part) <= moments.MEMORY for part in parts)
    assert len(parts) > 1


def test_which_recipes_round_by_calibration():
    """Signed weights per channel do, to as many bits as the recipe has; unsigned ones and those that say so do not."""
    assert RECIPES["int8"].grid("onnx") == Grid(most=64)
    assert RECIPES["int8-tensorrt"].grid("onnx") == RECIPES["int8-weights"].grid("onnx") == Grid(most=127)
    assert RECIPES["int8"].grid("tflite") == RECIPES["int16x8"].grid("tflite") == Grid(most=127, whole=True)
    assert RECIPES["int8-qnn"].grid("onnx") is RECIPES["float"].grid("tflite") is None
    assert Recipe(name="plain", onnx=OnnxStatic(rounding="nearest")).grid("onnx") is None
