"""What half precision cannot hold, in ONNX: what depends on it stays in float32, and is not rounded on the way.

Traps of `onnxruntime.transformers.float16`: constants below 6e-8 become 6e-8, so that ``log(x * x + 1e-10)`` of a quiet
sound has a floor 28 dB higher; and what stays in float32 is rounded to half precision between two such operators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

LEAST = 1e-7
"""Constants of a lesser magnitude are tiny: half precision, and the tool, end at 6e-8, and next comes 1.2e-7."""
KEEPS_SCALE = frozenset({
    "Abs", "Mul", "Pow", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Reshape", "Slice", "Sqrt", "Squeeze",
    "Transpose", "Unsqueeze",
})  # fmt: skip
"""Squares, sums and roots, and what only moves values: a tiny constant is added to what they give."""
ROOTS = frozenset({"Pow", "Sqrt"})


def beyond_half(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that are float32's: those with a tiny constant, what they add it to, who reads it.

    Args:
        model: In float32; its nodes have names.
    """
    tiny = {name for name, values in _constants(model) if _is_tiny(values)}
    found: dict[str, onnx.NodeProto] = {}
    for start in model.graph.node:
        if start.op_type != "Constant" and tiny & set(start.input):
            found |= {node.name: node for node in (start, *_above(model, start), *_below(model, start))}
    # A body that stays in float32 would get halves from outside, which the tool casts for nodes alone.
    return [name for name, node in found.items() if not any(_bodies(node))]


def _above(model: onnx.ModelProto, start: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the nodes that make what a tiny constant is added to, up to those that are of another scale."""
    writers = {name: node for node in model.graph.node for name in node.output}
    found: list[onnx.NodeProto] = []
    open_ = [start]
    while open_:
        above = [writers[name] for name in open_.pop().input if name in writers]
        new = [node for node in above if node.op_type in KEEPS_SCALE and node not in found]
        found += new
        open_ += new
    return found


def _below(model: onnx.ModelProto, start: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the nodes that read what may be tiny: a logarithm, a quotient, and those of a root."""
    found: list[onnx.NodeProto] = []
    open_ = [start]
    while open_:
        written = set(open_.pop().output)
        new = [node for node in model.graph.node if written & set(node.input) and node not in found]
        found += new
        open_ += [node for node in new if node.op_type in ROOTS]
    return found


def join_islands(model: onnx.ModelProto, own: Collection[str]) -> int:
    """Take out casts to float16 and back between two nodes of float32, in place; return how many there were.

    Args:
        model: As the tool made it.
        own: Names of the nodes that were there before: a cast of the model itself may narrow integers.
    """
    import onnx  # noqa: PLC0415 - only in the child

    graphs = list(_graphs(model.graph))
    ends = {output.name for graph in graphs for output in graph.output}
    added = [node for node in model.graph.node if node.op_type == "Cast" and node.name not in own]
    half, single = (
        [node for node in added if _to(node) == kind] for kind in (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    )
    narrowed = {node.output[0]: node.input[0] for node in half}
    back = [node for node in single if node.input[0] in narrowed and node.output[0] not in ends]
    instead = {node.output[0]: narrowed[node.input[0]] for node in back}
    for node in (each for graph in graphs for each in graph.node):
        node.input[:] = [instead.get(name, name) for name in node.input]
    read = ends | {name for graph in graphs for node in graph.node for name in node.input}
    for node in (*back, *(node for node in half if node.output[0] not in read)):
        model.graph.node.remove(node)
    return len(back)


def computing(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many operators compute in float32, and how many in floats at all; casts compute nothing.

    An operator without an output of floats (a comparison, TopK's place) is counted by what it reads.
    """
    import onnx  # noqa: PLC0415 - only in the child

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    graphs = list(_graphs(onnx.shape_inference.infer_shapes(model).graph))
    kinds = {tensor.name: tensor.data_type for graph in graphs for tensor in graph.initializer}
    for graph in graphs:
        entries = (*graph.value_info, *graph.input, *graph.output)
        kinds |= {entry.name: entry.type.tensor_type.elem_type for entry in entries}
    found = {half: 0, single: 0}
    for node in (each for graph in graphs for each in graph.node if each.op_type != "Cast" and each.input):
        written, read = ([kinds.get(name) for name in names] for names in (node.output, node.input))
        kind = next((kind for kind in (*written, *read) if kind in found), None)
        if kind is not None:
            found[kind] += 1
    return found[single], sum(found.values())


def _to(cast: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the bodies of its branches and loops, which read its tensors too."""
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _is_tiny(values: NDArray[Any]) -> bool:
    magnitudes = np.abs(values[values != 0])
    return bool(values.size == 1 and magnitudes.size and magnitudes.max() < LEAST)


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, NDArray[Any]]]:
    import onnx  # noqa: PLC0415 - only in the child

    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield tensor.name, onnx.numpy_helper.to_array(tensor)
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                yield node.output[0], onnx.numpy_helper.to_array(attribute.t)
