"""What a target will get where the file is not it yet: an ONNX model converted to TFLite, a float one quantized."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.lint.as_tflite import as_tflite
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.left_float import stays_float, with_bridges
from edgesdk_converters.lint.rules.rule import RuleSet, words
from edgesdk_converters.lint.rules.vela_roles import role
from edgesdk_converters.lint.simplified import simplified
from edgesdk_converters.lint.tensor import Quantization, Tensor

QUANTIZED = "the model is float and is linted as full int8 quantization leaves it: as it is, nothing runs there"
CONVERTED = "the model is ONNX and is linted as the TFLite file that converters make of it"
_PLAIN = Quantization(scales=(1.0,), zero_points=(0,))
TOP = 127.0
ACTIVATIONS = {"RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1"}
FUSING = words("ADD AVERAGE_POOL_2D CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED MAX_POOL_2D MUL SUB")


def as_target_sees(graph: Graph, rules: RuleSet) -> Graph:
    """Return the graph that the rules are about, with what was assumed in words."""
    if rules.format == "tflite" and graph.format == "onnx":
        graph = replace(_fused(simplified(_reshaped(as_tflite(graph)))), assumed=(*graph.assumed, CONVERTED))
    if rules.integer_only and _is_float(graph):
        graph = replace(_quantized(graph), assumed=(*graph.assumed, QUANTIZED))
    return graph


def _fused(graph: Graph) -> Graph:
    """Put an activation into the operator before it, as converters to TFLite do."""
    readers = Counter(id(tensor) for node in graph.nodes for tensor in node.present)
    shown = {id(tensor) for tensor in graph.outputs}
    nodes: dict[int, Node] = {}  # by what they write first
    for node in graph.nodes:
        given = id(node.present[0]) if node.present else 0
        before = nodes.get(given)
        if (
            before is not None
            and node.op in ACTIVATIONS
            and _fuses(before)
            and given not in shown
            and readers[given] == 1
        ):
            del nodes[given]
            options = {**before.attributes, "fused_activation_function": ACTIVATIONS[node.op]}
            node = replace(before, outputs=node.outputs, attributes=options)  # noqa: PLW2901 - in its place
        nodes[id(node.outputs[0]) if node.outputs else id(node)] = node
    return replace(graph, nodes=tuple(nodes.values()))


def _reshaped(graph: Graph) -> Graph:
    """Call what only drops or adds sizes of 1 a RESHAPE, as converters to TFLite do."""
    nodes = [
        replace(node, op="RESHAPE", inputs=node.inputs[:1]) if node.op in {"SQUEEZE", "EXPAND_DIMS"} else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def _fuses(node: Node) -> bool:
    return node.op in FUSING and "fused_activation_function" not in node.attributes


def _is_float(graph: Graph) -> bool:
    """Say whether a graph is float32 throughout: weights that are stored narrower cannot be quantized again."""
    tensors = list(graph.tensors())
    narrow = any(tensor.dtype in {"int4", "float16"} or tensor.quantization is not None for tensor in tensors)
    return not narrow and any(tensor.dtype == "float32" for tensor in tensors)


def _quantized(graph: Graph) -> Graph:
    made: dict[tuple[int, bool], Tensor] = {}

    def convert(tensor: Tensor, *, bias: bool) -> Tensor:
        key = (id(tensor), bias)
        if key not in made:
            made[key] = _int8(tensor, bias=bias)
        return made[key]

    bridged = with_bridges(graph.nodes, graph.outputs, functools.partial(convert, bias=False))
    kept = {id(node) for node in graph.nodes if not stays_float(node)}
    return replace(
        graph,
        nodes=tuple(_node(node, convert) if id(node) in kept else node for node in bridged),
        inputs=tuple(convert(tensor, bias=False) for tensor in graph.inputs),
        outputs=tuple(convert(tensor, bias=False) for tensor in graph.outputs),
    )


def _node(node: Node, convert: Callable[..., Tensor]) -> Node:
    bias = role(node, "bias")
    return replace(
        node,
        inputs=tuple(None if each is None else convert(each, bias=each is bias) for each in node.inputs),
        outputs=tuple(convert(each, bias=False) for each in node.outputs),
    )


def _int8(tensor: Tensor, *, bias: bool) -> Tensor:
    if tensor.dtype != "float32":
        return tensor
    load = None if tensor.load is None else functools.partial(_stored, tensor.load)
    return replace(tensor, dtype="int32" if bias else "int8", quantization=_PLAIN, load=load)


def _stored(load: Callable[[], NDArray[Any] | None]) -> NDArray[Any] | None:
    stored = load()
    if stored is None:
        return None
    values = np.nan_to_num(np.asarray(stored, np.float32))
    narrow: NDArray[np.int8] = np.round(values * (TOP / max(float(np.abs(values).max(initial=0.0)), 1e-30))).astype(
        np.int8
    )
    return narrow
