"""An ONNX graph in the operators and the layout of TFLite, as converters write it: enough to lint by, not to run.

Feature maps of three dimensions and more have their channels last. What has no counterpart keeps its name, and is then
no operator of any TFLite accelerator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.lint.graph import Graph, Node, listed
from edgesdk_converters.lint.rules.rule import words
from edgesdk_converters.lint.tensor import Tensor
from edgesdk_converters.passes.gelus import INNER, Op, find_gelus

FEATURE_RANK = 3
_CLIPS: dict[tuple[float | None, float | None], str] = {
    (0.0, 6.0): "RELU6",
    (0.0, None): "RELU",
    (-1.0, 1.0): "RELU_N1_TO_1",
    (0.0, 1.0): "RELU_0_TO_1",
}
_SAME_NAME = (
    "Add Sub Mul Div Relu Tanh Elu Gelu Exp Log Sqrt Abs Neg Floor Ceil Round Sin Cos Softmax Squeeze Gather Tile Pow"
    " Cast Equal Greater Less Shape Slice Split"
)
_RENAMED = {
    **{name: name.upper() for name in _SAME_NAME.split()},
    "Min": "MINIMUM",
    "Max": "MAXIMUM",
    "Sum": "ADD",
    "Sigmoid": "LOGISTIC",
    "HardSwish": "HARD_SWISH",
    "HardSigmoid": "RELU6",
    "LeakyRelu": "LEAKY_RELU",
    "PRelu": "PRELU",
    "LogSoftmax": "LOG_SOFTMAX",
    "Concat": "CONCATENATION",
    "Flatten": "RESHAPE",
    "Reshape": "RESHAPE",
    "Unsqueeze": "RESHAPE",
    "Expand": "BROADCAST_TO",
    "Where": "SELECT_V2",
    "GreaterOrEqual": "GREATER_EQUAL",
    "LessOrEqual": "LESS_EQUAL",
    "And": "LOGICAL_AND",
    "Or": "LOGICAL_OR",
    "Not": "LOGICAL_NOT",
    "DepthToSpace": "DEPTH_TO_SPACE",
    "SpaceToDepth": "SPACE_TO_DEPTH",
    "GatherND": "GATHER_ND",
    "ScatterND": "SCATTER_ND",
    "TopK": "TOPK_V2",
    "CumSum": "CUMSUM",
    "BatchNormalization": "MUL",
    "Split": "SPLIT_V",
    "Slice": "STRIDED_SLICE",
}
_REDUCED = {
    "ReduceMean": "MEAN",
    "GlobalAveragePool": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "GlobalMaxPool": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
}
_FIRST_INPUT_ONLY = {"RESHAPE", "SQUEEZE", "BROADCAST_TO", "MUL", "LOGICAL_NOT"}
_PICTURE = words(
    "AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalMaxPool GroupNormalization",
    "InstanceNormalization LRN LpPool MaxPool Resize SpaceToDepth Upsample",
)
"""What is about feature maps only."""
_KEEPING = words(
    "Abs Add Cast Ceil Clip Concat Cos Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid",
    "HardSwish Identity LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Max Min Mul Neg Not PRelu Pad Pow",
    "Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Round Sigmoid Sin Slice Softmax Split Sqrt Sub Sum Tanh",
    "Tile Where",
)
"""What leaves axes where they are."""
_DROPPED = {"Constant", "Identity", "Dropout"}


def as_tflite(graph: Graph) -> Graph:
    """Return the graph as a converter would write it; its names stay."""
    given = _with_gelus(graph)
    move = _Layout(given)
    nodes = tuple(_node(node, move) for node in given if node.op not in _DROPPED)
    return replace(
        graph,
        format="tflite",
        nodes=nodes,
        inputs=tuple(move(tensor) for tensor in graph.inputs),
        outputs=tuple(move(tensor) for tensor in graph.outputs),
    )


def _with_gelus(graph: Graph) -> tuple[Node, ...]:
    """Return the nodes with a Gelu for each that was written out, as `edge convert` lets TFLite have it."""
    nodes = [node for node in graph.nodes if node.outputs and not node.callers]
    ops = [
        Op(kind=node.op, inputs=[tensor.name for tensor in node.present], output=node.outputs[0].name) for node in nodes
    ]
    if not any(op.kind in INNER for op in ops):
        return graph.nodes
    tensors = {tensor.name: tensor for node in nodes for tensor in (*node.present, *node.outputs)}
    numbers = {name: number for name, tensor in tensors.items() if (number := _number(tensor)) is not None}
    found = {gelu.output: gelu for gelu in find_gelus(ops, numbers, {name: tensors[name].shape for name in tensors})}
    made = [
        replace(node, op="Gelu", inputs=(tensors[found[node.outputs[0].name].source],), attributes={})
        if node.outputs and node.outputs[0].name in found
        else node
        for node in graph.nodes
    ]
    return _read(made, {tensor.name for tensor in graph.outputs}) if found else graph.nodes


def _number(tensor: Tensor) -> float | None:
    """Return the only number of a float constant; None of anything else."""
    if not tensor.constant or tensor.dtype != "float32" or tensor.elements != 1:
        return None
    values = tensor.values
    return None if values is None else float(values.reshape(()))


def _read(nodes: list[Node], given: set[str]) -> tuple[Node, ...]:
    """Return the nodes that something comes of."""
    left, count = nodes, -1
    while len(left) != count:
        count = len(left)
        read = given | {tensor.name for node in left for tensor in node.present}
        left = [node for node in left if node.callers or any(tensor.name in read for tensor in node.outputs)]
    return tuple(left)


Load = Callable[[], NDArray[Any] | None]


class _Layout:
    """Where the axes of values lie: channels are last in feature maps, all else is as ONNX has it.

    A feature map is what a convolution or a pooling reads or gives, and what is computed with one value by value; a
    Transpose, a Reshape or a matrix product ends that.
    """

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._seen: dict[str, Tensor] = {}
        self._maps: set[str] = set()
        left = [node for node in nodes if node.op in _KEEPING | _PICTURE]
        count = -1
        while count != len(self._maps):
            count = len(self._maps)
            for node in left:
                names = {tensor.name for tensor in (*node.present, *node.outputs) if len(tensor.dims) >= FEATURE_RANK}
                if node.op in _PICTURE or names & self._maps:
                    self._maps |= names

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return a tensor as TFLite has it, always the same one."""
        shape = tensor.shape
        if shape is None or len(shape) < FEATURE_RANK or tensor.name not in self._maps:
            return tensor
        if tensor.name not in self._seen:
            load = None if tensor.load is None else functools.partial(_channels_last, tensor.load)
            self._seen[tensor.name] = replace(tensor, shape=(shape[0], *shape[2:], shape[1]), load=load)
        return self._seen[tensor.name]

    def axis(self, tensor: Tensor | None, axis: int) -> int:
        """Return where an axis of a tensor lies."""
        rank = len(tensor.dims) if tensor is not None else 0
        axis = axis + rank if axis < 0 else axis
        if rank < FEATURE_RANK or axis == 0 or tensor is None or tensor.name not in self._maps:
            return axis
        return rank - 1 if axis == 1 else axis - 1


