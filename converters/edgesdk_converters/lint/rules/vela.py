"""The rules of Arm Ethos-U, as the compiler Vela 5.2 applies them."""

from __future__ import annotations

from dataclasses import replace

from edgesdk_converters.lint.rules import (
    vela_common,
    vela_fails,
    vela_operators,
    vela_patterns,
    vela_semantics,
    vela_u55,
    vela_u85,
)
from edgesdk_converters.lint.rules.rule import GraphRule, RuleSet

FUSED = {"relu": "RELU", "relu6": "RELU6", "relu_n1_to_1": "RELU_N1_TO_1", "tanh": "TANH", "sign_bit": "SIGN_BIT"}
REWRITES = {
    "BATCH_TO_SPACE_ND": "Use a dilated convolution (dilation_rate), not blocks of batches.",
    "SPACE_TO_BATCH_ND": "Use a dilated convolution (dilation_rate), not blocks of batches.",
    "BROADCAST_TO": "Let ADD or MUL broadcast.",
    "CAST": "Quantize the whole model, and give inputs in the model's own type.",
    "CEIL": "Fold it into the application.",
    "COS": "Compute it before the model, or take a table (GATHER on Ethos-U85).",
    "CUMSUM": "Use a FULLY_CONNECTED layer with a triangular matrix.",
    "DEPTH_TO_SPACE": "Use TRANSPOSE_CONV with stride 2, or RESHAPE and TRANSPOSE.",
    "DEQUANTIZE": "Let the model end in int8 (recipe int8), and dequantize in the application.",
    "DIV": "Multiply by the reciprocal where the divisor is a constant.",
    "FLOOR": "Fold it into the application.",
    "GATHER": "Use SLICE where the indices are constants.",
    "L2_NORMALIZATION": "Normalize in the application, or use MUL, SUM, RSQRT and MUL.",
    "L2_POOL_2D": "Use AVERAGE_POOL_2D or MAX_POOL_2D.",
    "LOG_SOFTMAX": "Use SOFTMAX; the order of the classes is the same.",
    "POW": "Use MUL for whole powers.",
    "ROUND": "Leave it out: quantized values are rounded already.",
    "SIN": "Compute it before the model, or take a table (GATHER on Ethos-U85).",
    "SPACE_TO_DEPTH": "Use CONV_2D with stride 2.",
    "SQRT": "Use RSQRT and MUL.",
    "SQUARE": "Use MUL of the value with itself.",
    "TOPK_V2": "Take the best classes in the application.",
    "HARD_SWISH": "Use RELU, or RELU6 right behind a convolution.",
}
_COMMON = {
    "format": "tflite",
    "fused": FUSED,
    "integer_only": True,
    "rewrites": REWRITES,
    "absorb": vela_patterns.absorb,
}
_BOOLEANS = GraphRule(
    name="bool-boundary",
    limit="no bool enters or leaves the model",
    check=vela_patterns.booleans,
    why="Vela converts them by a comparison that Ethos-U55 and U65 do not have, and fails.",
    rewrite="Give and take int8; compare in the application.",
    effect="refused",
)
_SHARED = (*vela_semantics.RULES, *vela_fails.ALWAYS, *vela_common.COMMON, *vela_operators.OPERATORS)
_SOURCE = "Vela 5.2.0: its --supported-ops-report, and builds of generated graphs (benchmarks/lint.py)"
U55 = RuleSet(
    name="Ethos-U55",
    ops=vela_u55.OPS,
    graph_rules=(_BOOLEANS,),
    rules=(*_SHARED, *vela_u55.RULES),
    last=vela_fails.U55,
    source=_SOURCE,
    **_COMMON,  # type: ignore[arg-type] # shared words
)
U65 = replace(U55, name="Ethos-U65")
U85 = RuleSet(
    name="Ethos-U85",
    ops=vela_u85.OPS,
    rules=(*_SHARED, *vela_u85.RULES),
    last=vela_fails.U85,
    source=_SOURCE,
    **_COMMON,  # type: ignore[arg-type] # shared words
)
