"""The rules of NVIDIA TensorRT 10 (JetPack 6) for ONNX: its parser takes a file whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.rules.onnx_common import QDQ, attribute, constant_input, dtypes, open_dimension, stored
from edgesdk_converters.lint.rules.rule import Effect, GraphRule, Rule, RuleSet, words

QUANTIZED = ("int8", "int4", "float8e4m3fn", "float4e2m1")
RESIZE_MODES = ("nearest", "linear", "cubic")
RESIZE_GRIDS = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
MAX_TOP_K = 3840
PER_AXIS_OPSET = 13
_UNCAST = {4: "uint16", 5: "int16", 8: "string", 12: "uint32", 13: "uint64", 19: "float8e5m2", 21: "uint4"}
"""By number in ONNX; uint8 is taken where it leaves the model."""
_SYMMETRIC = "Use the recipe int8-tensorrt: symmetric int8, no quantized bias."


def _zero_point(node: Node) -> str | None:
    point = node.input(2)
    if point is None:
        return None
    if point.values is None:
        return "the zero point is computed"
    return f"a zero point of {point.values.reshape(-1)[0]}" if point.values.any() else None


def _quantized_dtype(node: Node) -> str | None:
    tensor = stored(node)
    if tensor is None or tensor.dtype in (*QUANTIZED, "int32", "unknown"):
        return None
    return f"{tensor.name} is {tensor.dtype}"


def _bias(node: Node) -> str | None:
    tensor = node.input(0)
    return f"{tensor.name} is int32" if tensor is not None and tensor.dtype == "int32" else None


def _indices(node: Node) -> str | None:
    return "the indices are used" if len(node.outputs) > 1 else None


def _dilated_pool(node: Node) -> str | None:
    dilations = node.attributes.get("dilations") or [1]
    return f"dilations {dilations}" if set(dilations) != {1} else None


def _top_k(node: Node) -> str | None:
    count = node.input(1)
    if count is None or count.values is None:
        return None  # K may be a shape that is computed
    most = int(count.values.reshape(-1)[0])
    return f"K is {most}" if most > MAX_TOP_K else None


def _resize(node: Node) -> str | None:
    mode = node.attributes.get("mode", "nearest")
    grid = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode not in RESIZE_MODES or grid not in RESIZE_GRIDS:
        return f"mode {mode}, {grid}"
    return "antialias is set" if node.attributes.get("antialias") else None


def _cast(node: Node) -> str | None:
    to = _UNCAST.get(int(node.attributes.get("to", 0)))
    return f"to {to}" if to is not None else None


def _integers(node: Node) -> str | None:
    given = node.input(0)
    return f"{given.name} is {given.dtype}" if given is not None and given.dtype.startswith("int") else None


def _rank_below(least: int) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        given = node.input(0)
        rank = len(given.shape) if given is not None and given.shape is not None else least
        return f"{rank} dimensions" if rank < least else None

    return check


def _per_axis(graph: Graph) -> Iterator[tuple[Node | None, str]]:
    if graph.quantized and 0 < graph.opsets.get("", 0) < PER_AXIS_OPSET:
        yield None, f"opset {graph.opsets['']}"


def _wide_input(graph: Graph) -> Iterator[tuple[Node | None, str]]:
    for tensor in graph.inputs:
        if tensor.dtype in {"int64", "float64"}:
            yield None, f"the input {tensor.name} is {tensor.dtype}"


def _rule(  # noqa: PLR0917 - a row
    name: str, limit: str, check: object, ops: frozenset[str], why: str, rewrite: str, effect: Effect = "refused"
) -> Rule:
    return Rule(name=name, limit=limit, check=check, ops=ops, why=why, rewrite=rewrite, effect=effect)  # type: ignore[arg-type] # checks of one shape


_PARSER = "The parser refuses the file."
_REDUCE = words(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)
RULES: tuple[Rule, ...] = (
    _rule(
        "quantized-bias",
        "no int32 is dequantized (a quantized bias)",
        _bias,
        words("DequantizeLinear"),
        "TensorRT dequantizes int8, int4 and fp8 only; ONNX Runtime's default quantization writes int32 biases.",
        _SYMMETRIC,
    ),
    _rule("zero-point", "zero points are 0", _zero_point, QDQ, "TensorRT quantizes symmetrically.", _SYMMETRIC),
    _rule(
        "quantized-dtype",
        "quantized values are int8 (int4 and fp8 for weights)",
        _quantized_dtype,
        QDQ,
        "Its integer kernels take no uint8, and no 16 bits.",
        _SYMMETRIC,
    ),
    _rule(
        "constant-scale",
        "scales are constants",
        constant_input(1, "the scale"),
        QDQ,
        "Engines are built for fixed scales.",
        "Quantize statically.",
    ),
    _rule(
        "uint8",
        "uint8 only enters or leaves the model",
        dtypes("uint8", "uint16", "uint32", "uint64", "string", "complex64", "complex128"),
        frozenset(),
        _PARSER,
        "Cast to float right after the input.",
    ),
    _rule("pool-indices", "MaxPool's indices are not used", _indices, words("MaxPool"), _PARSER, "Drop the output."),
    _rule(
        "pool-dilation",
        "pools are not dilated",
        _dilated_pool,
        words("MaxPool AveragePool LpPool"),
        _PARSER,
        "Use a larger window, or strides.",
    ),
    _rule(
        "cast",
        "no cast to unsigned integers, int16 or strings",
        _cast,
        words("Cast"),
        _PARSER,
        "Cast to int32 or float32.",
    ),
    _rule("prelu", "values are float", _integers, words("PRelu"), _PARSER, "Cast to float before."),
    _rule(
        "spatial",
        "there is a dimension beside batch and channels",
        _rank_below(3),
        words("GlobalAveragePool GlobalMaxPool GlobalLpPool InstanceNormalization LRN"),
        _PARSER,
        "Unsqueeze before and squeeze after.",
    ),
    _rule(
        "lp-pool",
        "pictures or volumes, no series",
        _rank_below(4),
        words("LpPool"),
        _PARSER,
        "Unsqueeze before and squeeze after.",
    ),
    _rule(
        "scatter",
        "nothing is reduced",
        attribute("reduction", "none", default="none"),
        words("ScatterND"),
        _PARSER,
        "Use ScatterElements, or add what was gathered.",
    ),
    _rule(
        "resize",
        "nearest, linear or cubic, on a usual grid, without antialias",
        _resize,
        words("Resize"),
        _PARSER,
        "Use mode linear with half_pixel, without antialias.",
    ),
    _rule("top-k", f"K is at most {MAX_TOP_K}", _top_k, words("TopK"), _PARSER, "Use a smaller K."),
    _rule("reduce-axes", "axes are constants", constant_input(1, "the axes"), _REDUCE, _PARSER, "Fix the axes."),
    _rule("cumsum-axis", "the axis is constant", constant_input(1, "the axis"), words("CumSum"), _PARSER, "Fix it."),
    _rule(
        "recurrent-layout",
        "layout is 0",
        attribute("layout", 0, default=0),
        words("LSTM GRU RNN"),
        _PARSER,
        "Transpose before and after.",
    ),
    _rule(
        "static-shape",
        "dimensions are fixed",
        open_dimension,
        frozenset(),
        "An open dimension needs an optimization profile, and kernels are chosen for its middle.",
        "Export with fixed sizes, or give trtexec --minShapes, --optShapes and --maxShapes.",
        "slow",
    ),
)
REWRITES = {
    "ConvInteger": "Quantize statically in QDQ form (recipe int8-tensorrt).",
    "MatMulInteger": "Quantize statically in QDQ form (recipe int8-tensorrt).",
    "QLinearConv": "Quantize in QDQ form, not operator form (recipe int8-tensorrt).",
    "QLinearMatMul": "Quantize in QDQ form, not operator form (recipe int8-tensorrt).",
    "DynamicQuantizeLinear": "Quantize statically in QDQ form (recipe int8-tensorrt).",
    "DFT": "Compute it before the model, or as a matrix product with a constant.",
    "Unique": "Leave it to the application.",
    "Compress": "Use Where or Gather with fixed sizes.",
    "MaxUnpool": "Use Resize, or ConvTranspose.",
    **dict.fromkeys(
        words(
            "AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Col2Im CenterCropPad",
            "ConcatFromSequence Det ImageDecoder MaxRoiPool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss",
            "Optional OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty",
            "SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence",
            "StringConcat StringNormalizer StringSplit TfIdfVectorizer",
        ),
        "Leave it to the application, or write a plugin.",
    ),
}
TENSORRT = RuleSet(
    name="TensorRT",
    format="onnx",
    ops=None,
    rewrites=REWRITES,
    rules=RULES,
    unknown="refused",
    graph_rules=(
        GraphRule(
            name="per-axis-opset",
            limit=f"a quantized model has opset {PER_AXIS_OPSET} or later",
            check=_per_axis,
            why="Scales per channel came with it.",
            rewrite=f"Export with opset_version={PER_AXIS_OPSET} or later.",
            effect="refused",
        ),
        GraphRule(
            name="wide-input",
            limit="inputs are at most 32 bits wide",
            check=_wide_input,
            why="TensorRT 8.6 (JetPack 6.0) cuts int64 down to int32, and every version float64 to float32.",
            rewrite="Give int32 or float32.",
            effect="slow",
        ),
    ),
    source="onnx-tensorrt's operator table for TensorRT 10, corrected by TensorRT-RTX's parser on generated graphs",
)
