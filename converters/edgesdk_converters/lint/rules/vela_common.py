"""Rules about tensors, weights and biases that Ethos-U55, U65 and U85 share, as Vela 5.2 applies them.

The numbers come from its supported-ops report.
"""

from __future__ import annotations

import math

import numpy as np

from edgesdk_converters.lint.graph import Node
from edgesdk_converters.lint.rules.rule import Rule, words
from edgesdk_converters.lint.rules.vela_measures import bits, shown
from edgesdk_converters.lint.rules.vela_roles import role, roles, seen

CONVOLUTIONS = words("CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV")
FILTERED = CONVOLUTIONS | {"FULLY_CONNECTED"}
UNQUANTIZED = words(
    "ARG_MAX MIRROR_PAD QUANTIZE SHAPE TRANSPOSE GATHER GATHER_ND SELECT SELECT_V2 SCATTER_ND PAD PADV2 REDUCE_ALL",
    "REDUCE_ANY EXPAND_DIMS ASSIGN_VARIABLE READ_VARIABLE",
)
VARIABLES = words("ASSIGN_VARIABLE READ_VARIABLE")
MAX_SHIFTABLE_SCALE = 2.0**31
QUANTIZE_FULLY = "Quantize the whole model (recipe int8), with calibration data."


def _dynamic(node: Node) -> str | None:
    for _, tensor in roles(node):
        if tensor.shape is not None and None in tensor.shape[1:]:
            return f"{tensor.name} has the shape {shown(tensor)}"
    return None


def _shapeless(node: Node) -> str | None:
    for _, tensor in roles(node):
        if not seen(tensor) and tensor.dtype != "resource":
            return f"{tensor.name} is a scalar or has no shape"
    return None


def _quantized(node: Node) -> str | None:
    for part, tensor in roles(node):
        # A float has a rule of its own.
        if tensor.dtype in {"int64", "bool", "float32"} or part not in {"feature", "weights"}:
            continue
        if part == "feature" and tensor.dtype == "int32" and node.op != "QUANTIZE":
            continue
        if tensor.quantization is None or not tensor.quantization.zero_points:
            return f"{tensor.name} ({tensor.dtype}) has no scale and zero point"
    return None


def _scale(node: Node) -> str | None:
    for _, tensor in roles(node):
        if tensor.quantization is not None and max(tensor.quantization.scales) >= MAX_SHIFTABLE_SCALE:
            return f"{tensor.name} has the scale {max(tensor.quantization.scales):g}"
    return None


def _per_axis(node: Node) -> str | None:
    for _, tensor in roles(node):
        if tensor.quantization is not None and len(tensor.quantization.scales) > 1:
            return f"{tensor.name} has {len(tensor.quantization.scales)} scales"
    return None


def _weights_8bit(node: Node) -> str | None:
    weights = role(node, "weights")
    return None if weights is None or bits(weights) == 8 else f"{weights.name} is {weights.dtype}"  # noqa: PLR2004


def weight_sum(limit_8bit: int, limit_16bit: int) -> Rule:
    """Return the rule that keeps a channel's sum within the accumulator."""

    def check(node: Node) -> str | None:
        weights, given = role(node, "weights"), role(node, "feature")
        if weights is None or given is None or weights.values is None or bits(weights) != 8:  # noqa: PLR2004
            return None
        limit = limit_8bit if bits(given) == 8 else limit_16bit  # noqa: PLR2004
        depthwise = node.op == "DEPTHWISE_CONV_2D"
        channels = weights.dims[-1 if depthwise else 0]
        if 255 * weights.elements // max(channels, 1) < limit:
            return None
        rows = np.moveaxis(weights.values, -1 if depthwise else 0, 0).reshape(channels, -1).astype(np.int64)
        points = weights.quantization.zero_points if weights.quantization is not None else (0,)
        offsets = np.broadcast_to(np.asarray(points, np.int64), channels) if len(points) in {1, channels} else 0
        largest = int(np.abs(rows - np.reshape(offsets, (-1, 1))).sum(axis=1).max(initial=0))
        return f"a channel's absolute weights sum to {largest}" if largest > limit else None

    return Rule(
        name="weight-sum",
        limit=f"absolute weights of a channel sum to at most {limit_8bit} (16-bit inputs: {limit_16bit})",
        check=check,
        why="A larger sum overflows the accumulator.",
        rewrite="Split the layer along its input channels and add the parts.",
        ops=FILTERED,
    )


