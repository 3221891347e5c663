"""Rules of Ethos-U85 beyond the common ones, as Vela 5.2 applies them."""

from __future__ import annotations

from edgesdk_converters.lint.graph import Node, listed
from edgesdk_converters.lint.rules.rule import Rule, words
from edgesdk_converters.lint.rules.vela_common import VARIABLES, bias_limit, weight_sum
from edgesdk_converters.lint.rules.vela_roles import features, padded, role
from edgesdk_converters.lint.rules.vela_u55 import OPS as U55_OPS
from edgesdk_converters.lint.tensor import Tensor

OPS = U55_OPS | words(
    "ASSIGN_VARIABLE CAST DIV EQUAL GATHER GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_NOT LOGICAL_OR",
    "NOT_EQUAL READ_VARIABLE REDUCE_ALL REDUCE_ANY SCATTER_ND SELECT SELECT_V2",
)
DTYPES = ("int8", "uint8", "int16", "int32", "int64", "bool")
ANY_ZERO_POINT = words("AVERAGE_POOL_2D DIV RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR UNIDIRECTIONAL_SEQUENCE_LSTM")
SIGNED_8BIT, UNSIGNED_8BIT, MIDDLE_OF_16BIT = (-128, 127), (0, 255), 32768
MAX_SCALE_UP, MAX_SCALE_UP_HALF_PIXEL = 2048, 1024


def _dtype(node: Node) -> str | None:
    found = next((tensor for tensor in features(node) if tensor.dtype not in DTYPES), None)
    return None if found is None else f"{found.name} is {found.dtype}"


def _points(tensor: Tensor) -> tuple[int, ...]:
    return tensor.quantization.zero_points if tensor.quantization is not None else ()


def _input_zero_point(node: Node) -> str | None:
    inputs = [tensor for tensor in features(node) if tensor not in node.outputs]
    for tensor in inputs:
        low, high = {"int8": SIGNED_8BIT, "uint8": UNSIGNED_8BIT}.get(tensor.dtype, (0, 0))
        for point in _points(tensor):
            if not low <= point <= high and not (tensor.dtype == "uint16" and point == MIDDLE_OF_16BIT):
                return f"{tensor.name} ({tensor.dtype}) has the zero point {point}"
    return None


def _output_zero_point(node: Node) -> str | None:
    for tensor in node.outputs:
        low, high = SIGNED_8BIT if tensor.dtype.startswith("int") else UNSIGNED_8BIT
        for point in _points(tensor):
            if not low <= point <= high and not (not tensor.dtype.startswith("int") and point == MIDDLE_OF_16BIT):
                return f"{tensor.name} ({tensor.dtype}) has the zero point {point}"
    return None


def _corners(node: Node) -> tuple[bool, bool]:
    """Return align_corners and the half_pixel_centers that Vela assumes."""
    aligned, half = bool(node.attributes.get("align_corners")), bool(node.attributes.get("half_pixel_centers"))
    return aligned, half if node.op == "RESIZE_BILINEAR" else half or not aligned


def _exclusive(node: Node) -> str | None:
    return "both are set" if all(_corners(node)) else None


def _sizes(node: Node) -> list[tuple[int, int]]:
    """Return (output, input) of width and height, less one each where corners are aligned."""
    given = role(node, "feature")
    if given is None:
        return []
    before, after = padded(given.dims), padded(node.outputs[0].dims)
    pairs = [(after[at], before[at]) for at in (-2, -3)]
    aligned, _ = _corners(node)
    return [(out - 1, size - 1) if aligned and size > 1 else (out, size) for out, size in pairs]


def _scale_up(node: Node) -> str | None:
    _, half = _corners(node)
    most = MAX_SCALE_UP_HALF_PIXEL if half else MAX_SCALE_UP
    for out, size in _sizes(node):
        if out == 0 or size == 0 or out // size > most:
            return f"{out}/{size}"
    return None