Move = _Layout


def _channels_last(load: Load) -> NDArray[Any] | None:
    values = load()
    return None if values is None else np.moveaxis(values, 1, -1)


def _node(node: Node, move: Move) -> Node:
    special = _SPECIAL.get(node.op)
    if special is not None:
        return special(node, move)
    if node.op in _REDUCED:
        return _reduced(node, move)
    return _renamed(node, move) if node.op in _RENAMED else _plain(node, move, node.op)


def _plain(node: Node, move: Callable[[Tensor], Tensor], op: str, **attributes: Any) -> Node:
    inputs = tuple(None if each is None else move(each) for each in node.inputs)
    return replace(
        node, op=op, inputs=inputs, outputs=tuple(move(each) for each in node.outputs), attributes=attributes, domain=""
    )


def _renamed(node: Node, move: Move) -> Node:
    made = _plain(node, move, _RENAMED[node.op], **node.attributes)
    keep = {"dtype": "int32"}
    if made.op in _FIRST_INPUT_ONLY and node.op != "Mul":
        made = replace(made, inputs=made.inputs[:1])
    if made.op == "CONCATENATION":
        made = replace(made, attributes={"axis": move.axis(node.outputs[0], int(node.attributes.get("axis", 0)))})
    if made.op == "GATHER":
        axis = move.axis(node.input(0), int(node.attributes.get("axis", 0)))
        made = replace(made, attributes={"axis": axis, "batch_dims": 0})
    if made.op == "STRIDED_SLICE":
        given = made.inputs[0]
        rank = len(given.dims) if given is not None else 0
        steps = node.input(4)
        values = listed(steps.values) if steps is not None and steps.values is not None else ()
        axes = node.input(3)
        places = listed(axes.values) if axes is not None and axes.values is not None else range(len(values))
        strides = [1] * rank
        for place, step in zip(places, values, strict=False):
            strides[move.axis(node.input(0), place)] = step
        ends = [_ints(made, "begin", [0] * rank), _ints(made, "end", [0] * rank), _ints(made, "strides", strides)]
        made = replace(made, inputs=(given, *ends))
    if made.op == "SPLIT_V":
        sizes = [_along(each, int(node.attributes.get("axis", 0))) for each in node.outputs]
        made = replace(
            made,
            inputs=(made.inputs[0], _ints(made, "sizes", sizes), _ints(made, "axis", [0])),
            attributes={"num_splits": len(made.outputs)},
        )
    # Indices, sizes and axes are int64 in ONNX and int32 in TFLite.
    narrow = tuple(
        replace(each, **keep) if each is not None and each.dtype == "int64" else each  # type: ignore[arg-type]
        for each in made.inputs
    )
    return replace(made, inputs=narrow)