def _bias_shape(node: Node) -> str | None:
    bias = role(node, "bias")
    if bias is None or not seen(bias) or bias.elements <= seen(bias)[-1]:
        return None
    return f"the bias has the shape {shown(bias)}"


def _bias_constant(node: Node) -> str | None:
    bias = role(node, "bias")
    return None if bias is None or bias.constant else f"the bias {bias.name} is computed"


def _bias_dtype(node: Node) -> str | None:
    bias = role(node, "bias")
    return None if bias is None or bias.dtype in {"int32", "int64"} else f"the bias is {bias.dtype}"


def bias_limit(limit: int) -> Rule:
    """Return the rule that keeps 64-bit biases within the accumulator."""

    def check(node: Node) -> str | None:
        bias = role(node, "bias")
        if bias is None or bias.dtype != "int64" or bias.values is None:
            return None
        largest = int(bias.values.max(initial=0))
        return f"the bias reaches {largest}" if largest > limit else None

    return Rule(
        name="bias-range",
        limit=f"int64 biases are at most {limit}",
        check=check,
        why="The bias does not fit the accumulator.",
        rewrite="Calibrate again, or scale the layer's weights.",
        ops=FILTERED,
    )


def _fc_weights(node: Node) -> str | None:
    weights = role(node, "weights")
    if weights is None:
        return None
    shape = seen(weights)
    whole = len(shape) >= 2 and math.prod(shape) == shape[0] * shape[-1]  # noqa: PLR2004
    return None if whole else f"the weights have the shape {shown(weights)}"


_STATIC = "Export with a fixed batch and fixed sizes."
COMMON: tuple[Rule, ...] = (
    Rule(
        name="static-shape",
        limit="only the first dimension of a tensor may be open",
        check=_dynamic,
        why="The NPU's commands are made for fixed sizes.",
        rewrite=_STATIC,
    ),
    Rule(
        name="has-shape",
        limit="every tensor has at least one dimension",
        check=_shapeless,
        why="Scalars that are computed have no place in the NPU's memory plan.",
        rewrite="Keep the dimensions (keepdims=True), or reshape to one element.",
        but=VARIABLES,
    ),
    Rule(
        name="quantized",
        limit="feature maps and weights have a scale and a zero point",
        check=_quantized,
        why="Without them there is no integer arithmetic.",
        rewrite=QUANTIZE_FULLY,
        but=UNQUANTIZED,
    ),
    Rule(
        name="scale-range",
        limit="scales are below 2^31",
        check=_scale,
        why="The scale becomes a 32-bit multiplier and a right shift.",
        rewrite="Calibrate again: such a scale is no measurement.",
        but=UNQUANTIZED,
    ),
    Rule(
        name="per-axis",
        limit="only weights have one scale per channel",
        check=_per_axis,
        why="The NPU scales activations by one number.",
        rewrite="Quantize activations per tensor.",
        but=FILTERED,
    ),
    Rule(
        name="weights-8bit",
        limit="weights are 8 bits wide",
        check=_weights_8bit,
        why="The weight decoder reads bytes; Vela crashes on int4.",
        rewrite="Quantize weights to int8 (recipes int8 or int16x8).",
        ops=FILTERED,
    ),
    Rule(
        name="bias-shape",
        limit="a bias has one value per channel and one dimension",
        check=_bias_shape,
        why="It is read with the channel's scale.",
        rewrite="Flatten the bias.",
        ops=FILTERED,
    ),
    Rule(
        name="bias-constant",
        limit="biases are constants",
        check=_bias_constant,
        why="They are encoded with the weights when the model is compiled.",
        rewrite="Add the computed bias by an ADD of its own.",
        ops=FILTERED,
    ),
    Rule(
        name="bias-dtype",
        limit="biases are int32 or int64",
        check=_bias_dtype,
        why="They are added to the accumulator.",
        rewrite=QUANTIZE_FULLY,
        ops=FILTERED,
    ),
    Rule(
        name="fc-weights",
        limit="weights of FULLY_CONNECTED are (out, in), ones between allowed",
        check=_fc_weights,
        why="They are read as a 1 x 1 convolution.",
        rewrite="Reshape the weights to two dimensions.",
        ops=words("FULLY_CONNECTED"),
    ),
)
