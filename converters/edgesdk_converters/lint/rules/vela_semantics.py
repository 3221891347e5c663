"""What makes Vela 5.2 refuse a whole file: one operator against the rules of TFLite, and no output is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import zip_longest

from edgesdk_converters.lint.graph import Node, listed
from edgesdk_converters.lint.rules.rule import Rule, words
from edgesdk_converters.lint.rules.vela_roles import padded, role
from edgesdk_converters.lint.tensor import Tensor

UNARY = words("ABS EXP GELU ELU LEAKY_RELU RSQRT")
BINARY = words("MINIMUM MAXIMUM ADD MUL SUB SQUARED_DIFFERENCE")
LSTM_INPUTS, LSTM_INTERMEDIATES, LSTM_RANK, SLICE_INPUTS, PAD_INPUTS = 24, 5, 3, 4, 2


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    return () if tensor is None else tensor.dims or (1,)


def _static(check: Callable[[Node], str | None]) -> Callable[[Node], str | None]:
    """Leave out nodes with open dimensions: their sizes are not known here."""
    return lambda node: check(node) if all(each.static for each in (*node.present, *node.outputs)) else None


def _ratio(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None or given.quantization is None or not node.outputs or node.outputs[0].quantization is None:
        return None
    after = node.outputs[0].quantization.scales[0]
    return "a scale of the output is 0" if after == 0 or math.isinf(given.quantization.scales[0] / after) else None


def _groups(node: Node) -> str | None:
    given, weights = _shape(role(node, "feature")), _shape(role(node, "weights"))
    depth, kernel = given[-1], weights[-1]
    if kernel == 0 or depth % kernel:
        return f"{depth} input channels, kernels of {kernel}"
    groups = depth // kernel
    return f"{groups} groups, {weights[0]} kernels" if groups == 0 or weights[0] % groups else None


def _multiplier(node: Node) -> str | None:
    depth, wanted = _shape(role(node, "feature"))[-1], _shape(node.outputs[0])[-1]
    multiplier = node.attributes.get("depth_multiplier", 1)
    return None if depth * multiplier == wanted else f"{depth} channels x {multiplier} give {wanted}"


def _same_dtype(node: Node) -> str | None:
    given, result = role(node, "feature"), node.outputs[0]
    return None if given is None or given.dtype == result.dtype else f"{given.dtype} becomes {result.dtype}"


def _softmax_dtype(node: Node) -> str | None:
    given = role(node, "feature")
    widened = given is not None and (given.dtype, node.outputs[0].dtype) == ("int8", "int16")
    return None if widened else _same_dtype(node)


def _beta(node: Node) -> str | None:
    beta = node.attributes.get("beta", 1.0)
    return f"beta is {beta:g}" if beta < 0 else None


def _same_shape(node: Node) -> str | None:
    before, after = _shape(role(node, "feature")), _shape(node.outputs[0])
    return None if before == after else f"{list(before)} becomes {list(after)}"


def _split(node: Node) -> str | None:
    given, axis = _shape(role(node, "feature")), role(node, "parameter")
    if axis is None or axis.values is None:
        return "the axis is computed"
    at, count = listed(axis.values)[0], node.attributes.get("num_splits", 0)
    if not -len(given) < at < len(given):
        return f"axis {at} of {len(given)} (Vela refuses -{len(given)} too)"
    return f"{given[at]} into {count} parts" if count and given[at] % count else None


def _split_sizes(node: Node) -> str | None:
    sizes = role(node, "parameter")
    if sizes is None or sizes.values is None:
        return "the sizes are computed"
    return "several sizes are -1" if listed(sizes.values).count(-1) > 1 else None


def _concatenation(node: Node) -> str | None:
    whole = _shape(node.outputs[0])
    axis = int(node.attributes.get("axis", 0)) % len(whole)
    total = 0
    for tensor in node.present:
        part = _shape(tensor)
        if len(part) != len(whole) or any(at != axis and part[at] != whole[at] for at in range(len(whole))):
            return f"{list(part)} goes into {list(whole)} along axis {axis}"
        total += part[axis]
    return None if total == whole[axis] else f"parts of {total} go into {whole[axis]}"


def _count(wanted: int) -> object:
    def check(node: Node) -> str | None:
        return None if len(node.inputs) == wanted else f"{len(node.inputs)} inputs"

    return check


def _pad(node: Node) -> str | None:
    given, amounts, result = role(node, "feature"), role(node, "parameter"), node.outputs[0]
    if given is None or amounts is None or not given.static or not result.static:
        return None
    if amounts.values is None:
        return "the paddings are computed"
    if amounts.dtype not in {"int32", "int64"}:
        return f"the paddings are {amounts.dtype}"
    sides = listed(amounts.values)
    wanted = tuple(size + sides[2 * at] + sides[2 * at + 1] for at, size in enumerate(_shape(given)))
    return None if wanted == _shape(result) else f"{list(wanted)} is written into {list(_shape(result))}"


def _operands(node: Node) -> str | None:
    left, right = node.input(0), node.input(1)
    return None if left is None or right is None or left.dtype == right.dtype else f"{left.dtype} and {right.dtype}"


def _signed(node: Node) -> str | None:
    given, result = node.input(0), node.outputs[0]
    if given is None:
        return None
    if given.dtype.startswith("int") and not result.dtype.startswith("int"):
        return f"{given.dtype} becomes {result.dtype}"
    if given.dtype.startswith("uint") and result.dtype not in {given.dtype, "int32"}:
        return f"{given.dtype} becomes {result.dtype}"
    return None


def _takes(*dtypes: str) -> object:
    def check(node: Node) -> str | None:
        given = role(node, "feature")
        return None if given is None or given.dtype in dtypes else f"the input is {given.dtype}"

    return check


def _argmax_result(node: Node) -> str | None:
    dtype = node.outputs[0].dtype
    return None if dtype in {"int32", "int64"} else f"the output is {dtype}"


def _gather_index(node: Node) -> str | None:
    index = node.input(1)
    return None if index is None or index.dtype in {"int16", "int32", "int64"} else f"the indices are {index.dtype}"


def _order(node: Node) -> str | None:
    given, order = role(node, "feature"), role(node, "parameter")
    if order is None or order.dtype not in {"int32", "uint32"}:
        return f"the permutation is {order.dtype if order is not None else 'missing'}"
    return None if _shape(order)[-1] == len(_shape(given)) else f"{_shape(order)[-1]} axes for {len(_shape(given))}"


def _broadcast(node: Node) -> str | None:
    left, right, result = (padded(_shape(tensor)) for tensor in (node.input(0), node.input(1), node.outputs[0]))
    if result in {left, right}:
        return None
    if len(left) == len(right):
        pairs = list(zip(left, right, strict=True))
        joined = tuple(max(pair) for pair in pairs)
        if all(a == b or 1 in {a, b} for a, b in pairs) and joined == result:
            return None
    return f"{list(left)} and {list(right)} give {list(result)}"


def _product(node: Node) -> str | None:
    left, right, result = _shape(node.input(0)), _shape(node.input(1)), _shape(node.outputs[0])
    said = f"{list(left)} and {list(right)} give {list(result)}"
    if min(len(left), len(right), len(result)) < 2 or len(result) != max(len(left), len(right)):  # noqa: PLR2004
        return said
    pairs = list(zip_longest(left[-3::-1], right[-3::-1], fillvalue=1))
    fits = all(a == b or 1 in {a, b} for a, b in pairs) and [max(pair) for pair in pairs] == list(result[-3::-1])
    return None if fits else said


def _same_scale(node: Node) -> str | None:
    given, result = role(node, "feature"), node.outputs[0]
    if given is None or given.quantization is None or result.quantization is None:
        return None
    before, after = given.quantization.scales[0], result.quantization.scales[0]
    return None if before == after else f"the scale {before:g} becomes {after:g}"


def _same_count(node: Node) -> str | None:
    given, result = role(node, "feature"), node.outputs[0]
    if given is None or not given.static or not result.static or given.elements == result.elements:
        return None
    return f"{given.elements} elements become {result.elements}"


def _keep_dims(node: Node) -> str | None:
    before, after = len(_shape(role(node, "feature"))), len(_shape(node.outputs[0]))
    return f"rank {before} becomes {after}" if node.attributes.get("keep_num_dims") and before != after else None


def _lstm(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None or len(given.dims) != LSTM_RANK or len(node.outputs[0].dims) != LSTM_RANK:
        return "input or output has not three dimensions"
    if len(node.inputs) != LSTM_INPUTS:
        return f"{len(node.inputs)} inputs"
    between = node.attributes.get("intermediates", 0)
    return None if between == LSTM_INTERMEDIATES else f"{between} intermediate tensors"


def _rule(name: str, limit: str, check: object, *ops: str, rewrite: str = "Export the model again.") -> Rule:
    return Rule(
        name=f"tflite-{name}",
        limit=limit,
        check=check,  # type: ignore[arg-type] # functions and closures of this module
        why="Vela refuses the whole file, and writes nothing.",
        rewrite=rewrite,
        ops=words(*ops),
        effect="refused",
    )


_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
RULES: tuple[Rule, ...] = (
    _rule("scale", "input scale over output scale is finite", _ratio),
    _rule(
        "groups", "input channels are a multiple of the kernel's, kernels of the groups", _static(_groups), "CONV_2D"
    ),
    _rule(
        "multiplier", "output channels are input channels x depth_multiplier", _static(_multiplier), "DEPTHWISE_CONV_2D"
    ),
    _rule(
        "same-dtype",
        "input and output have one dtype",
        _same_dtype,
        "AVERAGE_POOL_2D MAX_POOL_2D MINIMUM MAXIMUM HARD_SWISH GATHER",
        _LSTM,
        " ".join(UNARY),
    ),
    _rule("softmax-dtype", "softmax keeps the dtype, or widens int8 to int16", _softmax_dtype, "SOFTMAX"),
    _rule("softmax-beta", "beta is not negative", _beta, "SOFTMAX"),
    _rule("softmax-shape", "softmax keeps the shape", _static(_same_shape), "SOFTMAX"),
    _rule("split", "the axis is a constant, lies in (-rank, rank), and divides evenly", _split, "SPLIT"),
    _rule("split-sizes", "sizes are constants, at most one of them -1", _split_sizes, "SPLIT_V"),
    _rule("concatenation", "parts fit together along the axis", _static(_concatenation), "CONCATENATION"),
    _rule("slice-inputs", "begin, end and strides are given", _count(SLICE_INPUTS), "STRIDED_SLICE"),
    _rule("pad-inputs", "PAD has two inputs", _count(PAD_INPUTS), "PAD"),
    _rule(
        "pad",
        "paddings are int32 or int64 constants and add up to the output",
        _pad,
        "PAD",
        rewrite="Export with fixed sizes and int32 paddings.",
    ),
    _rule("operands", "both inputs have one dtype", _operands, "ADD MUL SUB"),
    _rule("sign", "signed stays signed; unsigned stays as it is or becomes int32", _signed, "ADD MUL SUB"),
    _rule("input-8bit", "the input is 8 bits wide", _takes("int8", "uint8"), "HARD_SWISH ARG_MAX"),
    _rule("argmax-result", "the index is int32 or int64", _argmax_result, "ARG_MAX"),
    _rule("lstm-dtype", "the input is int8 or int16", _takes("int8", "int16"), _LSTM),
    _rule("lstm", "three dimensions, 24 inputs and 5 intermediates", _lstm, _LSTM),
    _rule("gather-index", "indices are int16, int32 or int64", _gather_index, "GATHER"),
    _rule("permutation", "the permutation is int32, one axis per dimension", _order, "TRANSPOSE"),
    _rule("broadcast", "the output is what the inputs broadcast to", _static(_broadcast), " ".join(BINARY)),
    _rule("unary-shape", "input and output have one shape", _static(_same_shape), " ".join(UNARY)),
    _rule("product", "ranks and leading dimensions fit", _static(_product), "BATCH_MATMUL"),
    _rule(
        "reshape-scale",
        "input and output have one scale",
        _same_scale,
        "RESHAPE SQUEEZE EXPAND_DIMS",
        rewrite="Quantize both sides of the reshape with one range.",
    ),
    _rule("reshape-count", "as many elements come out as go in", _same_count, "RESHAPE SQUEEZE EXPAND_DIMS"),
    _rule("keep-dims", "keep_num_dims keeps the rank", _keep_dims, "FULLY_CONNECTED"),
)
