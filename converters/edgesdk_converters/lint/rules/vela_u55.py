"""Rules of Ethos-U55 and U65 beyond the common ones, as Vela 5.2 applies them."""

from __future__ import annotations

import math

from edgesdk_converters.lint.graph import Node, listed
from edgesdk_converters.lint.rules.rule import Rule, words
from edgesdk_converters.lint.rules.vela_common import bias_limit, weight_sum
from edgesdk_converters.lint.rules.vela_measures import bits, pads, window
from edgesdk_converters.lint.rules.vela_roles import features, padded, role

OPS = words(
    "ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D ELU EXP EXPAND_DIMS",
    "FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK",
    "PAD PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SLICE SOFTMAX SPLIT SPLIT_V SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE",
    "SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK",
)
DTYPES = ("int8", "uint8", "int16", "int32", "int64")
WIDE = words(
    "SUM ARG_MAX TRANSPOSE MIRROR_PAD ADD MUL SUB BATCH_MATMUL FULLY_CONNECTED RESHAPE SQUEEZE EXPAND_DIMS NEG",
)
ANY_ZERO_POINT = words("AVERAGE_POOL_2D RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR UNIDIRECTIONAL_SEQUENCE_LSTM")
MAX_STRIDE, MAX_AXIS, MAX_ARGMAX_DEPTH, MAX_UPSCALE = 3, 1 << 16, 127, 8
# Of a 32-bit transpose: channels that stay, and channels of a height-width exchange.
MAX_STAYING_DEPTH, MAX_EXCHANGED_DEPTH = 1 << 15, 1 << 14
HWC = 3


def _dtype(node: Node) -> str | None:
    found = next((tensor for tensor in features(node) if tensor.dtype not in DTYPES), None)
    return None if found is None else f"{found.name} is {found.dtype}"


def _width(width: int) -> object:
    def check(node: Node) -> str | None:
        integers = (tensor for tensor in features(node) if "int" in tensor.dtype)
        found = next((tensor for tensor in integers if bits(tensor) == width), None)
        return None if found is None else f"{found.name} is {found.dtype}"

    return check


def _zero_point(node: Node) -> str | None:
    for tensor in features(node):
        points = tensor.quantization.zero_points if tensor.quantization is not None else ()
        if tensor.dtype in {"int32", "float32"} and any(points):
            return f"{tensor.name} is {tensor.dtype} with the zero point {next(filter(None, points))}"
        if tensor.dtype.startswith("u") and min(points, default=0) < 0:
            return f"{tensor.name} is unsigned with the zero point {min(points)}"
    return None


def _stride(node: Node) -> str | None:
    _, (down, across), _ = window(node)
    return f"strides {down} x {across}" if max(down, across) > MAX_STRIDE else None


def _unrolled_stride(node: Node) -> str | None:
    _, (down, across), dilations = window(node)
    shape = padded(node.outputs[0].dims)
    if (across <= MAX_STRIDE or shape[-2] == 1) and (down <= MAX_STRIDE or shape[-3] == 1):
        return None
    if not pads(node) and dilations == (1, 1):
        return None
    return f"strides {down} x {across} with {'padding' if pads(node) else 'dilation'}"


def _reverse(node: Node) -> str | None:
    axes = role(node, "parameter")
    values = () if axes is None or axes.values is None else listed(axes.values)
    return f"axes {list(values)}" if values else None


def _product(node: Node) -> bool:
    weights = role(node, "weights")
    return node.op == "BATCH_MATMUL" or (weights is not None and not weights.constant)


def _product_dtype(node: Node) -> str | None:
    given = role(node, "feature")
    return f"the input is {given.dtype}" if given is not None and _product(node) and given.dtype != "int8" else None


def _product_depth(node: Node) -> str | None:
    given, result = role(node, "feature"), node.outputs[0]
    if given is None or not _product(node) or not given.dims or not result.dims:
        return None
    inner = given.dims[-2] if node.attributes.get("adj_x") and len(given.dims) > 1 else given.dims[-1]
    largest = max(inner, result.dims[-1])
    return f"an axis of {largest}" if largest > MAX_AXIS else None


def _argmax_depth(node: Node) -> str | None:
    given = role(node, "feature")
    return f"{given.dims[-1]} classes" if given is not None and given.dims[-1:] > (MAX_ARGMAX_DEPTH,) else None


def _argmax_axis(node: Node) -> str | None:
    given, axis = role(node, "feature"), role(node, "parameter")
    if given is None or axis is None or axis.values is None:
        return None
    at = listed(axis.values)[0]
    return None if at in {-1, len(given.dims) - 1} else f"axis {at} of {len(given.dims)}"


