"""The emulator of x86 without VNNI: its arithmetic, its agreement with onnxruntime, and what it refuses to judge."""

import numpy as np
import onnx
import pytest
from edgesdk_converters.evaluate.gate import Outcome
from edgesdk_converters.evaluate.integer_ops import paired_products
from edgesdk_converters.evaluate.saturation import Emulation, NotMeasured, SaturationVerdict, emulate, saturation_gate
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

SCALE = 1 / 64


def _dequantized(name, array, scale, zero=None):
    initializers = [
        numpy_helper.from_array(array, f"{name}_q"),
        numpy_helper.from_array(np.float32(scale), f"{name}_s"),
    ]
    initializers.append(numpy_helper.from_array(np.zeros((), array.dtype) if zero is None else zero, f"{name}_z"))
    node = helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [name])
    return node, initializers


def _model(nodes, initializers, shape_in, shape_out):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape_out)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _quantized_around(op, weight, shape_in, shape_out, zero=0, **attributes):
    """Return x -> Q -> DQ -> op(weight) -> Q -> DQ -> y with uint8 activations."""
    scalars = {"s": np.float32(SCALE), "z": np.uint8(zero), "os": np.float32(8), "oz": np.uint8(128)}
    dequantize, initializers = _dequantized("w", weight, SCALE)
    initializers += [numpy_helper.from_array(np.asarray(value), name) for name, value in scalars.items()]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        dequantize,
        helper.make_node(op, ["xd", "w"], ["r"], name="layer", **attributes),
        helper.make_node("QuantizeLinear", ["r", "os", "oz"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "os", "oz"], ["y"]),
    ]
    return _model(nodes, initializers, shape_in, shape_out)


def _onnxruntime(model, x):
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])


@settings(deadline=None)
@given(k=st.integers(1, 9), m=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_pair_sums_follow_the_instruction(k, m, seed):
    """Pair sums equal a literal reading of vpmaddubsw: two products, added, clipped to 16 bits, then summed."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (3, k)).astype(np.int32)
    columns = random.choice([-128, -100, 0, 90, 127], (k, m)).astype(np.int32)
    expected = np.zeros((3, m), dtype=np.int64)
    clipped = 0
    for p in range(3):
        for c in range(m):
            products = [int(rows[p, i]) * int(columns[i, c]) for i in range(k)] + [0]
            for j in range(0, k, 2):
                pair = products[j] + products[j + 1]
                expected[p, c] += min(max(pair, -32768), 32767)
                clipped += not -32768 <= pair <= 32767
    sums, saturated, pairs = paired_products(rows, columns, saturate=True)
    assert np.array_equal(sums, expected)
    assert saturated == clipped
    assert pairs == 3 * m * ((k + 1) // 2)
    assert np.array_equal(paired_products(rows, columns, saturate=False)[0], rows @ columns)


@given(seed=st.integers(0, 2**32 - 1))
def test_seven_bit_weights_never_saturate(seed):
    """Weights within -64..64 cannot saturate: that is why reduce_range is the fix."""
    random = np.random.default_rng(seed)
    rows, columns = random.integers(0, 256, (4, 10)), random.integers(-64, 65, (10, 3))
    assert paired_products(rows.astype(np.int32), columns.astype(np.int32), saturate=True)[1] == 0


@pytest.mark.parametrize(
    ("op", "weight_shape", "shape_in", "shape_out", "attributes"),
    [
        ("Conv", (5, 4, 3), (1, 4, 9), (1, 5, 9), {"pads": [1, 1]}),
        ("Conv", (5, 4, 3, 1), (1, 4, 9, 1), (1, 5, 4, 1), {"strides": [2, 1]}),
        ("Conv", (6, 2, 3), (1, 4, 9), (1, 6, 9), {"group": 2, "auto_pad": "SAME_UPPER"}),
        ("Conv", (4, 1, 3), (1, 4, 9), (1, 4, 5), {"group": 4, "dilations": [2]}),
        ("Gemm", (8, 5), (1, 8), (1, 5), {}),
        ("Gemm", (5, 8), (1, 8), (1, 5), {"transB": 1}),
        ("MatMul", (8, 5), (1, 8), (1, 5), {}),
    ],
)
def test_without_saturation_it_is_onnxruntime(op, weight_shape, shape_in, shape_out, attributes):
    """The exact evaluation equals onnxruntime's exact one, up to one step of the output where it rounds."""
    random = np.random.default_rng(5)
    weight = random.integers(-127, 128, weight_shape).astype(np.int8)
    model = _quantized_around(op, weight, shape_in, shape_out, zero=20, **attributes)
    x = random.uniform(-0.3, 3.6, (4, *shape_in[1:])).astype(np.float32)
    result = emulate(model, x)
    assert isinstance(result, Emulation)
    difference = np.abs(result.exact - _onnxruntime(model, x))
    assert difference.max() <= 8
    assert np.mean(difference == 0) > 0.98


def test_a_loss_by_saturation_is_refused():
    """Where saturation turns the answer, the gate refuses and the cause says what to do."""
    weight = np.array([[127, 0], [127, 0], [0, 100], [0, 0], [0, 100], [0, 0]], dtype=np.int8)
    model = _quantized_around("Gemm", weight, (1, 6), (1, 2))
    x = np.full((100, 6), 255 * SCALE, dtype=np.float32)
    verdict = saturation_gate(model, x, np.zeros(100, dtype=np.int64))
    assert isinstance(verdict, SaturationVerdict)
    assert verdict.gate.outcome is Outcome.REFUSE
    assert verdict.gate.source_value == 1.0
    assert verdict.cause is not None
    assert "layer (16.67% of pair sums)" in verdict.cause
    assert "reduce_range=True" in verdict.cause
    halved = _quantized_around("Gemm", weight // 2, (1, 6), (1, 2))
    passed = saturation_gate(halved, np.repeat(x, 5, axis=0), np.zeros(500, dtype=np.int64))
    assert isinstance(passed, SaturationVerdict)
    assert passed.gate.outcome is Outcome.PASS
    assert passed.cause is None


def test_depthwise_and_unsigned_weights_do_not_saturate():
    """Layers that onnxruntime computes in 16-bit products show no saturation."""
    depthwise = _quantized_around("Conv", np.full((2, 1, 4), 127, dtype=np.int8), (1, 2, 4), (1, 2, 1), group=2)
    result = emulate(depthwise, np.full((1, 2, 4), 255 * SCALE, dtype=np.float32))
    assert isinstance(result, Emulation)
    assert np.array_equal(result.exact, result.saturating)
    unsigned = emulate(
        _quantized_around("Gemm", np.full((4, 2), 255, dtype=np.uint8), (1, 4), (1, 2)),
        np.full((1, 4), 255 * SCALE, dtype=np.float32),
    )
    assert isinstance(unsigned, Emulation)
    assert unsigned.layers == ()


@pytest.mark.parametrize("op", ["ConvInteger", "NoSuchOperator"])
def test_unknown_operators_are_not_measured(op):
    """What the emulator does not know is said, never passed."""
    node = helper.make_node(op, ["x", "w"], ["y"], domain="" if op == "ConvInteger" else "vendor")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (1, 1, 4))],
        [numpy_helper.from_array(np.ones((1, 1, 1), np.int8), "w")],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("vendor", 1)]
    result = saturation_gate(
        helper.make_model(graph, opset_imports=imports), np.zeros((1, 1, 4), np.float32), np.zeros(1, dtype=np.int64)
    )
    assert isinstance(result, NotMeasured)
    assert op in result.reason
