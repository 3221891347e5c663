"""ONNX graphs drawn at random, most of them near a limit of a compiler: one operator between two others.

Options, ranks, computed operands and types are drawn; what onnx's checker or onnxruntime does not take is drawn again,
so that every graph is one that somebody could export.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Hardmax"
    " Identity IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Reciprocal Relu"
    " Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu NonZero"
    " Det Size Shape"
)
BINARY = "Add Sub Mul Div Pow Max Min Mean Sum PRelu Mod Equal Greater GreaterOrEqual Less LessOrEqual"
REDUCE = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"
LAYOUT = "Transpose Reshape Flatten Squeeze Unsqueeze Tile Expand Concat Split Slice Pad"
GATHER = "Gather GatherElements GatherND ScatterElements ScatterND OneHot CumSum Compress Unique"
GRIDS = "half_pixel pytorch_half_pixel asymmetric align_corners half_pixel_symmetric tf_crop_and_resize"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
KINDS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16}


class Draw:
    """One graph in the making: ``x`` → first → probe → last → ``y``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.nodes, self.constants = rng, list[Any](), dict[str, Any]()
        self.opset = int(rng.choice([13, 15, 17, 18, 19, 20]))
        rank = int(rng.choice([4, 4, 4, 3, 5, 2]))
        self.shape = [1, *(int(rng.choice([1, 2, 3, 4, 8])) for _ in range(rank - 1))]
        if rank >= 3:
            self.shape[1] = int(rng.choice([4, 8]))
        self.inputs = [helper.make_tensor_value_info("x", FLOAT, self.shape)]

    def one(self, *options: Any) -> Any:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def rarely(self, share: float = 0.2) -> bool:
        """Say yes in that share of cases."""
        return bool(self.rng.random() < share)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def weights(self, *shape: int) -> str:
        """Return the name of random weights."""
        return self.constant(self.rng.normal(size=shape))

    def integers(self, values: Any, *, computed: float = 0.12) -> str:
        """Return int64 values: a constant mostly, sometimes an input of the model, or what is computed from one."""
        if not self.rarely(computed):
            return self.constant(values, np.int64)
        name = f"k{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, INT64, list(np.shape(values))))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, name: str = "", **attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs."""
        made = [f"t{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=name or f"n{len(self.nodes)}", **attributes))
        return made

    def probe(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> str:
        """Add the node that the graph is about."""
        kept = {key: value for key, value in attributes.items() if value is not None}
        return self.node(op, inputs, outputs, "probe", **kept)[0]

    def model(self, body: Callable[[Draw, str], str]) -> onnx.ModelProto:
        """Return the graph around what `body` adds."""
        [before] = self.node("Neg", ["x"], name="first")
        after = body(self, before)
        [cast] = self.node("Cast", [after], to=FLOAT)
        self.nodes.append(helper.make_node("Relu", [cast], ["y"], name="last"))
        graph = helper.make_graph(
            self.nodes,
            "g",
            self.inputs,
            [helper.make_tensor_value_info("y", FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def unary(d: Draw, x: str) -> str:
    op = d.one(*UNARY.split())
    axis = {"axis": d.one(-1, 1)} if op in {"Softmax", "LogSoftmax", "Hardmax", "LpNormalization"} else {}
    return d.probe(op, [x], **axis)


def binary(d: Draw, x: str) -> str:
    op = d.one(*BINARY.split())
    if d.rarely():
        [x] = d.node("Cast", [x], to=TensorProto.INT32)
        other = x if d.rarely(0.5) else d.constant(3, np.int32)
    else:
        other = d.one(x, d.constant(0.5), d.weights(*d.shape[1:]))
    mod = {"fmod": d.one(0, 1)} if op == "Mod" else {}
    return d.probe(op, [x, other], **mod)


def logic(d: Draw, x: str) -> str:
    [truth] = d.node("Greater", [x, d.constant(0)])
    op = d.one("And", "Or", "Xor", "Not", "Where", "Cast")
    if op == "Where":
        return d.probe(op, [truth, x, d.constant(1)])
    if op == "Cast":
        to = d.one("FLOAT16", "INT32", "INT64", "INT8", "UINT8", "DOUBLE", "BOOL", "INT16", "BFLOAT16", "UINT32")
        return d.probe(op, [x], to=getattr(TensorProto, to))
    return d.probe(op, [truth] if op == "Not" else [truth, truth])


def reduce(d: Draw, x: str) -> str:
    op, rank = "Reduce" + d.one(*REDUCE.split()), len(d.shape)
    axes = sorted({int(d.rng.integers(rank)) for _ in range(2)})
    keep = d.one(0, 1)
    if op == "ReduceSum" or d.opset >= 18:
        return d.probe(op, [x, d.integers(axes)], keepdims=keep)
    return d.probe(op, [x], axes=axes, keepdims=keep)


def extreme(d: Draw, x: str) -> str:
    return d.probe(
        d.one("ArgMax", "ArgMin"), [x], axis=d.one(0, 1, -1), keepdims=d.one(0, 1), select_last_index=d.one(0, 1)
    )


def pool(d: Draw, x: str) -> str:
    op, spatial = d.one("MaxPool", "AveragePool", "LpPool"), len(d.shape) - 2
    if spatial < 1 or d.rarely(0.1):
        return d.probe(d.one("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), [x])
    dilated = d.rarely() and (op == "MaxPool" or d.opset >= 19)
    return d.probe(
        op,
        [x],
        outputs=2 if op == "MaxPool" and d.rarely(0.15) else 1,
        kernel_shape=[d.one(1, 2, 3) for _ in range(spatial)],
        strides=[d.one(1, 2)] * spatial,
        dilations=[2] * spatial if dilated else None,
        pads=[1] * 2 * spatial if d.rarely() else None,
        ceil_mode=d.one(0, 1) if op != "LpPool" else None,
        count_include_pad=d.one(0, 1) if op == "AveragePool" else None,
    )


def convolution(d: Draw, x: str) -> str:
    channels, spatial = d.shape[1] if len(d.shape) > 1 else 1, len(d.shape) - 2
    group, size = d.one(1, 1, channels, 2), [d.one(1, 2, 3) for _ in range(spatial)]
    transposed = d.rarely(0.4)
    shape = (channels, 4, *size) if transposed else (4 * group, channels // group, *size)
    weights = d.weights(*shape)
    if d.rarely(0.1):
        [weights] = d.node("Mul", [weights, d.node("ReduceMax", [x], keepdims=0)[0]])
    return d.probe(
        "ConvTranspose" if transposed else "Conv",
        [x, weights, *([d.weights(4 * group)] if d.rarely(0.5) else [])],
        group=group,
        dilations=[d.one(1, 2)] * spatial,
        strides=[d.one(1, 2)] * spatial,
        auto_pad=d.one(None, None, "SAME_UPPER", "VALID", "SAME_LOWER"),
        output_padding=[1] * spatial if transposed and d.rarely() else None,
    )


def resize(d: Draw, x: str) -> str:
    mode, rank = d.one("nearest", "linear", "cubic"), len(d.shape)
    scales = [1.0, 1.0, *(d.one(2.0, 1.5, 0.5) for _ in range(rank - 2))][:rank]
    grid = d.one(*GRIDS.split())
    roi = d.constant([0.0] * rank + [1.0] * rank) if grid == "tf_crop_and_resize" else ""
    sized = d.rarely(0.3)
    sizes = [max(1, int(size * scale)) for size, scale in zip(d.shape, scales, strict=True)]
    return d.probe(
        "Resize",
        [x, roi, "", d.integers(sizes)] if sized else [x, roi, d.constant(scales)],
        mode=mode,
        coordinate_transformation_mode=grid,
        nearest_mode=d.one(None, "floor", "ceil", "round_prefer_ceil") if mode == "nearest" else None,
        antialias=1 if d.opset >= 18 and mode != "nearest" and d.rarely() else None,
        exclude_outside=1 if mode == "cubic" and d.rarely() else None,
    )


def top_k(d: Draw, x: str) -> str:
    return d.probe("TopK", [x, d.integers([1])], outputs=2, axis=d.one(1, -1), largest=d.one(0, 1), sorted=d.one(0, 1))


def layout(d: Draw, x: str) -> str:
    rank, op = (
        len(d.shape),
        d.one(*LAYOUT.split()),
    )
    if op == "Transpose":
        return d.probe(op, [x], perm=[int(each) for each in d.rng.permutation(rank)])
    if op == "Flatten":
        return d.probe(op, [x], axis=d.one(0, 1, 2))
    if op == "Concat":
        return d.probe(op, [x, x], axis=d.one(0, 1, -1))
    if op == "Split":
        parts = [1, d.shape[1] - 1]
        return d.probe(op, [x, d.integers(parts)], outputs=2, axis=1)
    if op == "Slice":
        step = d.one(1, 2, -1)
        start, stop = (100, -100) if step < 0 else (0, 100)
        given = [d.integers([each]) for each in (start, stop, 1)]
        return d.probe(op, [x, *given, d.constant([step], np.int64)])
    if op == "Pad":
        pads = [0, 0, *[1] * (rank - 2)] * 2 if rank > 2 else [0, 1] * 2
        mode = d.one("constant", "reflect", "edge", *(["wrap"] if d.opset >= 19 else []))
        return d.probe(op, [x, d.integers(pads), *([d.constant(0.5)] if mode == "constant" else [])], mode=mode)
    values = {
        "Reshape": [1, -1],
        "Squeeze": [0],
        "Unsqueeze": [d.one(0, 1)],
        "Tile": [1, 2, *[1] * (rank - 2)],
        "Expand": [2, *d.shape[1:]],
    }
    return d.probe(op, [x, d.integers(values[op])])


def gather(d: Draw, x: str) -> str:
    op, rank = (
        d.one(*GATHER.split()),
        len(d.shape),
    )
    if op == "Gather":
        return d.probe(op, [x, d.integers(d.one([0, 1], 1, [[0], [1]], [-1]))], axis=1)
    if op == "GatherElements":
        return d.probe(op, [x, d.integers(np.zeros([1] * rank))], axis=1)
    if op == "GatherND":
        return d.probe(op, [x, d.integers([[0, 0]])], batch_dims=None)
    if op == "ScatterElements":
        how = d.one(None, "add", "mul") if d.opset >= 16 else None
        return d.probe(
            op, [x, d.integers(np.zeros([1] * rank)), d.constant(np.ones([1] * rank))], axis=1, reduction=how
        )
    if op == "ScatterND":
        how = d.one(None, "add", "mul") if d.opset >= 16 else None
        return d.probe(op, [x, d.integers([[0]]), d.constant(np.ones([1, *d.shape[1:]]))], reduction=how)
    if op == "OneHot":
        [index] = d.node("Cast", [x], to=INT64)
        return d.probe(op, [index, d.integers(5), d.constant([0, 1])], axis=d.one(-1, 1))
    if op == "CumSum":
        return d.probe(op, [x, d.integers(1)], exclusive=d.one(0, 1), reverse=d.one(0, 1))
    if op == "Compress":
        return d.probe(op, [x, d.constant([True, False], bool)], axis=1)
    return d.probe(op, [x], sorted=d.one(0, 1))


def matrix(d: Draw, x: str) -> str:
    op, rank = d.one("MatMul", "Gemm", "Einsum", "MatMulInteger", "ConvInteger"), len(d.shape)
    if op == "MatMul":
        return d.probe(op, [x, d.weights(d.shape[-1], d.one(1, 4, 7))])
    if op == "Gemm":
        other, turned = d.one(x, d.weights(d.shape[-1], 4)), d.one(0, 1)
        return d.probe(
            op, [x, other], transB=1 if other == x else 0, alpha=d.one(1.0, 0.5), transA=turned if other == x else 0
        )
    if op == "Einsum":
        letters = "abcde"[:rank]
        equation = d.one(f"{letters}->{letters[::-1]}", f"{letters},{letters}->{letters}", f"{letters}->{letters[:-1]}",
                         f"...{letters[-1]},...{letters[-1]}->...", f"{letters},{letters}->{letters[0]}")  # fmt: skip
        return d.probe(op, [x] * (1 + equation.count(",")), equation=equation)
    [small] = d.node("Cast", [x], to=TensorProto.UINT8)
    shape = (d.shape[-1], 4) if op == "MatMulInteger" else (4, d.shape[1], *[1] * (rank - 2))
    return d.probe(op, [small, d.constant(np.ones(shape), np.uint8)])


def normalization(d: Draw, x: str) -> str:
    channels = d.shape[1]
    op = d.one("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LRN")
    if op == "LRN":
        return d.probe(op, [x], size=d.one(3, 5))
    if op == "LayerNormalization":
        axis = d.one(-1, 1)
        return d.probe(op, [x, d.constant(np.ones(d.shape[axis:]))], axis=axis)
    if op == "GroupNormalization":
        return d.probe(op, [x, d.constant(np.ones(2)), d.constant(np.ones(2))], num_groups=2)
    count = 4 if op == "BatchNormalization" else 2
    given = [d.constant(np.ones(channels)) for _ in range(count)]
    return d.probe(op, [x, *given], epsilon=1e-4)


def recurrent(d: Draw, x: str) -> str:
    op, hidden = d.one("LSTM", "GRU", "RNN"), 4
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * hidden
    both = d.rarely(0.3)
    [flat] = d.node("Reshape", [x, d.constant([-1, 1, d.shape[-1]], np.int64)])
    weights = [d.weights(1 + both, gates, width) for width in (d.shape[-1], hidden)]
    return d.probe(
        op,
        [flat, *weights],
        hidden_size=hidden,
        direction="bidirectional" if both else d.one("forward", "reverse"),
        layout=d.one(None, None, 1),
        clip=d.one(None, None, 3.0),
        linear_before_reset=d.one(0, 1) if op == "GRU" else None,
    )


def space(d: Draw, x: str) -> str:
    op = d.one(
        "DepthToSpace", "SpaceToDepth", "GridSample", "Upsample", "RoiAlign", "NonMaxSuppression", "EyeLike", "Trilu"
    )
    if op in {"DepthToSpace", "SpaceToDepth"}:
        return d.probe(op, [x], blocksize=2, mode=d.one(None, "CRD") if op == "DepthToSpace" else None)
    if op == "GridSample":
        grid = d.constant(np.zeros((1, 3, 3, 2)))
        return d.probe(
            op,
            [x, grid],
            mode=d.one("bilinear", "nearest", "bicubic"),
            padding_mode=d.one("zeros", "border", "reflection"),
        )
    if op == "RoiAlign":
        boxes = d.constant([[0, 0, 1, 1]])
        return d.probe(
            op, [x, boxes, d.constant([0], np.int64)], output_height=2, output_width=2, mode=d.one("avg", "max")
        )
    if op == "NonMaxSuppression":
        [boxes], [scores] = d.node("Reshape", [x, d.constant([1, -1, 4], np.int64)]), d.node("ReduceMax", [x])
        del scores
        count = int(np.prod(d.shape)) // 4
        return d.probe(op, [boxes, d.constant(np.ones((1, 1, count))), d.integers([3])])
    if op == "Trilu":
        return d.probe(op, [x], upper=d.one(0, 1))
    return d.probe(op, [x])


def quantized(d: Draw, x: str) -> str:
    """A pair of marks around the feature map, and an operator with weights that are dequantized."""
    kind = d.one("int8", "int8", "int8", "uint8", "int16", "uint16")
    if kind.endswith("16"):
        d.opset = 21
    low = np.iinfo(kind).min
    point = d.constant(0 if d.rarely(0.6) else d.one(3, 7) if low else 128, np.dtype(kind))
    scale = d.constant(0.05)
    if d.rarely(0.1):
        [scale] = d.node("ReduceMax", [x], keepdims=0)
    [stored] = d.node("QuantizeLinear", [x, scale, point])
    [back] = d.node("DequantizeLinear", [stored, scale, point])
    width, per = d.shape[-1], d.rarely(0.5)
    weights = d.constant(d.rng.integers(-7, 7, (width, 4)), np.int8)
    scales = d.constant(np.full(4, 0.02) if per else 0.02)
    points = d.constant(np.full(4, d.one(0, 0, 0, 2)) if per else d.one(0, 0, 0, 2), np.int8)
    [dense] = d.node("DequantizeLinear", [weights, scales, points], axis=1 if per else 0)
    made = d.probe("MatMul", [back, dense])
    if not d.rarely(0.4):
        return made
    bias_scale = d.constant(0.001)
    [bias] = d.node("DequantizeLinear", [d.constant(d.rng.integers(-9, 9, 4), np.int32), bias_scale])
    return d.node("Add", [made, bias])[0]


FAMILIES: tuple[tuple[Callable[[Draw, str], str], int], ...] = (
    (unary, 4), (binary, 3), (logic, 1), (reduce, 2), (extreme, 1), (pool, 3), (convolution, 3), (resize, 3),
    (top_k, 1), (layout, 4), (gather, 3), (matrix, 2), (normalization, 2), (recurrent, 1), (space, 2), (quantized, 4),
)  # fmt: skip


def generate(seed: int, count: int) -> list[tuple[str, onnx.ModelProto]]:
    """Return `count` valid graphs and their names; the same for one seed."""
    order = [family for family, weight in FAMILIES for _ in range(weight)]
    made: list[tuple[str, onnx.ModelProto]] = []
    attempt = 0
    while len(made) < count:
        attempt += 1
        rng = np.random.default_rng([seed, attempt])
        family = order[attempt % len(order)]
        model = valid(Draw(rng), family)
        if model is not None:
            op = next(node.op_type for node in model.graph.node if node.name == "probe")
            made.append((f"{len(made):04d}-{op}", model))
    return made


def valid(draw: Draw, family: Callable[[Draw, str], str]) -> onnx.ModelProto | None:
    """Return a graph with its shapes; None where onnx or onnxruntime does not take what was drawn."""
    onnxruntime.set_default_logger_severity(4)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        model = draw.model(family)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings)
        feeds = {each.name: np.ones(each.shape, _FED[each.type]) for each in session.get_inputs()}
        [answer] = session.run(None, feeds)
    except Exception:  # noqa: BLE001 - either raises what it likes
        return None
    return model if answer.size else None


_FED = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
