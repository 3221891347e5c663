"""Outputs that nobody reads, such as the part of a split that the first step of an unrolled LSTM does not need.

Trap: litert-quantizer leaves them in float beside quantized ones of the same operator, and LiteRT does not load that.
"""

from __future__ import annotations

from typing import Any

from edgesdk_converters.passes.flatbuffer import pack, parse


def unread(graph: Any) -> set[int]:
    """Return the indices of the tensors that operators of a subgraph write and nothing reads."""
    written = {int(index) for operator in graph.operators for index in operator.outputs}
    read = {int(index) for operator in graph.operators for index in operator.inputs}
    return written - read - {int(index) for index in graph.outputs}


def with_unread(content: bytes) -> bytes:
    """Give what nobody reads the type and scale of the operator's other outputs; return the same bytes without such."""
    model = parse(content)
    changed = [_follow(graph, operator, unread(graph)) for graph in model.subgraphs for operator in graph.operators]
    return pack(model) if any(changed) else content


def _follow(graph: Any, operator: Any, forgotten: set[int]) -> bool:
    there = [graph.tensors[index] for index in operator.outputs if index not in forgotten]
    [model, *_] = there or [None]
    if model is None or model.quantization is None or model.quantization.scale is None:
        return False
    left = [graph.tensors[index] for index in operator.outputs if index in forgotten]
    for tensor in left:
        tensor.type, tensor.quantization = model.type, model.quantization
    return bool(left)
