"""The rules of Qualcomm's HTP through onnxruntime-qnn: what it does not take runs on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.rules.onnx_common import (
    QDQ,
    attribute,
    constant_input,
    dtypes,
    open_dimension,
    rank_above,
    stored,
)
from edgesdk_converters.lint.rules.rule import Effect, GraphRule, Rule, RuleSet, words

MAX_RANK = 5
OPS = words(
    "Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant Conv",
    "ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Exp Expand Flatten Floor Gather",
    "GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GRU",
    "GroupNormalization HardSigmoid HardSwish Identity If InstanceNormalization Inverse IsNaN LRN LSTM",
    "LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool",
    "Mean Min Mul Neg NonMaxSuppression NonZero Not Or PRelu Pad Pow QLinearConv QLinearMatMul",
    "QuantizeLinear RandomNormalLike RandomUniformLike Range Reciprocal ReduceL2 ReduceMax ReduceMean",
    "ReduceMin ReduceSum Relu RMSNormalization Reshape Resize Round RotaryEmbedding STFT",
    "ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub",
    "Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where Xor FusedMatMul QuickGelu",
    "MatMulNBits SimplifiedLayerNormalization",
)
OF_FOUR = words(
    "And ArgMax ArgMin Asin Atan Ceil Cos Elu Floor GlobalMaxPool InstanceNormalization Log LogSoftmax LpNormalization",
    "LpPool MaxPool Neg Or ReduceL2 Resize Round ScatterElements Sign Sin Softplus Sqrt Tanh Xor",
)
"""They take four dimensions at most; what is not named takes five."""
_RECIPE = "Use the recipe int8-qnn: uint8 or uint16 activations."


def _signed(node: Node) -> str | None:
    tensor = stored(node)
    if tensor is None or tensor.constant or tensor.dtype not in {"int8", "int16"}:
        return None
    return f"{tensor.name} is {tensor.dtype}"


def _negative_index(node: Node) -> str | None:
    index = node.input(1)
    values = index.values if index is not None else None
    return "an index is negative" if values is not None and values.size and values.min() < 0 else None


def _float(graph: Graph) -> Iterator[tuple[Node | None, str]]:
    if not graph.quantized:
        yield None, "nothing is quantized"


def _nms(node: Node) -> str | None:
    return next((found for at in (2, 3, 4) if (found := constant_input(at, f"input {at}")(node)) is not None), None)


def _pool(node: Node) -> str | None:
    dilations = node.attributes.get("dilations") or [1]
    if set(dilations) != {1}:
        return f"dilations {dilations}"
    return "the indices are used" if len(node.outputs) > 1 else None


def _resize(node: Node) -> str | None:
    given = node.input(0)
    rank = len(given.shape) if given is not None and given.shape is not None else 4
    if rank < 3:  # noqa: PLR2004 - batch and channels
        return f"{rank} dimensions"
    mode, grid = (
        node.attributes.get(name, usual)
        for name, usual in (("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel"))
    )
    if grid in {"half_pixel_symmetric", "tf_crop_and_resize"}:
        return str(grid)
    rounded = node.attributes.get("nearest_mode", "round_prefer_floor")
    return (
        f"asymmetric, nearest by {rounded}"
        if (mode, grid) == ("nearest", "asymmetric") and rounded != "floor"
        else None
    )


def _plain_scatter(node: Node) -> str | None:
    return _stops(node) if node.attributes.get("reduction", "none") == "none" else None


def _product(node: Node) -> str | None:
    """Say what an Einsum is where it is no matrix product of two operands of one rank."""
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    given, _, made = equation.partition("->")
    left, _, right = given.partition(",")
    summed = set(left) & set(right) - set(made)
    plain = "." not in equation and "," not in right and len(left) == len(right) == len(made)
    return None if plain and len(summed) == 1 else equation


def _stops(node: Node) -> str | None:
    return f"{node.op} stops it"


def _rule(  # noqa: PLR0917 - a row
    name: str, limit: str, check: object, ops: str, why: str, rewrite: str, effect: Effect = "fallback"
) -> Rule:
    return Rule(name=name, limit=limit, check=check, ops=words(ops), why=why, rewrite=rewrite, effect=effect)  # type: ignore[arg-type] # checks of one shape


_TAKEN = "the HTP's compiler takes it"
_FAILS = "onnxruntime-qnn hands it over, and building the graph fails: nothing of the model is compiled."
_CPU = "The operator falls back to the CPU."
_FIX = "Fix it at export."
_UNROLL = "Unroll it at export (Keras: unroll=True); edge convert writes up to 32 fixed steps out itself."
RULES: tuple[Rule, ...] = (
    _rule(
        "static-shape",
        "every dimension is fixed",
        open_dimension,
        "",
        "The HTP's graph is built for fixed sizes; what has open ones stays on the CPU.",
        "Export with fixed sizes, or fix them with onnxruntime.tools.make_dynamic_shape_fixed.",
    ),
    _rule(
        "unsigned-activations",
        "quantized activations are uint8 or uint16",
        _signed,
        " ".join(QDQ),
        "The HTP's operators take unsigned values; a signed softmax was seen to be wrong by 1.",
        _RECIPE,
    ),
    _rule(
        "rank",
        f"at most {MAX_RANK} dimensions",
        rank_above(MAX_RANK),
        "",
        _CPU,
        "Merge dimensions before the operator.",
    ),
    _rule(
        "rank-four",
        "at most 4 dimensions",
        rank_above(4),
        " ".join(sorted(OF_FOUR)),
        _CPU,
        "Merge dimensions before the operator.",
    ),
    _rule("pool", "no dilation, and the indices are not used", _pool, "MaxPool", _CPU, "Use strides."),
    _rule("resize", "a usual grid; asymmetric and nearest: by floor", _resize, "Resize", _CPU, "Use half_pixel."),
    _rule("einsum", "a product of matrices", _product, "Einsum", _CPU, "Write it with MatMul, Mul and ReduceSum."),
    _rule("first", "of equals the first", attribute("select_last_index", 0, default=0), "ArgMax ArgMin", _CPU, _FIX),
    _rule("cumsum", "it is inclusive", attribute("exclusive", 0, default=0), "CumSum", _CPU, _FIX),
    _rule("cumsum-forward", "it runs forward", attribute("reverse", 0, default=0), "CumSum", _CPU, _FIX),
    _rule("dtype", "values are at most 32 bits wide", dtypes("float64", "string"), "", _CPU, "Cast to float32."),
    _rule("gather", "indices are not negative", _negative_index, "Gather", _CPU, "Write indices from the front."),
    _rule("lp", "p is 2", attribute("p", 2, default=2), "LpNormalization", _CPU, "Use p=2."),
    _rule("compiles", _TAKEN, _stops, "Selu ThresholdedRelu", _FAILS, "Use Elu or Relu.", "refused"),
    _rule("recurrent", _TAKEN, _stops, "GRU LSTM", _FAILS, _UNROLL, "refused"),
    _rule("scatters", _TAKEN, _plain_scatter, "ScatterND", _FAILS, "Use ScatterElements.", "refused"),
    _rule("range", "start, limit and step are constants", constant_input(1, "the limit"), "Range", _CPU, _FIX),
    _rule("one-hot", "the depth is constant", constant_input(1, "the depth"), "OneHot", _CPU, _FIX),
    _rule("nms", "counts and thresholds are constants", _nms, "NonMaxSuppression", _CPU, _FIX),
    _rule("layout", "layout is 0", attribute("layout", 0, default=0), "GRU LSTM", _CPU, "Transpose before and after."),
)
QNN = RuleSet(
    name="Qualcomm HTP",
    format="onnx",
    ops=OPS,
    rules=RULES,
    rewrites={
        "Erf": "Use Gelu as one operator (export with opset 20), or the form with Tanh.",
        "Mod": "Use Sub, Mul and Floor.",
        "ReduceProd": "Use ReduceSum of logarithms, or leave it to the application.",
        "RoiAlign": "Leave it to the application.",
        "OneHot": "Use Equal with a constant range.",
        "ReduceLogSumExp": "Write it as Exp, ReduceSum and Log.",
        "Loop": "Unroll it at export.",
        "Scan": "Unroll it at export.",
        "ConvInteger": f"Quantize statically. {_RECIPE}",
        "MatMulInteger": f"Quantize statically. {_RECIPE}",
        "DynamicQuantizeLinear": f"Quantize statically. {_RECIPE}",
        "ConstantOfShape": "Fold it: export with fixed sizes and run onnxsim or onnxslim.",
        "IsInf": "Leave it to the application.",
    },
    graph_rules=(
        GraphRule(
            name="quantized",
            limit="the model is quantized",
            check=_float,
            why="Float runs in half precision where the HTP has it (v68 and later, slower), else on the CPU.",
            rewrite=_RECIPE,
            effect="slow",
        ),
    ),
    source="the operator table of onnxruntime-qnn 2.7, corrected by its x86 HTP back end on quantized graphs",
)
