"""Rules of single operators that Ethos-U55, U65 and U85 share, as Vela 5.2 applies them."""

from __future__ import annotations

import math

from edgesdk_converters.lint.graph import Node, listed
from edgesdk_converters.lint.rules.rule import Rule, words
from edgesdk_converters.lint.rules.vela_common import QUANTIZE_FULLY
from edgesdk_converters.lint.rules.vela_measures import pads, reduced, shown, window
from edgesdk_converters.lint.rules.vela_roles import padded, role, roles, seen

MAX_POOL_HEIGHT, MAX_POOL_AREA, MAX_PADDED_POOL = 256, 256 * 256, 8
MAX_SOFTMAX_ROWS = 1 << 16
MAX_MEAN_AXIS = 64 * 64
MAX_MEAN_ELEMENTS = {"int8": 1 << 24, "uint8": 1 << 23, "int16": 1 << 16}
MAX_TRANSPOSE_RANK = 8


def _average_pool(node: Node) -> str | None:
    (height, width), _, _ = window(node)
    if not pads(node):
        return _max_pool(node)
    return f"a padded window of {height} x {width}" if max(height, width) > MAX_PADDED_POOL else None


def _max_pool(node: Node) -> str | None:
    (height, width), _, _ = window(node)
    return f"a window of {height} x {width}" if height > MAX_POOL_HEIGHT or height * width > MAX_POOL_AREA else None


def _transpose_conv(node: Node) -> str | None:
    given, result = role(node, "feature"), node.outputs[0]
    if given is None:
        return None
    kernel, strides, _ = window(node)
    extra = [0, 0] if node.attributes.get("padding") == "same" else [max(kernel[at] - strides[at], 0) for at in (0, 1)]
    before, after = padded(given.dims), padded(result.dims)
    wanted = tuple(before[at - 3] * strides[at] + extra[at] for at in (0, 1))
    return None if wanted == after[-3:-1] else f"the output is {after[-3]} x {after[-2]}, not {wanted[0]} x {wanted[1]}"


def _constants(node: Node) -> str | None:
    for part, tensor in roles(node):
        if part == "parameter" and not tensor.constant:
            return f"{tensor.name} is computed at run time"
    return None


def _pad_dtype(node: Node) -> str | None:
    amounts = role(node, "parameter")
    return None if amounts is None or amounts.dtype in {"int32", "int64"} else f"the paddings are {amounts.dtype}"


def _matching(node: Node) -> str | None:
    result = node.outputs[0].quantization
    for tensor in node.present:
        if tensor.quantization != result:
            return f"{tensor.name} is quantized unlike the output"
    return None


def _same_shape(node: Node) -> str | None:
    before, after = role(node, "feature"), node.outputs[0]
    return None if before is None or before.dims == after.dims else f"{shown(before)} becomes {shown(after)}"


def only(*dtypes: str, op: str) -> Rule:
    """Return the rule that an operator takes certain dtypes."""

    def check(node: Node) -> str | None:
        given = role(node, "feature")
        if given is None or given.dtype in dtypes:
            return None
        return f"the input is {given.dtype}"

    return Rule(
        name=f"{op.lower().replace('_', '-')}-dtype",
        limit=f"the input is {' or '.join(dtypes)}",
        check=check,
        why="The operator becomes a lookup table, which exists for these types only.",
        rewrite=QUANTIZE_FULLY,
        ops=frozenset({op}),
    )


def _softmax_rows(node: Node) -> str | None:
    given = role(node, "feature")
    if given is None:
        return None
    shape = padded(given.dims)
    return f"{shape[-3]} x {shape[-2]} rows" if shape[-3] * shape[-2] > MAX_SOFTMAX_ROWS else None


def _transpose_rank(node: Node) -> str | None:
    order = role(node, "parameter")
    return None if order is None or seen(order)[-1:] <= (MAX_TRANSPOSE_RANK,) else f"{seen(order)[-1]} dimensions"


