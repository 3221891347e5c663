"""Every precision of ONNX: made, loaded, near the float model, the same bytes again, and as each target wants it."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.passes.reference import quantize
from edgesdk_converters.recipes import RECIPES, OnnxStatic, Recipe
from onnx import numpy_helper

from edgesdk.errors import ConfigError

NAMES = ("float16", "int8-dynamic", "int8", "int8-tensorrt", "int8-qnn", "int16-qnn")
CLOSE = {"float16", "int8-dynamic", "int16-qnn"}


def constants(model) -> dict[str, np.ndarray]:
    return {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}


def of_type(model, *types: str) -> list:
    return [node for node in model.graph.node if node.op_type in types]


def opset(model) -> int:
    return next(item.version for item in model.opset_import if item.domain in {"", "ai.onnx"})


@pytest.mark.parametrize("name", NAMES)
def test_each_precision_runs_and_answers_like_the_float_model(make, answers, floats, name):
    """It loads, takes and gives float32, scores stay near, and opset and IR are below the ceiling."""
    artifact = make(RECIPES[name], "onnx")
    expected, _ = answers(floats["onnx"], "onnxruntime")
    scores, said = answers(artifact, "onnxruntime")
    assert np.abs(scores - expected).max() < (0.02 if name in CLOSE else 0.15)
    for side in ("inputs", "outputs"):
        assert [binding["dtype"] for binding in said["bindings"][side]] == ["float32"]
    model = onnx.load(artifact)
    onnx.checker.check_model(model, full_check=True)
    assert opset(model) <= 21
    assert model.ir_version <= 10
    used = {node.domain for node in model.graph.node} | {""}
    assert {item.domain for item in model.opset_import} <= used, "no operator set is asked for that is not used"


@pytest.mark.parametrize("name", ["int8", "int8-dynamic", "float16"])
def test_the_same_inputs_give_the_same_bytes(make, name):
    """Repetition changes nothing."""
    assert make(RECIPES[name], "onnx").read_bytes() == make.__wrapped__(RECIPES[name], "onnx").read_bytes()


def test_tensorrt_gets_symmetric_activations_weights_per_channel_and_float_biases(make):
    """No zero point but 0, no int32 DequantizeLinear, one scale per output channel, opset of 13 or more."""
    model = onnx.load(make(RECIPES["int8-tensorrt"], "onnx"))
    stored = constants(model)
    zero_points = [stored[node.input[2]] for node in of_type(model, "QuantizeLinear", "DequantizeLinear")]
    assert all((point == 0).all() and point.dtype == np.int8 for point in zero_points)
    assert max(point.size for point in zero_points) > 1
    assert not any(
        stored[node.input[0]].dtype == np.int32
        for node in of_type(model, "DequantizeLinear")
        if node.input[0] in stored
    )
    assert opset(model) >= 13
    ordinary = constants(onnx.load(make(RECIPES["int8"], "onnx")))
    assert any(array.dtype == np.int32 and array.ndim == 1 and array.size > 1 for array in ordinary.values()), (
        "int8 has them"
    )


@pytest.mark.parametrize(("name", "dtype"), [("int8-qnn", np.uint8), ("int16-qnn", np.uint16)])
def test_qualcomm_gets_unsigned_activations_and_every_operator_quantized(make, name, dtype):
    """Activations are unsigned of the stated width; no operator works on floats; Q and DQ are ONNX's own."""
    model = onnx.load(make(RECIPES[name], "onnx"))
    stored = constants(model)
    activations = {stored[node.input[2]].dtype for node in of_type(model, "QuantizeLinear")}
    assert activations == {np.dtype(dtype)}
    dequantized = {name for node in of_type(model, "DequantizeLinear") for name in node.output}
    working = [node for node in model.graph.node if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}]
    assert working
    assert all(node.input[0] in dequantized for node in working)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


def test_float16_is_half_as_large_with_few_casts(make, floats):
    """All weights are float16; the only casts are those at the ends."""
    artifact = make(RECIPES["float16"], "onnx")
    model = onnx.load(artifact)
    assert Counter(node.op_type for node in model.graph.node)["Cast"] == 2
    assert artifact.stat().st_size < 0.65 * floats["onnx"].stat().st_size


def test_dynamic_weights_are_integers_of_seven_bits(make):
    """Dense layers multiply integers, with weights whose products cannot saturate."""
    model = onnx.load(make(RECIPES["int8-dynamic"], "onnx"))
    stored = constants(model)
    weights = [stored[node.input[1]] for node in of_type(model, "MatMulInteger")]
    assert weights
    assert all(weight.dtype == np.int8 and np.abs(weight.astype(int)).max() <= 64 for weight in weights)