def _along(tensor: Tensor, axis: int) -> int:
    return tensor.dims[axis] if -len(tensor.dims) <= axis < len(tensor.dims) else 0


def _ints(node: Node, what: str, values: list[int]) -> Tensor:
    array = np.asarray(values, np.int32)
    return Tensor(name=f"{node.name}/{what}", dtype="int32", shape=array.shape, load=lambda: array)


def _reduced(node: Node, move: Move) -> Node:
    made = _plain(node, move, _REDUCED[node.op])
    given = node.input(0)
    rank = len(given.dims) if given is not None else 0
    axes: list[int] = list(node.attributes.get("axes") or [])
    stated = node.input(1)
    if stated is not None and stated.values is not None:
        axes = list(listed(stated.values))
    if node.op.startswith("Global"):
        axes = list(range(2, rank))
    places = [move.axis(given, axis) for axis in axes or range(rank)]
    keep = bool(node.attributes.get("keepdims", 1))
    return replace(made, inputs=(made.inputs[0], _ints(made, "axes", places)), attributes={"keep_dims": keep})


def _window(node: Node) -> dict[str, Any]:
    option = node.attributes.get
    strides, dilations = _pair(option("strides")), _pair(option("dilations"))
    pads = list(option("pads") or [])
    same = str(option("auto_pad", "NOTSET")).startswith("SAME") or any(pads)
    return {
        "stride_h": strides[0],
        "stride_w": strides[1],
        "dilation_h_factor": dilations[0],
        "dilation_w_factor": dilations[1],
        "padding": "same" if same else "valid",
    }


def _pair(values: Any) -> tuple[int, int]:
    """Return (height, width) of a setting in one, two or more dimensions; one dimension is the width."""
    sizes = [int(value) for value in values or []]
    if not sizes:
        return 1, 1
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[-2], sizes[-1])


def _conv(node: Node, move: Move) -> Node:
    made = _plain(node, move, "CONV_2D", **_window(node))
    weights, given = node.input(1), node.input(0)
    groups = int(node.attributes.get("group", 1))
    if weights is None or given is None or len(weights.dims) < 2:  # noqa: PLR2004 - of an unknown rank
        return made
    if len(weights.dims) > 4:  # noqa: PLR2004
        return replace(made, op="CONV_3D")
    depthwise = groups > 1 and weights.dims[1:2] == (1,)
    channels, inner, *sizes = weights.dims
    height, width = _pair(sizes)
    shape = (1, height, width, channels) if depthwise else (channels, height, width, inner)
    moved = replace(weights, shape=shape, load=_ranked(weights, shape))
    bias = made.inputs[2:3] or ()
    if depthwise:
        multiplier = channels // max(groups, 1)
        made = replace(made, op="DEPTHWISE_CONV_2D", attributes={**made.attributes, "depth_multiplier": multiplier})
    return replace(made, inputs=(_flat(made.inputs[0]), moved, *bias), outputs=tuple(map(_image, made.outputs)))


def _conv_transpose(node: Node, move: Move) -> Node:
    made = _plain(node, move, "TRANSPOSE_CONV", **_window(node))
    weights = node.input(1)
    if weights is None or not 2 <= len(weights.dims) <= 4:  # noqa: PLR2004
        return made
    inner, channels, *sizes = weights.dims
    shape = (channels, *_pair(sizes), inner)
    moved = replace(weights, shape=shape, load=_ranked(weights, shape))
    outputs = tuple(map(_image, made.outputs))
    size = _ints(made, "size", list(outputs[0].dims))
    return replace(made, inputs=(size, moved, _flat(made.inputs[0]), *made.inputs[2:3]), outputs=outputs)


def _ranked(weights: Tensor, shape: tuple[int, ...]) -> Load | None:
    """Return a constant's values per channel; where a value lies within a channel is not told."""
    load = weights.load
    return None if load is None else lambda: None if (values := load()) is None else np.resize(values, shape)


def _image(tensor: Tensor) -> Tensor:
    """Return a sequence (batch, length, channels) as an image of height 1."""
    shape = tensor.shape
    return (
        replace(tensor, shape=(shape[0], 1, *shape[1:])) if shape is not None and len(shape) == FEATURE_RANK else tensor
    )


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _image(tensor)