def _mean_batch(node: Node) -> str | None:
    given = role(node, "feature")
    return None if given is None or padded(given.dims)[-4] <= 1 else f"a batch of {padded(given.dims)[-4]}"


def _mean_depth(node: Node) -> str | None:
    shape, hit = reduced(node)
    if not shape or not hit[-1] or 1 in shape[1:4]:
        return None
    return f"the channels of {list(shape)} are reduced"


def _mean_axis(node: Node) -> str | None:
    shape, hit = reduced(node)
    largest = max((size for size, taken in zip(shape, hit, strict=True) if taken), default=0)
    return f"an axis of {largest}" if largest > MAX_MEAN_AXIS else None


def _mean_elements(node: Node) -> str | None:
    given = role(node, "feature")
    shape, hit = reduced(node)
    count = math.prod(size for size, taken in zip(shape, hit, strict=True) if taken)
    limit = MAX_MEAN_ELEMENTS.get(given.dtype) if given is not None else None
    return f"{count} elements" if limit is not None and count > limit else None


def _strided_slice(node: Node) -> str | None:
    given, steps = role(node, "feature"), role(node, "parameter", 2)
    if given is None or steps is None or steps.values is None:
        return None
    ellipsis = int(node.attributes.get("ellipsis_mask", 0))
    strides, specs, at = [1] * len(given.dims), listed(steps.values), 0
    for spec, stride in enumerate(specs):
        if ellipsis & 1 << spec:
            at = len(strides) - (len(specs) - spec - 1)
        elif at < len(strides):
            strides[at], at = stride, at + 1
    free = {len(strides) - 3, len(strides) - 2}
    bad = [stride for place, stride in enumerate(strides) if stride < 0 or (stride != 1 and place not in free)]
    return f"strides {strides}" if bad else None


def _lstm(first: int, last: int, *, wanted: bool) -> object:
    def check(node: Node) -> str | None:
        there = [node.input(at) is not None for at in range(first, last + 1)]
        if wanted:
            return None if all(there) else "a gate has no weights"
        return "it is used" if any(there) else None

    return check


def _num_splits(node: Node) -> str | None:
    said = node.attributes.get("num_splits", 0)
    return None if said == len(node.outputs) else f"num_splits is {said}, there are {len(node.outputs)} outputs"


