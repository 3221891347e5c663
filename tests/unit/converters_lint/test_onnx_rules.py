"""Rules of TensorRT, Qualcomm HTP, Rockchip and CPUs on small graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from edgesdk_converters.lint.report import LintReport
from lint_graphs.build import Builder

Lint = Callable[..., LintReport]
JETSON, HTP, ROCKCHIP, CPU = "jetson-orin-gpu", "qualcomm-htp", "rk3588", "linux-arm64-cpu"
X = {"x": ("float32", [1, 4, 8, 8])}
SCALE, ZERO = np.asarray(0.1, np.float32), np.asarray(0, np.int8)


def _rules(report: LintReport, *effects: str) -> set[str]:
    return {each.rule for each in report.findings if each.effect in (effects or ("refused", "fallback"))}


def _qdq(zero: np.generic) -> tuple:
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
        ("Relu", ["d"], ["y"], {}),
    ]
    return nodes, X, {"s": SCALE, "z": np.asarray(zero)}


def test_tensorrt_takes_symmetric_int8_only(lint_onnx: Lint):
    """Zero points and uint8 are refused; the file with neither has no finding."""
    assert _rules(lint_onnx(JETSON, *_qdq(np.int8(0)))) == set()
    assert _rules(lint_onnx(JETSON, *_qdq(np.int8(3)))) == {"zero-point"}
    assert _rules(lint_onnx(JETSON, *_qdq(np.uint8(128)))) == {"zero-point", "quantized-dtype"}
    assert lint_onnx(JETSON, *_qdq(np.int8(3))).refused


def test_tensorrt_refuses_a_quantized_bias(lint_onnx: Lint):
    """ONNX Runtime's default int32 bias through DequantizeLinear is found, with the recipe that avoids it."""
    nodes = [
        ("DequantizeLinear", ["wq", "s"], ["w"], {}),
        ("DequantizeLinear", ["bq", "s"], ["b"], {}),
        ("Conv", ["x", "w", "b"], ["y"], {}),
    ]
    constants = {"wq": np.ones((2, 4, 3, 3), np.int8), "bq": np.zeros(2, np.int32), "s": SCALE}
    report = lint_onnx(JETSON, nodes, X, constants)
    assert _rules(report) == {"quantized-bias"}
    assert "int8-tensorrt" in report.findings[0].rewrite


