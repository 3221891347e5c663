"""Where Vela 5.2 takes an operator and then fails, with an error or a crash: no output is written for the whole file.

None of this is in Vela's report; it was seen in builds of generated graphs (`benchmarks/lint.py`), and is judged only
where nothing else keeps the operator on the CPU.
"""

from __future__ import annotations

import math

from edgesdk_converters.lint.graph import Node
from edgesdk_converters.lint.rules.rule import Rule, words
from edgesdk_converters.lint.rules.vela_common import CONVOLUTIONS, FILTERED
from edgesdk_converters.lint.rules.vela_measures import bits, pads, reduced, window
from edgesdk_converters.lint.rules.vela_roles import features, padded, role, seen

HWC, MAX_DILATION, MAX_STRIDE, RANK = 3, 2, 3, 4
MOVES = words(
    "ABS ARG_MAX CONCATENATION EXPAND_DIMS GATHER MIRROR_PAD PACK PAD PADV2 RESHAPE REVERSE_V2 SCATTER_ND SELECT",
    "SELECT_V2 SLICE SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE TRANSPOSE UNPACK CAST ASSIGN_VARIABLE READ_VARIABLE",
)
NOT_WIDE = words(
    "AVERAGE_POOL_2D BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D DIV ELU EXP FULLY_CONNECTED LEAKY_RELU LOGISTIC",
    "MAX_POOL_2D PRELU RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SOFTMAX TANH",
    "TRANSPOSE_CONV",
)
WIDE, WIDEST = 32, 64


def _groups(node: Node) -> int:
    given, weights = role(node, "feature"), role(node, "weights")
    if node.op != "CONV_2D" or given is None or weights is None or not given.dims or not weights.dims:
        return 1
    return given.dims[-1] // max(weights.dims[-1], 1)


def _computed(node: Node) -> bool:
    weights = role(node, "weights")
    return weights is not None and not weights.constant


def _computed_weights(node: Node) -> str | None:
    return "the weights are computed" if _computed(node) else None


def _computed_weights_u85(node: Node) -> str | None:
    if not _computed(node):
        return None
    if node.op == "TRANSPOSE_CONV" or max(window(node)[2]) > MAX_DILATION or _groups(node) > 1:
        return "the weights are computed, and the kernel is dilated, grouped or transposed"
    return None


def _grouped_stride(node: Node) -> str | None:
    _, (down, across), _ = window(node)
    groups = _groups(node)
    if groups == 1 or max(down, across) <= MAX_STRIDE:
        return None
    shape = padded(node.outputs[0].dims)
    single = (across <= MAX_STRIDE or shape[-2] == 1) and (down <= MAX_STRIDE or shape[-3] == 1)
    return None if single or pads(node) else f"{groups} groups with strides {down} x {across}"


def _one_cell(node: Node) -> str | None:
    weights = role(node, "weights")
    return "it has one cell" if weights is not None and weights.dims[:1] == (1,) else None


def _mean_rank(node: Node) -> str | None:
    shape, hit = reduced(node)
    return f"the last of {len(shape)} dimensions is reduced" if len(shape) > RANK and hit[-1] else None


