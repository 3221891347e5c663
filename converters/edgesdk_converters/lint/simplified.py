"""What onnx2tf and TensorFlow's converter write in place of small operators: of a graph in TFLite's operators. Pure.

Measured with onnx2tf 1.29.24 on layer norms, attention and dense layers as PyTorch, Paddle and JAX export them: what
is POW, SQRT and DIV there is MUL and RSQRT in the TFLite file, and a bias is part of its dense layer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.tensor import Tensor

PRODUCTS = {2.0: 1, 3.0: 2}
"""Powers that become products, and how many."""
NORMS = frozenset({"InstanceNormalization", "LayerNormalization"})
ROOTS = {0.5: "SQRT", -0.5: "RSQRT"}


def simplified(graph: Graph) -> Graph:
    """Return the graph with those operators that the TFLite file has; what is read, and what is given, stays."""
    shown = {tensor.name for tensor in graph.outputs}
    nodes = _subtracted([made for node in graph.nodes for made in _written(node)], shown)
    return replace(graph, nodes=tuple(_biased(list(_roots(nodes, shown)), shown)))


def _written(node: Node) -> Iterator[Node]:
    """Yield what a single operator becomes."""
    given, other = node.input(0), node.input(1)
    if node.op in NORMS and given is not None:
        yield from _normalized(node, given)
    elif node.op == "POW" and given is not None:
        yield from _power(node, given, _number(other))
    elif node.op == "DIV" and other is not None and other.constant and other.dtype == "float32":
        yield replace(node, op="MUL")
    elif node.op == "MAXIMUM" and 0.0 in {_number(each) for each in node.present}:
        computed = tuple(each for each in node.present if not each.constant)
        yield replace(node, op="RELU", inputs=computed)
    else:
        yield node


def _power(node: Node, given: Tensor, power: float) -> Iterator[Node]:
    if power in ROOTS:
        yield replace(node, op=ROOTS[power], inputs=(given,))
    elif PRODUCTS.get(power) == 1:
        yield replace(node, op="MUL", inputs=(given, given))
    elif power in PRODUCTS:
        square = replace(node.outputs[0], name=f"{node.outputs[0].name}/square")
        yield replace(node, name=f"{node.name}/square", op="MUL", inputs=(given, given), outputs=(square,))
        yield replace(node, op="MUL", inputs=(square, given))
    else:
        yield node


def _normalized(node: Node, given: Tensor) -> Iterator[Node]:
    """Yield a layer norm as Keras writes it (tf.nn.batch_normalization), an instance norm as onnx2tf does."""
    axes, along = (list(node.attributes.get(word, [])) for word in ("axes", "along"))
    over = Tensor(name=f"{node.name}/axes", dtype="int32", shape=(len(axes),), load=lambda: np.asarray(axes, np.int32))
    epsilon = _constant(f"{node.name}/epsilon", float(node.attributes.get("epsilon", 1e-5)))
    shape = tuple(given.shape or ())
    narrow = tuple(1 if place in axes else size for place, size in enumerate(shape))
    beside = tuple(size if place in along else 1 for place, size in enumerate(shape))
    scale, bias = (_along(node.input(at), beside, f"{node.name}/{at}") for at in (1, 2))

    def tensor(word: str, sizes: tuple[int | None, ...]) -> Tensor:
        return Tensor(name=f"{node.outputs[0].name}/{word}", dtype=given.dtype, shape=sizes if shape else None)

    mean, variance, safe, root = (tensor(word, narrow) for word in ("mean", "variance", "safe", "root"))
    squares, apart, scaled = (tensor(word, shape) for word in ("squares", "apart", "scaled"))
    parts: list[tuple[str, tuple[Tensor, ...], Tensor]] = [
        ("MEAN", (given, over), mean),
        ("SQUARED_DIFFERENCE", (given, mean), squares),
        ("MEAN", (squares, over), variance),
        ("ADD", (variance, epsilon), safe),
        ("RSQRT", (safe,), root),
    ]
    if node.op == "LayerNormalization":
        slope, shift, offset = (tensor(word, shape) for word in ("slope", "shift", "offset"))
        parts += [("MUL", (root, scale), slope), ("MUL", (given, slope), scaled), ("MUL", (mean, slope), shift)]
        parts += [("SUB", (bias, shift), offset), ("ADD", (scaled, offset), node.outputs[0])]
    else:
        normal = tensor("normal", shape)
        parts += [("SUB", (given, mean), apart), ("MUL", (apart, root), normal)]
        parts += [("MUL", (normal, scale), scaled), ("ADD", (scaled, bias), node.outputs[0])]
    for op, inputs, made in parts:
        name = node.name if made is node.outputs[0] else f"{node.name}/{made.name.rpartition('/')[2]}"
        kept = {"keep_dims": True} if op == "MEAN" else {}
        yield replace(node, name=name, op=op, inputs=inputs, outputs=(made,), attributes=kept, domain="")


def _subtracted(nodes: list[Node], shown: set[str]) -> list[Node]:
    """Return the nodes with a difference for each sum with a negative that nothing else reads."""
    readers = Counter(tensor.name for node in nodes for tensor in node.present)
    negatives = {node.outputs[0].name: node.inputs[0] for node in nodes if node.op == "NEG"}
    lone = {name: given for name, given in negatives.items() if readers[name] == 1 and name not in shown}
    made: list[Node] = []
    gone: set[str] = set()
    for node in nodes:
        places = [place for place, each in enumerate(node.present) if node.op == "ADD" and each.name in lone]
        if places:
            name = node.present[places[0]].name
            others = [each for place, each in enumerate(node.inputs) if place != places[0]]
            node = replace(node, op="SUB", inputs=(*others, lone[name]))  # noqa: PLW2901 - in its place
            gone.add(name)
        made.append(node)
    return [node for node in made if node.op != "NEG" or node.outputs[0].name not in gone]


def _roots(nodes: list[Node], shown: set[str]) -> Iterator[Node]:
    """Yield a division by a square root as a product with its reciprocal; a root that only divides is gone."""
    roots = {node.outputs[0].name: node for node in nodes if node.op == "SQRT"}
    divides = [node for node in nodes if node.op == "DIV" and _divisor(node) in roots]
    readers = Counter(tensor.name for node in nodes for tensor in node.present)
    divisors = Counter(_divisor(node) for node in divides)
    gone = {name for name in roots if name not in shown and divisors[name] == readers[name] > 0}
    made: dict[str, Tensor] = {}
    for node in nodes:
        name = _divisor(node)
        if node.op == "SQRT" and node.outputs[0].name in gone:
            continue
        if node.op != "DIV" or name not in roots:
            yield node
            continue
        root = roots[name]
        if _number(node.input(0)) == 1.0:
            yield replace(node, op="RSQRT", inputs=root.inputs)
            continue
        if name not in made:
            made[name] = replace(root.outputs[0], name=f"{name}/reciprocal")
            yield replace(root, name=f"{root.name}/reciprocal", op="RSQRT", outputs=(made[name],))
        yield replace(node, op="MUL", inputs=(node.inputs[0], made[name]))


def _divisor(node: Node) -> str:
    other = node.input(1)
    return other.name if node.op == "DIV" and other is not None else ""


def _biased(nodes: list[Node], shown: set[str]) -> Iterator[Node]:
    """Yield a dense layer without a bias and the constant that is added to it as one operator."""
    readers = Counter(tensor.name for node in nodes for tensor in node.present)
    dense = {
        node.outputs[0].name: node
        for node in nodes
        if node.op == "FULLY_CONNECTED"
        and node.input(2) is None
        and node.outputs[0].name not in shown
        and readers[node.outputs[0].name] == 1
    }
    whole = {node.name: made for node in nodes if (made := _with_bias(node, dense)) is not None}
    taken = {made.inputs[0].name + made.name for made in whole.values() if made.inputs[0] is not None}
    for node in nodes:
        first = node.input(0)
        merged = node.op == "FULLY_CONNECTED" and first is not None and first.name + node.name in taken
        if not (merged and node.outputs[0].name in dense):
            yield whole.get(node.name, node)


def _with_bias(node: Node, dense: dict[str, Node]) -> Node | None:
    if node.op != "ADD" or len(node.present) != 2:  # noqa: PLR2004 - two terms
        return None
    layer = next((dense[each.name] for each in node.present if each.name in dense), None)
    bias = next((each for each in node.present if each.constant), None)
    if layer is None or bias is None or not (bias.dims and layer.outputs[0].dims):
        return None
    if not bias.elements == bias.dims[-1] == layer.outputs[0].dims[-1]:
        return None
    flat = replace(bias, shape=(bias.elements,))
    return replace(layer, inputs=(*layer.inputs[:2], flat), outputs=node.outputs)


def _along(tensor: Tensor | None, shape: tuple[int | None, ...], name: str) -> Tensor:
    """Return a scale or a bias with the sizes that are normalized, where the layout has them."""
    return _constant(name, 0.0) if tensor is None else replace(tensor, shape=shape or tensor.shape)


def _constant(name: str, value: float) -> Tensor:
    array = np.asarray(value, np.float32)
    return Tensor(name=name, dtype="float32", shape=(), load=lambda: array)


def _number(tensor: Tensor | None) -> float:
    """Return the only number of a float constant that has no or one axis; not a number for anything else."""
    if tensor is None or not tensor.constant or tensor.elements != 1 or len(tensor.dims) > 1:
        return math.nan
    values = tensor.values if tensor.dtype == "float32" else None
    return math.nan if values is None else float(values.reshape(()))
