"""The rules of Rockchip's NPU through rknn-toolkit2, for ONNX."""

from __future__ import annotations

from edgesdk_converters.lint.graph import Node
from edgesdk_converters.lint.rules import rknn_patterns
from edgesdk_converters.lint.rules.onnx_common import constant_input, dtypes, open_dimension, rank_above
from edgesdk_converters.lint.rules.rule import Rule, RuleSet, words

MAX_RANK = 4
OPS = words(
    "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv",
    "ConvTranspose CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Expand EyeLike Flatten GRU",
    "Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid",
    "HardSwish Hardmax Identity If InstanceNormalization LSTM LayerNormalization LeakyRelu Less LessOrEqual",
    "LpNormalization MatMul Max MaxPool MaxRoiPool MeanVarianceNormalization Min Mish Mul Neg PRelu Pad Pow",
    "QuantizeLinear ReduceL2 ReduceMean ReduceSum Relu Reshape Resize ReverseSequence RoiAlign ScatterND Shape",
    "Sigmoid Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile Transpose Unsqueeze",
    "Where",
)
BATCH_ONE = words("GRU LogSoftmax RoiAlign Slice Softmax Tile")


def _batch(node: Node) -> str | None:
    given = node.input(0)
    rank = len(given.dims) if given is not None else 0
    return f"a batch of {given.dims[0]}" if given is not None and rank > 1 and given.dims[0] > 1 else None


def _resize(node: Node) -> str | None:
    mode = node.attributes.get("mode", "nearest")
    return None if mode in {"nearest", "linear"} else f"mode {mode}"


def _computed(node: Node) -> str | None:
    other = node.input(1)
    return None if other is None or other.constant else f"{other.name} is computed"


def _not_scalar(node: Node) -> str | None:
    constants = [each for each in node.present if each.constant]
    return None if any(each.elements == 1 for each in constants) else "no input is a scalar constant"


def _padded_average(node: Node) -> str | None:
    pads = node.attributes.get("pads") or []
    return f"pads {pads}" if any(pads) and not node.attributes.get("count_include_pad") else None


def _steps(node: Node) -> str | None:
    steps = node.input(4)
    values = steps.values if steps is not None else None
    return f"steps {values.reshape(-1).tolist()}" if values is not None and (values != 1).any() else None


def _unwritten(node: Node) -> str | None:
    missing = [name for name in ("axis", "epsilon") if name not in node.attributes]
    return f"{' and '.join(missing)} left to the default" if missing else None


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
        name="constant-operand",
        limit="the second input is a constant",
        check=_computed,
        why=_CPU,
        rewrite="Use a constant, or Mul, Add and Relu.",
        ops=words("Pow PRelu"),
    ),
    Rule(
        name="scalar-minimum",
        limit="one side is a scalar constant",
        check=_not_scalar,
        why=_CPU,
        rewrite="Use Clip.",
        ops=words("Min"),
    ),
    Rule(
        name="average-pool",
        limit="padding is counted (count_include_pad), or there is none",
        check=_padded_average,
        why=_CPU,
        rewrite="Pad before (Pad), or set count_include_pad.",
        ops=words("AveragePool"),
    ),
    Rule(
        name="slice-steps",
        limit="steps are 1",
        check=_steps,
        why=_CPU,
        rewrite="Use a Conv or MaxPool with a stride.",
        ops=words("Slice"),
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
        name="written-attributes",
        limit="axis and epsilon are written",
        check=_unwritten,
        why="The toolkit's rule that puts it on the NPU looks for both, and ends the build where one is left out.",
        rewrite="Write axis and epsilon into the node, as PyTorch's exporter does.",
        ops=words("LayerNormalization"),
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
        "Ceil": "Leave it to the application.",
        "Gelu": "Use Relu or HardSwish, or the Erf form (export with opset 19 or lower).",
        "Erf": "Use a Gelu by Sigmoid or Tanh, or HardSwish; or PyTorch's order: x * (erf(x / 1.4142) + 1) * 0.5.",
        "Exp": "Use Softmax or Sigmoid where it is part of one.",
        "Floor": "Leave it to the application.",
        "Log": "Leave it to the application.",
        "LogSoftmax": "Use Softmax; the order of the classes is the same.",
        "LRN": "Use BatchNormalization.",
        "ReduceMax": "Use GlobalMaxPool or MaxPool.",
        "ReduceMin": "Use GlobalMaxPool of the negated values.",
        "SpaceToDepth": "Use a Conv with stride 2.",
        "GroupNormalization": "Use BatchNormalization, or the form of InstanceNormalization.",
        "Loop": "Unroll it at export.",
        "NonMaxSuppression": "Leave it to the application.",
        "Not": "Use Equal with 0.",
        "QLinearConv": "Give the float model: rknn-toolkit2 quantizes itself.",
        "QLinearMatMul": "Give the float model: rknn-toolkit2 quantizes itself.",
        "Reciprocal": "Use Div.",
        "Round": "Leave it to the application.",
        "RNN": "Use GRU or LSTM.",
        "ScatterElements": "Use ScatterND.",
        "TopK": "Leave it to the application.",
    },
    absorb=rknn_patterns.absorb,
    source="the operator list of rknn-toolkit2 2.1, corrected by builds of single operators with 2.5.0 for rk3588",
)
