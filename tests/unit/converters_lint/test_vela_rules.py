"""Rules of Ethos-U on small graphs: each at its limit and one beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edgesdk_converters.lint.report import LintReport
from lint_graphs.build import Builder

Lint = Callable[[bytes, str], LintReport]
U55, U85 = "ethos-u55-128", "ethos-u85-256"


def _unary(op: str, dtype: str = "int8", shape: tuple[int, ...] = (1, 8, 8, 4), **options: Any) -> bytes:
    build = Builder()
    scale = None if dtype in {"float32", "bool"} else 0.1
    x = build.input(shape, dtype, scale=scale)
    y = build.tensor(shape, dtype, scale=scale)
    build.op(op, [x], [y], **options)
    return build.bytes([y])


def _conv(
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    depth: int = 4,
    groups: int = 1,
    constant: bool = True,
    bias: str = "int32",
    weights: str = "int8",
    fill: int = 1,
    activation: int = 0,
    dtype: str = "int8",
) -> bytes:
    build = Builder()
    x = build.input([1, 16, 16, depth], dtype)
    shape = [2 * groups, 3, 3, depth // groups]
    kernel = build.tensor(shape, weights, data=np.full(shape, fill)) if constant else build.input(shape, weights)
    added = build.tensor([2 * groups], bias, data=np.zeros(2 * groups), scale=0.01)
    size = (16 - 2 * dilation - 1) // stride + 1 if padding else -(-16 // stride)
    y = build.tensor([1, size, size, 2 * groups], dtype)
    build.op(
        "CONV_2D", [x, kernel, added], [y], padding=padding, strideH=stride, strideW=stride, dilationHFactor=dilation,
        dilationWFactor=dilation, fusedActivationFunction=activation,
    )  # fmt: skip
    return build.bytes([y])


def _with_axes(op: str, shape: list[int], axes: list[int], out: list[int], dtype: str = "int8") -> bytes:
    build = Builder()
    x, y = build.input(shape, dtype), build.tensor(out, dtype)
    build.op(op, [x, build.ints(axes)], [y])
    return build.bytes([y])


def _resize(size: int, out: int, **options: Any) -> bytes:
    build = Builder()
    x, y = build.input([1, size, size, 3]), build.tensor([1, out, out, 3])
    build.op("RESIZE_BILINEAR", [x, build.ints([out, out])], [y], **options)
    return build.bytes([y])


def _pool(op: str, height: int, width: int, padding: int) -> bytes:
    build = Builder()
    size = (300, 20)
    shape = size if padding == 0 else (size[0] - height + 1, size[1] - width + 1)
    x, y = build.input([1, *size, 2]), build.tensor([1, *shape, 2])
    build.op(op, [x], [y], padding=padding, strideH=1, strideW=1, filterHeight=height, filterWidth=width)
    return build.bytes([y])


def _two(op: str, left: Any = None, right: Any = None, scale: float = 0.05) -> bytes:
    build = Builder()
    a, b = build.input(left or [1, 4, 4, 2]), build.input(right or [1, 4, 4, 2], scale=scale)
    y = build.tensor([1, 4, 4, 2])
    build.op(op, [a, b], [y])
    return build.bytes([y])


@pytest.mark.parametrize(
    ("content", "target", "rule"),
    [
        (_conv(stride=3, padding=0), U55, None),
        (_conv(stride=4, padding=0), U55, None),
        (_conv(stride=5, padding=0), U55, "stride-padded"),
        (_conv(stride=4, padding=1), U55, None),
        (_conv(stride=4, padding=1, dilation=2), U55, "stride-padded"),
        (_conv(stride=4, padding=0), U85, None),
        (_conv(stride=4, depth=8, groups=2), U55, "builds-grouped-stride"),
        (_conv(depth=8, groups=2), U55, None),
        (_conv(constant=False), U55, "builds-weights"),
        (_conv(weights="int16"), U55, "weights-8bit"),
        (_conv(weights="int4"), U55, "weights-8bit"),
        (_conv(bias="int16"), U55, "bias-dtype"),
        (_conv(bias="int64"), U55, None),
        (_conv(bias="int64"), U85, "builds-bias"),
        (_conv(bias="int64", dtype="int16"), U85, None),
        (_conv(depth=7281, fill=127), U55, None),
        (_conv(depth=7300, fill=127), U55, "weight-sum"),
        (_conv(depth=7300, fill=100), U55, None),
        (_conv(dtype="int32"), U55, "dtype-32bit"),
        (_unary("ROUND"), U55, "supported-op"),
        (_unary("HARD_SWISH"), U55, None),
        (_unary("HARD_SWISH", "int16"), U55, "tflite-input-8bit"),
        (_unary("GELU", "int16"), U55, "gelu-dtype"),
        (_unary("GELU"), U55, None),
        (_unary("ABS", "int32"), U55, "dtype-32bit"),
        (_unary("ABS", "int32"), U85, None),
        (_unary("LOGISTIC", "int32"), U85, "builds-int32"),
        (_unary("LOGICAL_NOT", "bool"), U85, None),
        (_unary("SOFTMAX", shape=(1, 256, 256, 2), beta=1.0), U55, None),
        (_unary("SOFTMAX", shape=(1, 256, 257, 2), beta=1.0), U55, "softmax-rows"),
        (_unary("SOFTMAX", beta=-1.0), U55, "tflite-softmax-beta"),
        (_with_axes("MEAN", [1, 8, 8, 4], [1, 2], [1, 4]), U55, None),
        (_with_axes("MEAN", [2, 8, 8, 4], [1, 2], [2, 4]), U55, "mean-batch"),
        (_with_axes("MEAN", [1, 8, 8, 4], [3], [1, 8, 8]), U55, "mean-depth"),
        (_with_axes("MEAN", [1, 4096, 1, 2], [1], [1, 1, 2]), U55, None),
        (_with_axes("MEAN", [1, 4097, 1, 2], [1], [1, 1, 2]), U55, "mean-axis"),
        (_with_axes("MEAN", [1, 512, 256, 2], [1, 2], [1, 2], "int16"), U55, "mean-elements"),
        (_with_axes("REVERSE_V2", [1, 4, 4, 2], [1], [1, 4, 4, 2]), U55, "reverse"),
        (_with_axes("REVERSE_V2", [1, 4, 4, 2], [1], [1, 4, 4, 2]), U85, None),
        (_with_axes("TRANSPOSE", [1, 4, 5, 6], [0, 3, 1, 2], [1, 6, 4, 5]), U55, None),
        (_with_axes("TRANSPOSE", [9, 300, 300], [1, 2, 0], [300, 300, 9]), U55, None),
        (_with_axes("TRANSPOSE", [1, 70000, 2, 2], [0, 2, 1, 3], [1, 2, 70000, 2]), U55, "transpose-size"),
        (_with_axes("TRANSPOSE", [2, 4, 5, 6], [0, 3, 1, 2], [2, 6, 4, 5], "int32"), U55, "transpose-32bit"),
        (_resize(8, 16), U55, None),
        (_resize(8, 64), U55, None),
        (_resize(4, 64), U55, "resize"),
        (_resize(4, 64), U85, None),
        (_resize(8, 24), U55, "resize"),
        (_resize(8, 24), U85, "resize-power"),
        (_resize(8, 16, halfPixelCenters=True), U55, None),
        (_resize(8, 32, halfPixelCenters=True), U55, "resize"),
        (_resize(8, 15, alignCorners=True), U55, None),
        (_resize(8, 15, alignCorners=True, halfPixelCenters=True), U85, "resize-centres"),
        (_pool("AVERAGE_POOL_2D", 8, 8, 0), U55, None),
        (_pool("AVERAGE_POOL_2D", 9, 8, 0), U55, "average-pool"),
        (_pool("AVERAGE_POOL_2D", 256, 2, 1), U55, None),
        (_pool("AVERAGE_POOL_2D", 257, 2, 1), U55, "average-pool"),
        (_pool("MAX_POOL_2D", 256, 2, 0), U55, None),
        (_pool("MAX_POOL_2D", 257, 2, 0), U55, "max-pool"),
        (_two("ADD"), U55, None),
        (_two("ADD", right=[1, 1, 1, 2]), U55, None),
        (_two("ADD", left=[1, 2, 4, 2], right=[1, 3, 4, 2]), U55, "tflite-broadcast"),
        (_two("MINIMUM"), U55, None),
        (_two("MINIMUM", scale=0.06), U55, "same-quantization"),
        (_two("DIV"), U55, "supported-op"),
        (_two("DIV"), U85, None),
    ],
)
def test_a_limit_holds_up_to_it_and_not_beyond(lint_tflite: Lint, content: bytes, target: str, rule: str | None):
    """A graph within the limit has no finding; one beyond has that rule's, and no other kind of verdict."""
    report = lint_tflite(content, target)
    assert {finding.rule for finding in report.findings if finding.effect != "slow"} == ({rule} if rule else set())
    assert report.ops_off == (1 if rule else 0)


