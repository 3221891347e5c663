"""What Rockchip's toolkit takes together: an error function that is part of a GELU. Pure.

Built with rknn-toolkit2 2.5.0 in 24 orders of the operators (benchmarks/lint_onnx.py): which of two factors comes first
decides, and x / √2 must be a division. PyTorch's and Paddle's order is one of those that it knows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.tensor import Tensor

TOLERANCE = 1e-3


def absorb(graph: Graph, _fits: Callable[[Node], bool]) -> set[str]:
    """Return the names of the Erfs that become part of a GELU on the NPU."""
    erfs = [node for node in graph.nodes if node.op == "Erf" and node.present and node.outputs]
    if not erfs:
        return set()
    finder = _Finder(graph)
    return {node.name for node in erfs if finder.gated(node)}


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self._makers = {tensor.name: node for node in graph.nodes for tensor in node.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for tensor in node.present:
                self._readers.setdefault(tensor.name, []).append(node)
        self._shown = Counter(tensor.name for tensor in graph.outputs)

    def gated(self, erf: Node) -> bool:
        """Say whether an Erf is of x / √2 and gates x, in an order that is known."""
        inner = self._makers.get(erf.present[0].name)
        if inner is None or inner.op != "Div" or not _is(inner.input(1), math.sqrt(2)):
            return False
        source, add = inner.present[0].name, self._next(erf, "Add")
        if add is None or not _reads(add, erf.outputs[0].name) or not _is(add.input(1), 1.0):
            return False
        gate, product = add.outputs[0].name, self._next(add, "Mul")
        if product is None:
            return False
        if _reads(product, gate) and _is(product.input(1), 0.5):  # x * (gate * 0.5)
            last = self._next(product, "Mul")
            return last is not None and source in {tensor.name for tensor in last.present}
        if _reads(product, source, gate):  # (x * gate) * 0.5
            last = self._next(product, "Mul")
            return last is not None and any(_is(each, 0.5) for each in last.present)
        half = self._makers.get(product.present[0].name)  # (x * 0.5) * gate
        halved = half is not None and half.op == "Mul" and _reads(half, source) and _is(half.input(1), 0.5)
        return halved and _reads(product, product.present[0].name, gate)

    def _next(self, node: Node, op: str) -> Node | None:
        """Return the only reader of what a node gives, if it is such an operator."""
        name = node.outputs[0].name
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op == op and not self._shown[name] else None


def _reads(node: Node, *names: str) -> bool:
    """Say whether these are what a node reads first."""
    return [tensor.name for tensor in node.present[: len(names)]] == list(names)


def _is(tensor: Tensor | None, number: float) -> bool:
    if tensor is None or not tensor.constant or tensor.elements != 1:
        return False
    values = tensor.values
    return values is not None and math.isclose(float(values.reshape(())), number, rel_tol=TOLERANCE)