def _power_of_two(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None or padded(given.dims)[-3:-1] == (1, 1):
        return None
    for out, size in _sizes(node):
        factor = out // size if size else 0
        if size and (out % size or factor & (factor - 1) or factor == 0):
            return f"{out}/{size} times"
    return None


def _index(node: Node) -> Tensor | None:
    return node.input(0)


def _scatter_constant(node: Node) -> str | None:
    for tensor in (_index(node), role(node, "parameter")):
        if tensor is not None and not tensor.constant:
            return f"{tensor.name} is computed"
    return None


def _scatter_depth(node: Node) -> str | None:
    index = _index(node)
    return f"indices of shape {list(index.dims)}" if index is not None and index.dims[-1:] != (1,) else None


def _scatter_unique(node: Node) -> str | None:
    index = _index(node)
    values = () if index is None or index.values is None else listed(index.values)
    return "an index occurs twice" if len(values) != len(set(values)) else None


def _gather(node: Node) -> str | None:
    given = role(node, "feature")
    rank = len(given.dims) if given is not None else 0
    axis, batch = int(node.attributes.get("axis", 0)), int(node.attributes.get("batch_dims", 0))
    axis = axis + rank if axis < 0 else axis
    return None if axis == batch else f"axis {axis}, batch_dims {batch}"


_RESIZES = words("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR")
RULES: tuple[Rule, ...] = (
    Rule(
        name="dtype",
        limit="feature maps are bool or integers of 8 to 64 bits",
        check=_dtype,
        why="The NPU computes with integers only; what is left in float runs on the CPU.",
        rewrite="Quantize the whole model (recipe int8), inputs and outputs included.",
        but=VARIABLES,
    ),
    Rule(
        name="input-zero-point",
        limit="zero points of inputs lie in the type's range, and are 0 above 8 bits",
        check=_input_zero_point,
        why="The registers hold no others.",
        rewrite="Quantize again, 16 bits symmetrically.",
        but=ANY_ZERO_POINT,
    ),
    Rule(
        name="output-zero-point",
        limit="zero points of outputs lie in -128 … 127, of unsigned ones in 0 … 255",
        check=_output_zero_point,
        why="The registers hold no others.",
        rewrite="Quantize again, 16 bits symmetrically.",
        but=ANY_ZERO_POINT,
    ),
    weight_sum(127 * (1 << 16), 127 * (1 << 24)),
    bias_limit((1 << 48) - 1),
    Rule(
        name="resize-centres",
        limit="align_corners and half_pixel_centers exclude each other",
        check=_exclusive,
        why="They name two different grids.",
        rewrite="Set one of them.",
        ops=_RESIZES,
    ),
    Rule(
        name="resize-factor",
        limit=f"scaled at most {MAX_SCALE_UP} times (half pixel centres: {MAX_SCALE_UP_HALF_PIXEL})",
        check=_scale_up,
        why="The step between samples has that many bits.",
        rewrite="Scale in two steps.",
        ops=_RESIZES,
    ),
    Rule(
        name="resize-power",
        limit="bilinear scaling is by a power of two",
        check=_power_of_two,
        why="Weights between pixels are binary fractions.",
        rewrite="Scale by a power of two, or use RESIZE_NEAREST_NEIGHBOR.",
        ops=words("RESIZE_BILINEAR"),
    ),
    Rule(
        name="scatter-constant",
        limit="indices and shape are constants",
        check=_scatter_constant,
        why="A scatter becomes a gather with turned indices.",
        rewrite="Export with constant indices.",
        ops=words("SCATTER_ND"),
    ),
    Rule(
        name="scatter-depth",
        limit="an index is one number",
        check=_scatter_depth,
        why="Rows are scattered, nothing smaller.",
        rewrite="Flatten the leading dimensions.",
        ops=words("SCATTER_ND"),
    ),
    Rule(
        name="scatter-unique",
        limit="no index occurs twice",
        check=_scatter_unique,
        why="Sums of several rows are not made.",
        rewrite="Add the rows before.",
        ops=words("SCATTER_ND"),
    ),
    Rule(
        name="gather-axis",
        limit="the axis is batch_dims",
        check=_gather,
        why="Whole rows are gathered.",
        rewrite="Transpose so that the gathered axis comes first.",
        ops=words("GATHER"),
    ),
)