def _argmax_batch(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None or math.prod(given.dims[:-HWC]) == 1:
        return None
    return f"the shape is {list(given.dims)}"


def _fc_wide(node: Node) -> str | None:
    given = role(node, "feature")
    return "the input is int32" if given is not None and given.dtype == "int32" else None


def _axes_computed(node: Node) -> str | None:
    axes = role(node, "parameter")
    return None if axes is None or axes.constant else "the axes are computed"


def _fc_weights(node: Node) -> str | None:
    weights = role(node, "weights")
    shape = () if weights is None else seen(weights)
    return f"weights of shape {list(shape)}" if len(shape) > 1 and math.prod(shape) != shape[0] * shape[-1] else None


def _narrow_bias(node: Node) -> str | None:
    given, bias = role(node, "feature"), role(node, "bias")
    if given is None or bias is None or bias.dtype != "int64" or bits(given) > 8:  # noqa: PLR2004
        return None
    return f"an int64 bias with {given.dtype}"


def _widest(node: Node) -> str | None:
    found = next((tensor for tensor in features(node) if bits(tensor) == WIDEST), None)
    return None if found is None else f"{found.name} is {found.dtype}"


def _wide(node: Node) -> str | None:
    given = role(node, "feature")
    # An activation may widen its result.
    tensors = [given] if node.op.startswith("RELU") else features(node)
    found = next((tensor for tensor in tensors if tensor is not None and bits(tensor) == WIDE), None)
    if found is None:
        return None
    unscaled = given is not None and given.dims == node.outputs[0].dims
    return None if unscaled and node.op.startswith("RESIZE") else f"{found.name} is {found.dtype}"


def _quantize_wide(node: Node) -> str | None:
    given = role(node, "feature")
    wide = given is not None and bits(given) >= WIDE and bits(node.outputs[0]) < WIDE
    return f"{given.dtype} becomes {node.outputs[0].dtype}" if given is not None and wide else None


def _bool(node: Node) -> str | None:
    return "a feature map is bool" if any(tensor.dtype == "bool" for tensor in features(node)) else None


def _select_unsigned(node: Node) -> str | None:
    return "the values are uint8" if node.outputs[0].dtype == "uint8" else None


def _operands(node: Node) -> str | None:
    left, right = node.input(0), node.input(1)
    return None if left is None or right is None or left.dtype == right.dtype else f"{left.dtype} and {right.dtype}"


def _prelu(node: Node) -> str | None:
    given, slope = role(node, "feature"), role(node, "parameter")
    if given is None or given.dtype != "uint8" or slope is None or slope.values is None or slope.quantization is None:
        return None
    values, scale, point = slope.values, slope.quantization.scales[0], slope.quantization.zero_points[0]
    largest = scale * (int(values.max()) - point)
    return f"uint8, slopes up to {largest:.2f}" if values.min() != values.max() and largest <= 1 else None


def _rule(  # noqa: PLR0917 - a row
    name: str, limit: str, check: object, ops: frozenset[str], rewrite: str, but: frozenset[str]
) -> Rule:
    return Rule(
        name=f"builds-{name}",
        limit=limit,
        check=check,  # type: ignore[arg-type] # a function of this module
        why="Vela 5.2 fails at it, and writes nothing.",
        rewrite=rewrite,
        ops=ops,
        but=but,
        effect="refused",
    )


def _one(name: str, limit: str, check: object, ops: str, rewrite: str) -> Rule:
    return _rule(name, limit, check, words(ops), rewrite, frozenset())


_INT8 = "Quantize the operator to int8."
_NOT_BOOL = "EXP NEG RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SOFTMAX SUM TANH"
_CONSTANT_WEIGHTS = "Make the weights constants, or use BATCH_MATMUL."
ALWAYS: tuple[Rule, ...] = (
    _one(
        "axes",
        "axes of a reduction are constants",
        _axes_computed,
        "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL",
        "Export with fixed axes.",
    ),
    _one("fc-weights", "weights are (out, in)", _fc_weights, "FULLY_CONNECTED", "Reshape the weights to (out, in)."),
)
_BOTH: tuple[Rule, ...] = (
    _one("prelu", "PRELU of different slopes up to 1 takes int8", _prelu, "PRELU", _INT8),
    _one("lstm-cells", "an LSTM has two cells or more", _one_cell, "UNIDIRECTIONAL_SEQUENCE_LSTM", "Use more cells."),
    _one(
        "mean-rank",
        "the last of more than four dimensions is not averaged",
        _mean_rank,
        "MEAN",
        "Merge dimensions before.",
    ),
)
U55: tuple[Rule, ...] = (
    *_BOTH,
    _rule(
        "weights",
        "weights of convolutions are constants",
        _computed_weights,
        CONVOLUTIONS,
        _CONSTANT_WEIGHTS,
        frozenset(),
    ),
    _one(
        "grouped-stride",
        f"a grouped convolution has strides of at most {MAX_STRIDE}",
        _grouped_stride,
        "CONV_2D",
        "Use strides of at most 3, or no groups.",
    ),
    _one(
        "argmax-batch",
        "all dimensions before height are 1",
        _argmax_batch,
        "ARG_MAX",
        "Reshape the leading dimensions into the height.",
    ),
    _one("fc-wide", "inputs are at most 16 bits wide", _fc_wide, "FULLY_CONNECTED", _INT8),
)
U85: tuple[Rule, ...] = (
    *_BOTH,
    _rule(
        "weights",
        "computed weights are neither dilated, grouped nor transposed",
        _computed_weights_u85,
        CONVOLUTIONS,
        _CONSTANT_WEIGHTS,
        frozenset(),
    ),
    _rule("bias", "biases of 8-bit layers are int32", _narrow_bias, FILTERED, "Store the bias as int32.", frozenset()),
    _rule("int64", "int64 is moved only", _widest, frozenset(), "Use int32 or int8.", MOVES),
    _rule("int32", "inputs and outputs are at most 16 bits wide", _wide, NOT_WIDE, _INT8, frozenset()),
    _one("quantize", "what is quantized is at most 16 bits wide", _quantize_wide, "QUANTIZE", _INT8),
    _one("bool", "the input is no bool", _bool, _NOT_BOOL, _INT8),
    _one("select-unsigned", "values are not uint8", _select_unsigned, "SELECT SELECT_V2", "Use int8."),
    _one("div-operands", "both inputs have one dtype", _operands, "DIV", "Quantize both sides alike."),
)