def test_a_float_island_has_no_quantization_around_it(make, answers, floats):
    """The named node reads and writes floats; others stay quantized."""
    recipe = Recipe(name="island", onnx=OnnxStatic(), float_layers=("*conv2d_4_1/BiasAdd",))
    named = next(node for node in onnx.load(floats["onnx"]).graph.node if "conv2d_4_1/BiasAdd" in node.name)
    artifact = make(recipe, "onnx")
    model = onnx.load(artifact)
    [island] = [node for node in model.graph.node if node.name == named.name]
    dequantized = {name for node in of_type(model, "DequantizeLinear") for name in node.output}
    assert island.input[1] not in dequantized, "its weights are as they were"
    others = [node for node in of_type(model, "Conv") if node.name != named.name]
    assert all(node.input[1] in dequantized for node in others)
    expected, _ = answers(floats["onnx"], "onnxruntime")
    assert np.abs(answers(artifact, "onnxruntime")[0] - expected).max() < 0.15


def test_a_wide_layer_has_16_bit_activations(make, answers, floats):
    """What the named node writes is int16 in opset 21; the rest is int8."""
    recipe = Recipe(name="wide", onnx=OnnxStatic(), wide_layers=("*max_pooling2d_4_1*",))
    with pytest.raises(ConfigError, match="names no layer"):
        make(Recipe(name="wide", onnx=OnnxStatic(), wide_layers=("nothing",)), "onnx")
    artifact = make(recipe, "onnx")
    model = onnx.load(artifact)
    stored = constants(model)
    kinds = Counter(str(stored[node.input[2]].dtype) for node in of_type(model, "QuantizeLinear"))
    assert kinds["int16"] > 0
    assert kinds["int8"] > kinds["int16"]
    assert opset(model) == 21
    expected, _ = answers(floats["onnx"], "onnxruntime")
    assert np.abs(answers(artifact, "onnxruntime")[0] - expected).max() < 0.15


def test_weights_are_those_of_the_reference_quantizer_but_for_the_narrow_range(make, floats):
    """8-bit weights per channel: the reference where the largest value decides; else -128 is left out."""
    recipe = Recipe(name="wide-weights", onnx=OnnxStatic(reduce_range=False, symmetric_activations=True))
    before, model = constants(onnx.load(floats["onnx"])), onnx.load(make(recipe, "onnx"))
    after = constants(model)
    compared = 0
    for node in of_type(model, "DequantizeLinear"):
        name = node.input[0].removesuffix("_quantized")
        if node.input[0] not in after or name not in before or after[node.input[0]].dtype != np.int8:
            continue
        made, scales = after[node.input[0]], np.atleast_1d(after[node.input[1]])
        axis = next((int(item.i) for item in node.attribute if item.name == "axis"), 0)
        for channel, scale in enumerate(scales):
            x = before[name].take(channel, axis) if scales.size > 1 else before[name]
            q = made.take(channel, axis) if scales.size > 1 else made
            assert scale == pytest.approx(np.abs(x).max() / 127, rel=1e-2)
            if x.max() >= -x.min():
                assert np.abs(q - quantize(x, 8)[0]).max() <= 1
                compared += 1
    assert compared


@pytest.mark.parametrize("name", ["int8-dynamic", "float16"])
def test_a_dense_layer_written_as_gemm_is_not_skipped(act, tmp_path, name):
    """Tools that look for MatMul leave Gemm in float without a word (MatMulNBits does); ours change it."""
    random = np.random.default_rng(0)
    arrays = {"w": random.normal(size=(64, 32)), "b": random.normal(size=32)}
    stored = [numpy_helper.from_array(array.astype(np.float32), key) for key, array in arrays.items()]
    ends = [
        onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, [1, size])
        for key, size in (("x", 64), ("y", 32))
    ]
    dense = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="dense")
    graph = onnx.helper.make_graph([dense], "g", ends[:1], ends[1:], stored)
    source = tmp_path / "gemm.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), source)
    action = "to_dynamic" if name == "int8-dynamic" else "to_float16"
    recipe = msgspec.to_builtins(RECIPES[name])
    out, _ = act(f"passes.shrink_onnx:{action}", {"source": source}, recipe=recipe, max_opset=21, max_ir=10)
    model = onnx.load(out / "model.onnx")
    weights = [array for array in constants(model).values() if array.ndim == 2]
    assert weights
    assert all(array.dtype in {np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.float16)} for array in weights)