def test_a_fused_activation_that_cannot_run_takes_its_operator_along(lint_tflite: Lint):
    """ADD of int32 runs on the NPU, with a fused RELU it does not."""
    build = Builder()
    a, b, y = build.input([1, 4], "int32"), build.input([1, 4], "int32"), build.tensor([1, 4], "int32")
    build.op("ADD", [a, b], [y], fusedActivationFunction=1)
    found = lint_tflite(build.bytes([y]), U55).findings
    assert [(each.op, each.rule) for each in found] == [("ADD", "dtype-32bit")]
    assert "fused RELU" in found[0].found


def test_a_dilated_convolution_in_block_form_is_taken_whole(lint_tflite: Lint):
    """SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND are one; apart, the block operators are not supported."""

    def graph(stride: int, *, outside: bool) -> bytes:
        build = Builder()
        x = build.input([1, 8, 8, 2])
        batched = build.tensor([4, 6, 6, 2])
        build.op("SPACE_TO_BATCH_ND", [x, build.ints([2, 2]), build.ints([[2, 2], [2, 2]])], [batched])
        weights = build.tensor([1, 3, 3, 2], data=np.ones((1, 3, 3, 2)))
        bias = build.tensor([2], "int32", data=np.zeros(2), scale=0.01)
        size = (6 - 3) // stride + 1
        mid = build.tensor([4, size, size, 2])
        words = {"padding": 1, "strideH": stride, "strideW": stride, "depthMultiplier": 1}
        build.op("DEPTHWISE_CONV_2D", [batched, weights, bias], [mid], **words)
        y = build.tensor([1, size * 2, size * 2, 2])
        build.op("BATCH_TO_SPACE_ND", [mid, build.ints([2, 2]), build.ints([[0, 0], [0, 0]])], [y])
        return build.bytes([y, mid] if outside else [y])

    assert lint_tflite(graph(1, outside=False), U55).ops_off == 0
    assert lint_tflite(graph(4, outside=False), U55).ops_off == 3


