"""What the int8 converter leaves in float, and how to write it otherwise. Pure.

Measured, and held against the tool by a test: static int8 of litert-quantizer 0.11.0 knows the operators of
`QUANTIZED`; every other one keeps its float32, with a DEQUANTIZE before it and a QUANTIZE behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from edgesdk_converters.lint.bodies import LOOPS, UNROLL
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.report import BRIDGES, Finding
from edgesdk_converters.lint.rules.rule import words
from edgesdk_converters.lint.tensor import Tensor

QUANTIZED = words(
    "ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CONCATENATION CONV_2D DEPTHWISE_CONV_2D DIV DYNAMIC_UPDATE_SLICE",
    "EQUAL FULLY_CONNECTED GATHER GATHER_ND GELU HARD_SWISH LOGISTIC MAXIMUM MAX_POOL_2D MEAN MIRROR_PAD MUL NOT_EQUAL",
    "PACK PAD PADV2 REDUCE_MIN RELU RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SLICE",
    "SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARED_DIFFERENCE STABLEHLO_COMPOSITE STRIDED_SLICE SUB SUM TANH TRANSPOSE",
    "TRANSPOSE_CONV UNPACK",
)
_REWRITES = {
    "ABS": "Write MAXIMUM(x, -1 * x).",
    "ADD_N": "Write ADD, two at a time.",
    "ARG_MAX": "Give the scores out, and take the largest in the application.",
    "ARG_MIN": "Give the values out, and take the smallest in the application.",
    "EXPAND_DIMS": "Use RESHAPE.",
    "LEAKY_RELU": "Write MAXIMUM(x, slope * x), for a slope below 1.",
    "LOG_SOFTMAX": "Use SOFTMAX; the order of the classes is the same.",
    "MINIMUM": "Write -1 * MAXIMUM(-1 * a, -1 * b).",
    "NEG": "Multiply by -1.",
    "POW": "Use MUL for whole powers.",
    "PRELU": "Write MAXIMUM(x, slopes * x), for slopes below 1.",
    "REDUCE_MAX": "Use a MAX_POOL_2D over the whole of the axes.",
    "RELU6": "Put it right behind a convolution, a dense layer or an ADD, which it is fused into.",
    "RELU_N1_TO_1": "Put it right behind a convolution, a dense layer or an ADD, which it is fused into.",
    "SPLIT_V": "Use SPLIT into equal parts, or SLICE.",
    "SQUARE": "Use MUL of the value with itself.",
    "SQUEEZE": "Use RESHAPE.",
    "TILE": "Use CONCATENATION of the value with itself.",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "Build the layer with unroll=True.",
}
_OTHERWISE = "Use another operator, or move it to the start or the end of the model, or into the application."
_NORM = (
    "It is in a layer norm as Keras writes it. Use a layer of your own, which has no NEG (keras.ops):"
    " d * rsqrt(mean(d * d) + epsilon) * gamma + beta, with d = x - mean(x)."
)
WHY = "The int8 converter (litert-quantizer) has no integer form of it: it stays float32 and runs on the CPU."
BESIDE = "It stands between integers and an operator that stays float32"
ISLAND = "Quantize it with the rest: leave it out of the recipe's float_layers."


def stays_float(node: Node) -> bool:
    """Say whether a float32 node is one that quantization leaves as it is."""
    return node.op not in QUANTIZED | BRIDGES and _float(node)


def with_bridges(
    nodes: Sequence[Node], outputs: Sequence[Tensor], integer: Callable[[Tensor], Tensor]
) -> Iterator[Node]:
    """Yield the nodes that stay float with a DEQUANTIZE before and a QUANTIZE behind, the others as they are.

    Args:
        nodes: Of a float model.
        outputs: What its caller gets.
        integer: Gives the quantized form of a tensor.
    """
    left = [node for node in nodes if stays_float(node)]
    written = {id(tensor) for node in left for tensor in node.outputs}
    wanted = {id(tensor) for node in nodes if not stays_float(node) for tensor in node.present} | set(map(id, outputs))
    known = set(written)
    for node in nodes:
        if not stays_float(node):
            yield node
            continue
        for tensor in node.present:
            if tensor.dtype == "float32" and not tensor.constant and id(tensor) not in known:
                known.add(id(tensor))
                yield _bridge("DEQUANTIZE", integer(tensor), tensor, node)
        yield node
        for tensor in node.outputs:
            if tensor.dtype == "float32" and id(tensor) in wanted:
                yield _bridge("QUANTIZE", tensor, integer(tensor), node)


def _bridge(op: str, given: Tensor, made: Tensor, node: Node) -> Node:
    return Node(
        name=f"{made.name} ({op.lower()})",
        op=op,
        inputs=(given,),
        outputs=(made,),
        index=node.index,
        callers=node.callers,
    )


def _float(node: Node) -> bool:
    computed = [tensor for tensor in (*node.present, *node.outputs) if not tensor.constant]
    return any(tensor.dtype == "float32" for tensor in computed)


def explained(finding: Finding, node: Node, graph: Graph) -> Finding:
    """Return a finding about a float of a file that is quantized, or will be, with the reason and a cure that can help.

    "Quantize the model" is no advice about what quantization leaves behind.
    """
    if not graph.quantized or not ("float" in finding.found or node.op in BRIDGES):
        return finding
    if stays_float(node):
        return msgspec.structs.replace(finding, why=WHY, rewrite=_cure(node, graph))
    if node.op not in BRIDGES:
        return msgspec.structs.replace(finding, rewrite=ISLAND)
    beside = next(
        (each for each in graph.nodes if each.op not in BRIDGES and _float(each) and _touch(each, node)), None
    )
    if beside is None:
        return finding
    goes = f"It goes with the {beside.op}. {_cure(beside, graph)}"
    return msgspec.structs.replace(finding, why=f"{BESIDE}: {beside.op}.", rewrite=goes)


def _cure(node: Node, graph: Graph) -> str:
    if node.op == "NEG" and _negates_mean(node, graph):
        return _NORM
    return UNROLL if node.op in LOOPS else _REWRITES.get(node.op, _OTHERWISE)


def _negates_mean(node: Node, graph: Graph) -> bool:
    makers = {id(tensor): each for each in graph.nodes for tensor in each.outputs}
    maker = makers.get(id(node.inputs[0])) if node.inputs else None
    if maker is not None and maker.op == "DEQUANTIZE" and maker.inputs:
        maker = makers.get(id(maker.inputs[0]))
    return maker is not None and maker.op == "MEAN"


def _touch(node: Node, other: Node) -> bool:
    ends = {id(tensor) for tensor in (*other.present, *other.outputs)}
    return any(id(tensor) in ends for tensor in (*node.present, *node.outputs))