def permutation(node: Node) -> tuple[int, ...]:
    """Return the permutation of a TRANSPOSE, its leading axes that stay taken off down to three; () if unknown."""
    order = role(node, "parameter")
    if order is None or order.values is None:
        return ()
    axes = listed(order.values)
    rank = len(axes)
    if rank < HWC:
        return (*range(HWC - rank), *(axis + HWC - rank for axis in axes))
    staying = next((at for at, axis in enumerate(axes) if axis != at), rank)
    cut = min(staying, rank - HWC)
    return tuple(axis - cut for axis in axes[cut:])


def _transpose_wide(node: Node) -> str | None:
    given = role(node, "feature")
    order = permutation(node)
    if given is None or given.dtype != "int32" or not order:
        return None
    shape = padded(given.dims)
    if len(shape) > 4:  # noqa: PLR2004
        return f"{len(shape)} dimensions of int32"
    batch, height, width, depth = shape
    if order == (0, 1, 2):
        fits = depth <= MAX_STAYING_DEPTH
    elif order == (1, 0, 2):
        fits = batch == 1 and height <= MAX_AXIS and width <= MAX_AXIS and depth <= MAX_EXCHANGED_DEPTH
    elif order == (0, 2, 1):
        fits = batch * height <= MAX_AXIS and width <= MAX_AXIS and depth <= MAX_AXIS
    else:
        fits = False
    return None if fits else f"int32 of shape {list(shape)}, permuted {list(order)}"