def test_a_float_model_is_linted_as_it_will_be_quantized_and_says_so(lint_tflite: Lint):
    """Vela puts nothing of a float file on the NPU; the lint judges what quantization will make of it."""
    build = Builder()
    x = build.input([1, 8, 8, 2], "float32", scale=None)
    weights = build.tensor([4, 3, 3, 2], "float32", data=np.ones((4, 3, 3, 2)), scale=None)
    bias = build.tensor([4], "float32", data=np.zeros(4), scale=None)
    y, z = build.tensor([1, 8, 8, 4], "float32", scale=None), build.tensor([1, 8, 8, 4], "float32", scale=None)
    build.op("CONV_2D", [x, weights, bias], [y], strideH=1, strideW=1)
    build.op("SIN", [y], [z])
    report = lint_tflite(build.bytes([z]), U55)
    assert [each.op for each in report.findings] == ["DEQUANTIZE", "SIN", "QUANTIZE"]
    assert (report.ops, report.ops_off, report.macs_off) == (4, 3, 0)
    assert any("quantization" in word for word in report.assumed)


def test_weights_stored_in_int8_for_a_float_computation_are_not_quantized_again(lint_tflite: Lint):
    """A dynamic-range file is final: all of it runs on the CPU, and the lint says so."""
    build = Builder()
    x, y = build.input([1, 8], "float32", scale=None), build.tensor([1, 4], "float32", scale=None)
    build.op("FULLY_CONNECTED", [x, build.tensor([4, 8], data=np.ones((4, 8)))], [y])
    report = lint_tflite(build.bytes([y]), U55)
    assert report.assumed == ()
    assert report.share("macs") == 1.0


def test_a_bool_at_the_edge_makes_vela_fail_for_ethos_u55(lint_tflite: Lint):
    """The whole file is refused, although the operator alone would only fall back."""
    report = lint_tflite(_unary("LOGICAL_NOT", "bool"), U55)
    assert report.refused
    assert {each.rule for each in report.findings if each.effect == "refused"} == {"bool-boundary"}
    assert not lint_tflite(_unary("LOGICAL_NOT", "bool"), U85).refused
