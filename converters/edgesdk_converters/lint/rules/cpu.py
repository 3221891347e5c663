"""The rules of CPUs: what the oldest runtimes of a target do not load, compute wrongly, or run slowly."""

from __future__ import annotations

from edgesdk_converters.lint.graph import Node
from edgesdk_converters.lint.rules.onnx_common import dtypes
from edgesdk_converters.lint.rules.rule import Rule, RuleSet, words

MAX_FULLY_CONNECTED = 11
HEAVY = words("CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV BATCH_MATMUL")
KNOWN_DOMAINS = ("", "com.microsoft", "ai.onnx.ml")
_LATER = words("DILATE REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CASE")
SMALLER_FLOATS = ("float16", "bfloat16")


def _later(node: Node) -> str | None:
    return f"{node.op} is newer" if node.op in _LATER or node.op.startswith(("STABLEHLO_", "OPERATOR_")) else None


def _custom(node: Node) -> str | None:
    # Operators of TFLite are written in capitals; what is not was added by somebody.
    return None if node.op.isupper() and node.op != "CUSTOM" else f"{node.op} is custom"


def _fc_version(node: Node) -> str | None:
    return f"version {node.version}" if node.version > MAX_FULLY_CONNECTED else None


def _hybrid(node: Node) -> str | None:
    given, weights = node.input(0), node.input(1)
    if given is None or weights is None or given.dtype != "float32" or weights.quantization is None:
        return None
    count = len(weights.quantization.scales)
    return f"float inputs, {count} scales" if weights.dtype in {"int8", "int4"} and count > 1 else None


def _float16(node: Node) -> str | None:
    if node.op == "DEQUANTIZE":
        return None
    found = next((each for each in (*node.present, *node.outputs) if each.dtype in SMALLER_FLOATS), None)
    return None if found is None else f"{found.name} is {found.dtype}"


def _slow_dtype(node: Node) -> str | None:
    given = node.input(0) if node.op != "TRANSPOSE_CONV" else node.input(2)
    return f"the input is {given.dtype}" if given is not None and given.dtype in {"uint8", "int16"} else None


def _domain(node: Node) -> str | None:
    return None if node.domain in KNOWN_DOMAINS else f"the domain is {node.domain}"


TFLITE = RuleSet(
    name="TFLite on a CPU",
    format="tflite",
    ops=None,
    rules=(
        Rule(
            name="runtime-op",
            limit="operators of tflite-runtime 2.14",
            check=_later,
            why="The oldest runtime of this target does not know it, and does not load the model.",
            rewrite="Export with an older converter, or require ai-edge-litert.",
            effect="refused",
        ),
        Rule(
            name="custom-op",
            limit="built-in operators only",
            check=_custom,
            why="The runtime's wheels bring no custom and no TensorFlow (Flex) operators.",
            rewrite="Export with TFLITE_BUILTINS only, and replace the layer.",
            effect="refused",
        ),
        Rule(
            name="fc-version",
            limit=f"FULLY_CONNECTED of version {MAX_FULLY_CONNECTED} or older",
            check=_fc_version,
            why="Weights per channel in dynamic-range int8 make version 12, which tflite-runtime 2.14 does not load.",
            rewrite="Quantize dense layers per tensor (recipe int8-dynamic does).",
            ops=words("FULLY_CONNECTED"),
            effect="refused",
        ),
        Rule(
            name="hybrid-per-channel",
            limit="dense layers with float inputs have one weight scale",
            check=_hybrid,
            why="tflite-runtime 2.14 takes the first scale for all channels, silently.",
            rewrite="Quantize dense layers per tensor (recipe int8-dynamic does).",
            ops=words("FULLY_CONNECTED"),
            effect="refused",
        ),
        Rule(
            name="float16",
            limit="float16 is stored only, and dequantized before it is used",
            check=_float16,
            why="The CPU kernels compute in float32.",
            rewrite="Use the recipe float16, which stores weights so, or float.",
            effect="refused",
        ),
        Rule(
            name="slow-dtype",
            limit="int8 or float32",
            check=_slow_dtype,
            why="uint8 ran 2 to 8 times slower than int8 here; int16 activations use reference kernels.",
            rewrite="Use the recipe int8.",
            ops=HEAVY,
            effect="slow",
        ),
    ),
    source="facts measured with tflite-runtime 2.14 and LiteRT",
)
ONNX = RuleSet(
    name="ONNX Runtime on a CPU",
    format="onnx",
    ops=None,
    rules=(
        Rule(
            name="domain",
            limit="operators of ONNX or com.microsoft",
            check=_domain,
            why="The runtime has no such operators, and does not load the model.",
            rewrite="Replace the layer, or ship a custom operator library yourself.",
            effect="refused",
        ),
        Rule(
            name="float16",
            limit="values are not float16",
            check=dtypes(*SMALLER_FLOATS),
            why="Most CPU kernels are float32: the runtime casts around each operator.",
            rewrite="Use the recipe float, or int8.",
            effect="slow",
        ),
    ),
    source="facts measured with onnxruntime; ceilings of the target's profile",
)