def _transpose_narrow(node: Node) -> str | None:
    given = role(node, "feature")
    order = permutation(node)
    if given is None or bits(given) > 16 or not order or order == tuple(range(len(order))):  # noqa: PLR2004
        return None
    shape = given.dims
    if not shape:  # of an unknown rank
        return None
    if len(order) == HWC and math.prod(shape[:-HWC]) == 1:
        return f"an axis of {max(shape)}" if max(shape[-HWC:]) > MAX_AXIS else None
    whole = math.prod(shape)
    pairs = [(i, j) for i in range(len(shape)) for j in range(i + 1, len(shape))]
    largest = max((whole // max(shape[i] * shape[j], 1) for i, j in pairs), default=0)
    return f"shape {list(shape)}: all axes but two make {largest}" if largest > MAX_AXIS else None


def _resize(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None:
        return None
    before, after = padded(given.dims)[-3:-1], padded(node.outputs[0].dims)[-3:-1]
    half = node.op == "RESIZE_BILINEAR" and bool(node.attributes.get("half_pixel_centers"))
    if before == (1, 1):
        return None
    if before == after:
        return "nothing is scaled, with half pixel centres" if half else None
    return _scaling(node, before, after, half=half)


def _scaling(node: Node, before: tuple[int, ...], after: tuple[int, ...], *, half: bool) -> str | None:
    (ih, iw), (oh, ow) = before, after
    aligned = bool(node.attributes.get("align_corners"))
    down, across = (_upscale(i, o, aligned=aligned) for i, o in ((ih, oh), (iw, ow)))
    if down != across and not ((oh == 1 and down == 1) or (ow == 1 and across == 1)):
        return f"{ih} x {iw} becomes {oh} x {ow}: {down:g} times by {across:g} times"
    if down != across and half:
        return "one axis is scaled, with half pixel centres"
    factor, most = max(down, across), 2 if half else MAX_UPSCALE
    if factor in {2, 4, 8} and factor <= most:
        return None
    return f"{factor:g} times" + (" with half pixel centres" if half else "")


def _upscale(before: int, after: int, *, aligned: bool) -> float:
    if not aligned:
        return after / before
    if after == 1:
        return 1.0
    return (after - 1) / (before - 1) if before > 1 else math.inf


def _transpose_conv_stride(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None:
        return None
    (height, width), (down, across), _ = window(node)
    shape = padded(given.dims)
    fits = (down, across) in {(1, 1), (2, 2)}
    fits |= (down, across) == (2, 1) and shape[-2] == width == 1
    fits |= (down, across) == (1, 2) and shape[-3] == height == 1
    return None if fits else f"strides {down} x {across}"


_INT8 = "Quantize the operator to int8 or int16."
_POOLED = words("CONV_2D AVERAGE_POOL_2D MAX_POOL_2D")
RULES: tuple[Rule, ...] = (
    Rule(
        name="dtype",
        limit="feature maps are int8, uint8, int16, int32 or int64",
        check=_dtype,
        why="The NPU computes with integers only; what is left in float runs on the CPU.",
        rewrite="Quantize the whole model (recipe int8), inputs and outputs included.",
    ),
    Rule(
        name="dtype-32bit",
        limit="feature maps are at most 16 bits wide",
        check=_width(32),  # type: ignore[arg-type] # a closure
        why="Only sums, products, transposes and reshapes take 32 bits.",
        rewrite=_INT8,
        but=WIDE,
    ),
    Rule(
        name="dtype-64bit",
        limit="feature maps are at most 32 bits wide",
        check=_width(64),  # type: ignore[arg-type] # a closure
        why="The NPU has no 64-bit arithmetic.",
        rewrite="Use int32 indices.",
        but=words("ARG_MAX"),
    ),
    Rule(
        name="zero-point",
        limit="zero points are 0 for int32 and not negative for unsigned types",
        check=_zero_point,
        why="The registers hold no others.",
        rewrite="Quantize again; converters write such zero points by mistake.",
        but=ANY_ZERO_POINT,
    ),
    weight_sum(127 * (1 << 16), 127 * (1 << 16)),
    bias_limit((1 << 40) - 1),
    Rule(
        name="stride",
        limit=f"strides are at most {MAX_STRIDE}",
        check=_stride,
        why="The stride is two bits wide.",
        rewrite="Use stride 1 to 3, or two layers of smaller strides.",
        ops=words("DEPTHWISE_CONV_2D"),
    ),
    Rule(
        name="stride-padded",
        limit=f"a stride above {MAX_STRIDE} needs VALID padding and no dilation, or an output of 1 along it",
        check=_unrolled_stride,
        why="Larger strides are unrolled into several passes, which works without padding only.",
        rewrite="Pad before (PAD) and use VALID, or use strides of at most 3.",
        ops=_POOLED,
    ),
    Rule(
        name="reverse",
        limit="nothing is reversed",
        check=_reverse,
        why="The NPU reads forward.",
        rewrite="Reverse the data before the model.",
        ops=words("REVERSE_V2"),
    ),
    Rule(
        name="product-dtype",
        limit="a product of two computed tensors takes int8",
        check=_product_dtype,
        why="It is emulated by 8-bit convolutions.",
        rewrite="Quantize the product to int8, or make one side a constant (FULLY_CONNECTED).",
        ops=words("BATCH_MATMUL FULLY_CONNECTED"),
    ),
    Rule(
        name="product-depth",
        limit=f"inner axis and output depth of such a product are at most {MAX_AXIS}",
        check=_product_depth,
        why="An axis is 16 bits wide.",
        rewrite="Split the product.",
        ops=words("BATCH_MATMUL FULLY_CONNECTED"),
    ),
    Rule(
        name="argmax-depth",
        limit=f"at most {MAX_ARGMAX_DEPTH} classes",
        check=_argmax_depth,
        why="The index is packed beside the value.",
        rewrite="End the model with the scores, and take argmax in the application.",
        ops=words("ARG_MAX"),
    ),
    Rule(
        name="argmax-axis",
        limit="argmax runs along the last axis",
        check=_argmax_axis,
        why="It becomes a depthwise convolution and a pool over channels.",
        rewrite="Transpose before, or take argmax in the application.",
        ops=words("ARG_MAX"),
    ),
    Rule(
        name="transpose-32bit",
        limit="of int32: height and width, or width and depth exchanged, at most four dimensions, axes within 16 bits",
        check=_transpose_wide,
        why="32-bit elements are moved as two halves.",
        rewrite="Transpose while the values are 8 bits wide.",
        ops=words("TRANSPOSE"),
    ),
    Rule(
        name="transpose-size",
        limit=f"axes are at most {MAX_AXIS}; permuting four or more dimensions, so is the product of all but two",
        check=_transpose_narrow,
        why="A transpose is a strided copy with 16-bit axes.",
        rewrite="Merge axes, or transpose in two steps.",
        ops=words("TRANSPOSE"),
    ),
    Rule(
        name="resize",
        limit="scaled 2, 4 or 8 times alike in both directions (half pixel centres: 2 times)",
        check=_resize,
        why="The NPU doubles a feature map while reading it.",
        rewrite="Scale by 2, 4 or 8, or use a transposed convolution.",
        ops=words("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR"),
    ),
    Rule(
        name="transpose-conv-stride",
        limit="strides 1 x 1 or 2 x 2; 2 x 1 or 1 x 2 where input and kernel are 1 along the other axis",
        check=_transpose_conv_stride,
        why="The input is doubled while it is read.",
        rewrite="Use stride 2 in both directions, or RESIZE_NEAREST_NEIGHBOR and CONV_2D.",
        ops=words("TRANSPOSE_CONV"),
    ),
)