_LSTM = frozenset({"UNIDIRECTIONAL_SEQUENCE_LSTM"})
OPERATORS: tuple[Rule, ...] = (
    Rule(
        name="average-pool",
        limit="a padded window is at most 8 x 8, an unpadded one 256 high and 65536 in area",
        check=_average_pool,
        why="Padded averages divide by another count at each border.",
        rewrite="Pad before (PAD), pool in two steps, or use MEAN for a global average.",
        ops=words("AVERAGE_POOL_2D"),
    ),
    Rule(
        name="max-pool",
        limit="a window is at most 256 high and 65536 in area",
        check=_max_pool,
        why="The kernel counters are that wide.",
        rewrite="Pool in two steps.",
        ops=words("MAX_POOL_2D"),
    ),
    Rule(
        name="transpose-conv-shape",
        limit="the output is input x stride, with VALID padding plus kernel - stride",
        check=_transpose_conv,
        why="Other sizes need an output padding that the NPU lacks.",
        rewrite="Drop output_padding; crop or pad after the layer.",
        ops=words("TRANSPOSE_CONV"),
    ),
    Rule(
        name="constant-parameters",
        limit="axes, paddings, begins, sizes, strides and permutations are constants",
        check=_constants,
        why="They decide the commands that are made.",
        rewrite="Export with fixed sizes, so that they are folded into constants.",
        ops=words("SLICE STRIDED_SLICE MEAN PAD PADV2 MIRROR_PAD TRANSPOSE"),
    ),
    Rule(
        name="pad-dtype",
        limit="paddings are int32 or int64",
        check=_pad_dtype,
        why="Vela reads no others.",
        rewrite="Store the paddings as int32.",
        ops=words("PAD PADV2 MIRROR_PAD"),
    ),
    Rule(
        name="same-quantization",
        limit="inputs and output share scale and zero point",
        check=_matching,
        why="The NPU compares the stored numbers.",
        rewrite="Quantize with shared ranges, or use RELU6 or a clip where the other side is a constant.",
        ops=words("MINIMUM MAXIMUM"),
    ),
    Rule(
        name="same-shape",
        limit="input and output have one shape",
        check=_same_shape,
        why="The operator becomes a lookup table over one feature map.",
        rewrite="Reshape or broadcast before the operator.",
        ops=words("GELU ELU LOG"),
    ),
    only("int8", "int16", op="RSQRT"),
    only("int8", "uint8", op="GELU"),
    only("int8", op="ELU"),
    only("int8", "int16", op="LOG"),
    only("int8", "uint8", "int16", op="MEAN"),
    Rule(
        name="softmax-rows",
        limit="height x width is at most 65536",
        check=_softmax_rows,
        why="The rows become one axis, which is 16 bits wide.",
        rewrite="Take the softmax over parts, or leave the scores and take argmax.",
        ops=words("SOFTMAX"),
    ),
    Rule(
        name="transpose-rank",
        limit="at most 8 dimensions",
        check=_transpose_rank,
        why="A permutation is encoded in 32 bits.",
        rewrite="Merge dimensions before.",
        ops=words("TRANSPOSE"),
    ),
    Rule(
        name="mean-batch",
        limit="the batch is 1",
        check=_mean_batch,
        why="MEAN becomes a depthwise convolution.",
        rewrite="Export with batch 1, or reshape the batch into the height.",
        ops=words("MEAN"),
    ),
    Rule(
        name="mean-depth",
        limit="channels are reduced only where height, width or depth is 1",
        check=_mean_depth,
        why="MEAN becomes a depthwise convolution over height and width.",
        rewrite="Transpose the channels forward, or use a 1 x 1 convolution of equal weights.",
        ops=words("MEAN"),
    ),
    Rule(
        name="mean-axis",
        limit=f"a reduced axis is at most {MAX_MEAN_AXIS} long",
        check=_mean_axis,
        why="MEAN becomes a convolution with a kernel of that size.",
        rewrite="Average in two steps.",
        ops=words("MEAN"),
    ),
    Rule(
        name="mean-elements",
        limit="at most 2^24 elements are averaged (uint8: 2^23, int16: 2^16)",
        check=_mean_elements,
        why="Their sum must fit 32 bits.",
        rewrite="Average in two steps.",
        ops=words("MEAN"),
    ),
    Rule(
        name="slice-strides",
        limit="strides are positive, and above 1 only along height and width",
        check=_strided_slice,
        why="A slice becomes a strided read of height and width.",
        rewrite="Slice with stride 1, or reshape so that the strided axis is height or width.",
        ops=words("STRIDED_SLICE"),
    ),
    *(
        Rule(
            name=f"lstm-{name}",
            limit=limit,
            check=check,  # type: ignore[arg-type] # a closure of `_lstm`
            why="Vela lowers the plain LSTM only.",
            rewrite="Use a plain LSTM layer, or unroll it.",
            ops=_LSTM,
        )
        for name, limit, check in (
            ("gates", "all four gates have weights (no coupled input and forget gate)", _lstm(1, 8, wanted=True)),
            ("peephole", "no peephole", _lstm(9, 11, wanted=False)),
            ("projection", "no projection", _lstm(16, 17, wanted=False)),
            ("normalization", "no layer normalization in the gates", _lstm(20, 23, wanted=False)),
        )
    ),
    Rule(
        name="num-splits",
        limit="num_splits is the number of outputs",
        check=_num_splits,
        why="Every part needs a place to go.",
        rewrite="Keep all outputs of the split.",
        ops=words("SPLIT SPLIT_V"),
    ),
)