def _pool(node: Node, move: Move) -> Node:
    op = "MAX_POOL_2D" if node.op == "MaxPool" else "AVERAGE_POOL_2D"
    height, width = _pair(node.attributes.get("kernel_shape"))
    made = _plain(node, move, op, **_window(node), filter_height=height, filter_width=width)
    return replace(made, inputs=(_flat(made.inputs[0]),), outputs=tuple(map(_image, made.outputs[:1])))


def _product(node: Node, _move: Move) -> Node:
    weights = node.input(1)
    if weights is None or not weights.constant or len(weights.dims) != 2:  # noqa: PLR2004
        return _plain(node, lambda tensor: tensor, "BATCH_MATMUL")
    shape = weights.dims if node.attributes.get("transB") else weights.dims[::-1]
    moved = replace(weights, shape=shape, load=_ranked(weights, shape))
    made = _plain(node, lambda tensor: tensor, "FULLY_CONNECTED", keep_num_dims=True)
    bias = node.input(2)
    flat = () if bias is None else (replace(bias, shape=(bias.elements,)),)
    return replace(made, inputs=(node.input(0), moved, *flat))


def _clip(node: Node, move: Move) -> Node:
    limits = []
    for index, name in ((1, "min"), (2, "max")):
        given = node.input(index)
        value = given.values if given is not None else node.attributes.get(name)
        limits.append(None if value is None else float(np.asarray(value).reshape(-1)[0]))
    made = _plain(node, move, _CLIPS.get((limits[0], limits[1]), "MINIMUM"))
    return replace(made, inputs=made.inputs[:1])


def _pad(node: Node, move: Move) -> Node:
    mode = node.attributes.get("mode", "constant")
    made = _plain(node, move, "MIRROR_PAD" if mode == "reflect" else "PADV2" if mode == "constant" else "PAD_EDGE")
    given, amounts = made.inputs[0], node.input(1)
    if given is None or (amounts is not None and not amounts.constant):
        return made
    return replace(made, inputs=(given, _ints(made, "pads", [0] * 2 * len(given.dims))))


def _resize(node: Node, move: Move) -> Node:
    bilinear = node.attributes.get("mode", "nearest") != "nearest"
    grid = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    made = _plain(
        node,
        move,
        "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR",
        align_corners=grid == "align_corners",
        half_pixel_centers="half_pixel" in grid,
    )
    return replace(made, inputs=(made.inputs[0], _ints(made, "size", list(made.outputs[0].dims[1:3]))))


def _transpose(node: Node, _move: Move) -> Node:
    # Both sides are given as ONNX has them: which of a chain of transposes a converter removes is not told.
    made = _plain(node, lambda tensor: tensor, "TRANSPOSE")
    given = node.input(0)
    rank = len(given.dims) if given is not None else 0
    order = [int(axis) for axis in node.attributes.get("perm") or range(rank)[::-1]]
    return replace(made, inputs=(given, _ints(made, "perm", order)))


def _arg_max(node: Node, move: Move) -> Node:
    made = _plain(node, move, "ARG_MAX" if node.op == "ArgMax" else "ARG_MIN")
    axis = _ints(made, "axis", [move.axis(node.input(0), int(node.attributes.get("axis", 0)))])
    outputs = tuple(replace(each, dtype="int32") for each in made.outputs)
    return replace(made, inputs=(made.inputs[0], axis), outputs=outputs)


def _layer_norm(node: Node, move: Move) -> Node:
    given = node.input(0)
    rank = len(given.dims) if given is not None else 0
    first = int(node.attributes.get("axis", -1)) % max(rank, 1)
    axes = [move.axis(given, axis) for axis in range(first, rank)]
    return _plain(node, move, node.op, axes=axes, along=axes, epsilon=node.attributes.get("epsilon", 1e-5))


def _instance_norm(node: Node, move: Move) -> Node:
    given = node.input(0)
    axes = [move.axis(given, axis) for axis in range(2, len(given.dims) if given is not None else 0)]
    option = node.attributes.get("epsilon", 1e-5)
    return _plain(node, move, node.op, axes=axes, along=[move.axis(given, 1)], epsilon=option)


def _reciprocal(node: Node, move: Move) -> Node:
    one = np.asarray(1, np.float32)
    made = _plain(node, move, "DIV")
    return replace(
        made, inputs=(Tensor(name=f"{node.name}/one", dtype="float32", shape=(), load=lambda: one), *made.inputs)
    )


_SPECIAL: dict[str, Callable[[Node, Move], Node]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Gemm": _product,
    "MatMul": _product,
    "Clip": _clip,
    "Pad": _pad,
    "Resize": _resize,
    "Transpose": _transpose,
    "ArgMax": _arg_max,
    "ArgMin": _arg_max,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Reciprocal": _reciprocal,
}
