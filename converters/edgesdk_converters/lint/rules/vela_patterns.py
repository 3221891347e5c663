"""What Vela looks at beyond single operators: a convolution between block operators, booleans at the model's edge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

from edgesdk_converters.lint.graph import Graph, Node, listed
from edgesdk_converters.lint.rules.vela_measures import window
from edgesdk_converters.lint.rules.vela_roles import padded, role

Neighbours = tuple[dict[str, Node], dict[str, list[Node]]]


def absorb(graph: Graph, fits: Callable[[Node], bool]) -> set[str]:
    """Return the names of the nodes that become one dilated convolution, if that one fits."""
    if not any(node.op == "SPACE_TO_BATCH_ND" for node in graph.nodes):
        return set()
    neighbours = _neighbours(graph)
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op in {"CONV_2D", "DEPTHWISE_CONV_2D"} and node.inputs and node.outputs:
            chain = _chain(node, neighbours)
            if chain and fits(_merged(node, *chain)):
                taken |= {node.name, *(each.name for each in chain)}
    return taken


def _neighbours(graph: Graph) -> Neighbours:
    writers = {tensor.name: node for node in graph.nodes for tensor in node.outputs}
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for tensor in node.present:
            readers[tensor.name].append(node)
    return writers, readers


def _chain(node: Node, neighbours: Neighbours) -> tuple[Node, Node] | None:
    """Return the block operators right before and after a convolution that nobody else reads."""
    writers, readers = neighbours
    given = role(node, "feature")
    before = writers.get(given.name) if given is not None else None
    following = readers[node.outputs[0].name]
    if given is None or before is None or len(readers[given.name]) != 1 or len(following) != 1:
        return None
    after = following[0]
    return (before, after) if (before.op, after.op) == ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND") else None


def _merged(node: Node, before: Node, after: Node) -> Node:
    """Return the convolution with the block size as its dilation, from the first input to the last output."""
    block = role(before, "parameter")
    values = () if block is None or block.values is None else listed(block.values)
    down, across = (values[0], values[-1]) if values else (1, 1)
    attributes = {**node.attributes, "dilation_h_factor": down, "dilation_w_factor": across}
    given, result = before.inputs[0], after.outputs[0]
    if given is not None and node.inputs[0] is not None:
        given = replace(given, quantization=node.inputs[0].quantization)
    result = replace(result, quantization=node.outputs[0].quantization)
    merged = replace(node, inputs=(given, *node.inputs[1:]), outputs=(result,), attributes=attributes)
    return replace(merged, attributes={**attributes, "padding": "same" if _pads(merged) else "valid"})


def _pads(node: Node) -> bool:
    given = role(node, "feature")
    if given is None:
        return False
    kernel, strides, dilations = window(node)
    before, after = padded(given.dims), padded(node.outputs[0].dims)
    reach = [(kernel[at] - 1) * dilations[at] + 1 for at in (0, 1)]
    return any((after[at - 3] - 1) * strides[at] + reach[at] > before[at - 3] for at in (0, 1))


def booleans(graph: Graph) -> Iterator[tuple[Node | None, str]]:
    """Give what makes Vela fail for Ethos-U55 and U65: booleans that enter or leave the model."""
    for what, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            if tensor.dtype == "bool" and tensor.dims:
                yield None, f"the {what} {tensor.name} is bool"
