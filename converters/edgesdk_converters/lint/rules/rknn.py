"""The rules of Rockchip's NPU through rknn-toolkit2, for ONNX."""

from __future__ import annotations

from edgesdk_converters.lint.graph import Node
from edgesdk_converters.lint.rules.onnx_common import constant_input, dtypes, open_dimension, rank_above
from edgesdk_converters.lint.rules.rule import Rule, RuleSet, words

MAX_RANK = 4
OPS = words(
    "Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv",
    "ConvTranspose Cos DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand EyeLike Flatten Floor",
    "Gather GatherElements Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GRU HardSigmoid HardSwish",
    "Identity If InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax",
    "LpNormalization LRN LSTM MatMul Max MaxPool MaxRoiPool MeanVarianceNormalization Min Mish Mod Mul Pad Pow",
    "PRelu QuantizeLinear ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize ReverseSequence RoiAlign",
    "ScatterND Shape Sigmoid Sin Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile",
    "Transpose Unsqueeze Where",
)
BATCH_ONE = words("GRU LogSoftmax RoiAlign Slice Softmax Tile")


def _batch(node: Node) -> str | None:
    given = node.input(0)
    rank = len(given.dims) if given is not None else 0
    return f"a batch of {given.dims[0]}" if given is not None and rank > 1 and given.dims[0] > 1 else None


def _resize(node: Node) -> str | None:
    mode = node.attributes.get("mode", "nearest")
    return None if mode in {"nearest", "linear"} else f"mode {mode}"


_CPU = "The toolkit has no NPU kernel for it; it runs on the CPU, or the build fails."
RULES: tuple[Rule, ...] = (
    Rule(
        name="static-shape",
        limit="every dimension is fixed",
        check=open_dimension,
        why="rknn-toolkit2 builds for fixed sizes, and fails otherwise.",
        rewrite="Export with fixed sizes, or list the sizes with dynamic_input.",
        effect="refused",
    ),
    Rule(
        name="rank",
        limit=f"at most {MAX_RANK} dimensions",
        check=rank_above(MAX_RANK),
        why=_CPU,
        rewrite="Merge dimensions before the operator.",
    ),
    Rule(
        name="batch",
        limit="the batch is 1",
        check=_batch,
        why=_CPU,
        rewrite="Export with batch 1.",
        ops=BATCH_ONE,
    ),
    Rule(
        name="resize",
        limit="nearest or linear",
        check=_resize,
        why=_CPU,
        rewrite="Use mode linear.",
        ops=words("Resize"),
    ),
    Rule(
        name="dtype",
        limit="values are float, int8, uint8, int16, int32, int64 or bool",
        check=dtypes("float64", "string", "complex64", "complex128", "uint64"),
        why=_CPU,
        rewrite="Cast to float32.",
    ),
    Rule(
        name="if-constant",
        limit="the condition is constant",
        check=constant_input(0, "the condition"),
        why=_CPU,
        rewrite="Fold the branch at export.",
        ops=words("If"),
    ),
)
RKNN = RuleSet(
    name="Rockchip NPU",
    format="onnx",
    ops=OPS,
    rules=RULES,
    rewrites={
        "Abs": "Use Max(x, -x).",
        "Ceil": "Leave it to the application.",
        "Einsum": "Export it as MatMul and Transpose.",
        "GatherND": "Use Gather or Slice.",
        "Gelu": "Use Relu or HardSwish, or the Erf form (export with opset 19 or lower).",
        "GroupNormalization": "Use BatchNormalization, or the form of InstanceNormalization.",
        "Loop": "Unroll it at export.",
        "Neg": "Use Mul by -1.",
        "NonMaxSuppression": "Leave it to the application.",
        "Not": "Use Equal with 0.",
        "QLinearConv": "Give the float model: rknn-toolkit2 quantizes itself.",
        "QLinearMatMul": "Give the float model: rknn-toolkit2 quantizes itself.",
        "Reciprocal": "Use Div.",
        "ReduceL2": "Use Mul, ReduceSum and Sqrt.",
        "Round": "Leave it to the application.",
        "RNN": "Use GRU or LSTM.",
        "ScatterElements": "Use ScatterND.",
        "Sum": "Use Add.",
        "TopK": "Leave it to the application.",
    },
    source="the operator list of rknn-toolkit2 2.1; not compared with builds",
)