@pytest.mark.parametrize(
    ("node", "rule"),
    [
        (("Resize", ["x", "", "k"], ["y"], {"mode": "linear", "antialias": 1}), "resize"),
        (("Resize", ["x", "", "k"], ["y"], {"mode": "cubic"}), None),
        (("Resize", ["x", "", "k"], ["y"], {"mode": "linear"}), None),
        (("Cast", ["x"], ["y"], {"to": 12}), "cast"),
        (("Cast", ["x"], ["y"], {"to": 6}), None),
        (("ScatterND", ["x", "p", "u"], ["y"], {"reduction": "add"}), "scatter"),
        (("ScatterND", ["x", "p", "u"], ["y"], {}), None),
        (("MaxPool", ["x"], ["y", "i"], {"kernel_shape": [2, 2]}), "pool-indices"),
        (("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "dilations": [2, 2]}), "pool-dilation"),
        (("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2]}), None),
        (("Det", ["x"], ["y"], {}), "supported-op"),
        (("TopK", ["x", "n"], ["y", "i"], {}), "top-k"),
    ],
)
def test_tensorrt_operators(lint_onnx: Lint, node, rule):
    """Operators and options that its parser has not are refused, others pass."""
    constants = {
        "k": np.asarray([1, 1, 2, 2], np.float32),
        "n": np.asarray([4000], np.int64),
        "p": np.zeros((1, 1), np.int64),
        "u": np.ones((1, 4, 8, 8), np.float32),
    }
    used = {name: value for name, value in constants.items() if name in node[1]}
    report = lint_onnx(JETSON, [node], X, used, opset=18)
    assert _rules(report) == ({rule} if rule else set())
    assert report.refused == bool(rule)


def test_tensorrt_pools_pictures(lint_onnx: Lint):
    """Without a dimension beside batch and channels the parser pools and normalises nothing; LpPool takes no series."""
    rows, series = {"x": ("float32", [2, 4])}, {"x": ("float32", [1, 4, 8])}
    pools = [("GlobalMaxPool", ["x"], ["y"], {})], [("LpPool", ["x"], ["y"], {"kernel_shape": [2]})]
    assert _rules(lint_onnx(JETSON, pools[0], rows)) == {"spatial"}
    assert _rules(lint_onnx(JETSON, pools[0], series)) == set()
    assert _rules(lint_onnx(JETSON, pools[1], series)) == {"lp-pool"}


def test_open_dimensions_cost_on_a_gpu_fall_back_on_htp_and_are_refused_by_rknn(lint_onnx: Lint):
    """One model with an open batch gets each target's verdict."""
    parts = [("Relu", ["x"], ["y"], {})], {"x": ("float32", ["n", 4])}
    gpu, htp, rockchip = (lint_onnx(target, *parts) for target in (JETSON, HTP, ROCKCHIP))
    assert (_rules(gpu), _rules(gpu, "slow")) == (set(), {"static-shape"})
    assert (_rules(htp), htp.ops_off, htp.refused) == ({"static-shape"}, 1, False)
    assert rockchip.refused


def test_htp_wants_unsigned_activations_and_five_dimensions(lint_onnx: Lint):
    """Signed activations (a wrong softmax was measured), rank 6 and operators beyond the table fall back."""
    assert _rules(lint_onnx(HTP, *_qdq(np.int8(0)))) == {"unsigned-activations"}
    assert _rules(lint_onnx(HTP, *_qdq(np.uint8(128)))) == set()
    deep = [("Relu", ["x"], ["y"], {})], {"x": ("float32", [1, 1, 1, 1, 2, 2])}
    assert _rules(lint_onnx(HTP, *deep)) == {"rank"}
    assert _rules(lint_onnx(HTP, [("Hardmax", ["x"], ["y"], {})], X)) == {"supported-op"}


@pytest.mark.parametrize(
    ("node", "shape", "rule", "refused"),
    [
        (("Sin", ["x"], ["y"], {}), [1, 2, 2, 2, 2], "rank-four", False),
        (("Sin", ["x"], ["y"], {}), [1, 2, 2, 2], None, False),
        (("Relu", ["x"], ["y"], {}), [1, 2, 2, 2, 2], None, False),
        (("Erf", ["x"], ["y"], {}), [1, 4], "supported-op", False),
        (("Selu", ["x"], ["y"], {}), [1, 4], "compiles", True),
        (("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "dilations": [2, 2]}), [1, 2, 8, 8], "pool", False),
        (
            ("Resize", ["x", "", "k"], ["y"], {"coordinate_transformation_mode": "asymmetric"}),
            [1, 2, 4, 4],
            "resize",
            False,
        ),
        (
            ("Resize", ["x", "", "k"], ["y"], {"coordinate_transformation_mode": "align_corners"}),
            [1, 2, 4, 4],
            None,
            False,
        ),
        (("Einsum", ["x", "x"], ["y"], {"equation": "ab,cb->ac"}), [4, 4], None, False),
        (("Einsum", ["x", "x"], ["y"], {"equation": "ab,ab->ab"}), [4, 4], "einsum", False),
        (("Einsum", ["x"], ["y"], {"equation": "ab->ba"}), [4, 4], "einsum", False),
    ],
)
def test_htp_operators_as_its_compiler_takes_them(lint_onnx: Lint, node, shape, rule, refused):
    """What the HTP back end was seen to leave to the CPU, or to fail at, is found; what it takes is not."""
    constants = {"k": np.asarray([1, 1, 2, 2], np.float32)} if "k" in node[1] else {}
    report = lint_onnx(HTP, [node], {"x": ("float32", shape)}, constants)
    assert _rules(report) == ({rule} if rule else set())
    assert report.refused == refused


def test_rockchip_reads_opset_12_to_19_and_batch_one(lint_onnx: Lint):
    """Operator sets outside the toolkit's range are refused; a softmax over a batch, and Erf, fall back."""
    relu = [("Relu", ["x"], ["y"], {})], X
    assert _rules(lint_onnx(ROCKCHIP, *relu, opset=11)) == {"opset"}
    assert _rules(lint_onnx(ROCKCHIP, *relu, opset=19)) == set()
    assert _rules(lint_onnx(ROCKCHIP, *relu, opset=20)) == {"opset"}
    batch = [("Softmax", ["x"], ["y"], {})], {"x": ("float32", [2, 4])}
    assert _rules(lint_onnx(ROCKCHIP, *batch)) == {"batch"}
    report = lint_onnx(ROCKCHIP, [("Erf", ["x"], ["y"], {})], X)
    assert (_rules(report), report.findings[0].rewrite[:10]) == ({"supported-op"}, "Use a Gelu")


@pytest.mark.parametrize(
    ("node", "constants", "rule"),
    [
        (("AveragePool", ["x"], ["y"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}), {}, "average-pool"),
        (("AveragePool", ["x"], ["y"], {"kernel_shape": [3, 3]}), {}, None),
        (("Slice", ["x", "a", "b", "c", "two"], ["y"], {}), {"a": [0], "b": [8], "c": [2], "two": [2]}, "slice-steps"),
        (("Pow", ["x", "x"], ["y"], {}), {}, "constant-operand"),
        (("Neg", ["x"], ["y"], {}), {}, None),
    ],
)
def test_rockchip_operators_as_its_builds_place_them(lint_onnx: Lint, node, constants, rule):
    """What rknn-toolkit2 2.5 was seen to leave on the CPU is found, what it takes is not."""
    arrays = {name: np.asarray(values, np.int64) for name, values in constants.items()}
    assert _rules(lint_onnx(ROCKCHIP, [node], X, arrays)) == ({rule} if rule else set())


def test_onnx_ceilings_and_domains_of_a_cpu(lint_onnx: Lint):
    """An operator set above the oldest runtime's, and operators of unknown domains, are refused; IR is repaired."""
    relu = [("Relu", ["x"], ["y"], {})], X
    assert _rules(lint_onnx(CPU, *relu, opset=21, ir=10)) == set()
    assert _rules(lint_onnx(CPU, *relu, opset=22, ir=10)) == {"opset"}
    assert _rules(lint_onnx(CPU, *relu, ir=11), "slow") == {"ir-version"}
    own = [("Mine", ["x"], ["y"], {"domain": "my.own"})], X
    assert _rules(lint_onnx(CPU, *own, domains={"my.own": 1})) == {"domain"}


def test_half_precision_is_slow_on_a_cpu(lint_onnx: Lint):
    """float16 runs, through casts."""
    report = lint_onnx(
        CPU, [("Relu", ["x"], ["y"], {})], {"x": ("float16", [1, 4])}, outputs={"y": ("float16", [1, 4])}
    )
    assert (_rules(report), _rules(report, "slow")) == (set(), {"float16"})


def test_tflite_that_old_runtimes_refuse_or_compute_wrongly(lint_tflite, build: Builder):
    """Operators after tflite-runtime 2.14, and dynamic-range dense layers with scales per channel."""
    x, y = build.input([1, 8], "float32", scale=None), build.tensor([1, 4], "float32", scale=None)
    z = build.tensor([1, 4], "float32", scale=None)
    weights = build.tensor([4, 8], data=np.ones((4, 8)), scale=[0.1] * 4)
    build.op("FULLY_CONNECTED", [x, weights], [y])
    build.op("STABLEHLO_TANH", [y], [z])
    report = lint_tflite(build.bytes([z]), CPU)
    assert _rules(report) == {"hybrid-per-channel", "runtime-op"}
    assert report.refused


def test_uint8_is_slow_on_a_cpu_and_int8_is_not(lint_tflite):
    """The slow path is a hint, no refusal."""

    def dense(dtype: str) -> bytes:
        build = Builder()
        x, y = build.input([1, 8], dtype, zero_point=0), build.tensor([1, 4], dtype, zero_point=0)
        build.op("FULLY_CONNECTED", [x, build.tensor([4, 8], dtype, data=np.ones((4, 8)))], [y])
        return build.bytes([y])

    slow, fast = lint_tflite(dense("uint8"), CPU), lint_tflite(dense("int8"), CPU)
    assert (_rules(slow), _rules(slow, "slow"), slow.ops_off) == (set(), {"slow-dtype"}, 0)
    assert fast.findings == ()


def test_an_onnx_model_for_ethos_is_linted_as_its_tflite(lint_onnx: Lint):
    """Convolution, clip and global pooling map; the layout is the converter's; what is unknown is named."""
    nodes = [
        ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Clip", ["a", "lo", "hi"], ["b"], {}),
        ("Conv", ["b", "dw"], ["c"], {"group": 6, "strides": [4, 4]}),
        ("GlobalAveragePool", ["c"], ["d"], {}),
        ("Flatten", ["d"], ["e"], {}),
        ("Gemm", ["e", "fc"], ["f"], {"transB": 1}),
        ("Erf", ["f"], ["y"], {}),
    ]
    constants = {
        "w": np.ones((6, 4, 3, 3), np.float32),
        "dw": np.ones((6, 1, 3, 3), np.float32),
        "fc": np.ones((3, 6), np.float32),
        "lo": np.asarray(0, np.float32),
        "hi": np.asarray(6, np.float32),
    }
    report = lint_onnx("ethos-u55-128", nodes, {"x": ("float32", [1, 4, 32, 32])}, constants)
    assert {(each.op, each.rule) for each in report.findings} == {
        ("DEPTHWISE_CONV_2D", "stride"),
        ("DEQUANTIZE", "supported-op"),
        ("Erf", "supported-op"),
    }
    assert report.format == "tflite"
    assert len(report.assumed) == 2
    assert report.macs == 6 * 16 * 16 * 4 * 9 + 6 * 4 * 4 * 9 + 3 * 6
