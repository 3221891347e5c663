"""ONNX's LSTM and GRU written out in plain operators, step by step: compilers of accelerators crash on them.

What they compute stays the same (https://onnx.ai/onnx/operators/onnx__LSTM.html and ``…GRU.html``). Of an LSTM, with
gates ``i, o, f, c`` in this order,

    i, o, f = sigmoid(W x + R h + b)    c' = f c + i tanh(W x + R h + b)    h' = o tanh(c')

and of a GRU, with gates ``z, r, n``, with ``linear_before_reset``, as PyTorch and Keras have it,

    z, r = sigmoid(W x + R h + b)    n = tanh(W x + b + r (R h + b))    h' = (1 - z) n + z h = n + z (h - n)

Matrix products and gates can then be quantized and placed one by one. Each step adds some fifteen operators, but no
weights; so many steps stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

MOST_STEPS = 32
"""Of one sequence; with more the file would be all operators."""
MIN_OPSET = 10
"""Since then a Slice takes its bounds as inputs."""
GATES = {"LSTM": 4, "GRU": 3}
SEQUENCE, WEIGHTS, RECURRENT, BIAS, LENGTHS, HIDDEN, CELL, PEEPHOLES = range(8)
"""Places of an LSTM's inputs; a GRU has the same, and neither a cell nor peepholes."""
_UNKNOWN = frozenset({"activations", "activation_alpha", "activation_beta", "clip", "input_forget", "layout"})
"""Attributes that change what is computed; where one is set the layer stays as it is."""
DEFAULT = {"LSTM": [b"sigmoid", b"tanh", b"tanh"], "GRU": [b"sigmoid", b"tanh"]}
"""Activations of one direction: of the gates, of what enters the state, of what leaves an LSTM's cell."""
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """An LSTM or GRU whose sizes and weights are known.

    Attributes:
        node: The operator.
        sizes: Steps, batch and features of its sequence.
        weights: ``[directions, gates * hidden, features]``.
        recurrent: ``[directions, gates * hidden, hidden]``.
        bias: Of either of them, ``[directions, 2, gates * hidden]``.
        directions: Of time, one for each of its parts.
    """

    node: onnx.NodeProto
    sizes: tuple[int, int, int]
    weights: Array
    recurrent: Array
    bias: Array
    directions: tuple[bool, ...]

    @property
    def hidden(self) -> int:
        """Size of the state."""
        return int(self.recurrent.shape[-1])

    @property
    def name(self) -> str:
        """What its operators' names begin with."""
        return str(self.node.name or next(name for name in self.node.output if name))


def unroll(model: onnx.ModelProto) -> int:
    """Write out every LSTM and GRU of the main graph whose sizes are known, in place; return how many they were.

    Args:
        model: With the shapes of its values inferred.
    """
    opset = max((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), default=0)
    if opset < MIN_OPSET:
        return 0
    shapes, stored = _shapes(model.graph), {tensor.name: tensor for tensor in model.graph.initializer}
    layers = {
        place: layer
        for place, node in enumerate(model.graph.node)
        if node.op_type in GATES and (layer := _layer(node, shapes, stored)) is not None
    }
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(model.graph.node):
        nodes += _Writer(model.graph, layers[place]).write() if place in layers else [node]
    if layers:
        copies = [_copy(node) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        _drop_unused(model.graph)
    return len(layers)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = type(node)()
    made.CopyFrom(node)
    return made


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = read_names(graph)
    for tensor in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(tensor)


def read_names(graph: onnx.GraphProto) -> set[str]:
    """Return what nodes read, also those in the bodies of others, and what the graph gives."""
    found = {entry.name for entry in graph.output}
    for node in graph.node:
        found.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= read_names(inner)
    return found


def drop_unread(graph: onnx.GraphProto) -> None:
    """Take out the nodes whose results nobody reads, and the constants that nobody reads then."""
    while True:
        read = read_names(graph)
        idle = [node for node in graph.node if read.isdisjoint(node.output)]
        for node in idle:
            graph.node.remove(node)
        if not idle:
            break
    for tensor in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(tensor)


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    return {
        entry.name: [size.dim_value for size in entry.type.tensor_type.shape.dim]
        for entry in (*graph.input, *graph.value_info, *graph.output)
        if entry.type.tensor_type.HasField("shape")
    }


def _layer(node: onnx.NodeProto, shapes: dict[str, list[int]], stored: dict[str, onnx.TensorProto]) -> _Layer | None:
    """Return what is known of a recurrent layer; None where it stays as it is."""
    import onnx  # noqa: PLC0415 - only in the child

    inputs = [*node.input, *[""] * (PEEPHOLES + 1 - len(node.input))]
    attributes = {item.name: item for item in node.attribute}
    shape = shapes.get(inputs[SEQUENCE], [])
    sizes = tuple(shape)
    if len(sizes) != 3 or not all(sizes) or sizes[0] > MOST_STEPS:  # noqa: PLR2004 - steps, batch, features
        return None
    said = any(_says(node.op_type, attributes.get(name)) for name in _UNKNOWN)
    before = node.op_type == "GRU" and not ("linear_before_reset" in attributes and attributes["linear_before_reset"].i)
    if said or before or inputs[LENGTHS] or inputs[PEEPHOLES]:
        return None
    weights = [inputs[place] for place in (WEIGHTS, RECURRENT, BIAS) if inputs[place]]
    if not all(name in stored and stored[name].data_type == onnx.TensorProto.FLOAT for name in weights):
        return None
    arrays = [onnx.numpy_helper.to_array(stored[name]) for name in weights]
    wide = arrays[0].shape[1]
    halves = arrays[2] if inputs[BIAS] else np.zeros((len(arrays[0]), 2 * wide), np.float32)
    direction = attributes["direction"].s.decode() if "direction" in attributes else "forward"
    return _Layer(
        node=node,
        sizes=(sizes[0], sizes[1], sizes[2]),
        weights=arrays[0],
        recurrent=arrays[1],
        bias=halves.reshape(len(halves), 2, wide),
        directions={"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction],
    )


def _says(kind: str, attribute: onnx.AttributeProto | None) -> bool:
    """Say whether an attribute is set to something other than its default."""
    if attribute is None:
        return False
    named = [name.lower() for name in attribute.strings]
    usual = DEFAULT[kind]
    return bool(attribute.i or attribute.f or attribute.floats) or named != usual * (len(named) // len(usual))


class _Writer:
    """Writes one layer out."""

    def __init__(self, graph: onnx.GraphProto, layer: _Layer) -> None:
        self._graph, self._layer = graph, layer
        self._nodes: list[onnx.NodeProto] = []

    def write(self) -> list[onnx.NodeProto]:
        """Return the operators; they write what the layer wrote."""
        layer = self._layer
        steps, batch, _ = layer.sizes
        ways = len(layer.directions)
        ends = [self._direction(place, backwards=each) for place, each in enumerate(layer.directions)]
        results = (
            ([hidden[step] for step in range(steps) for hidden, _ in ends], [steps, ways, batch, layer.hidden]),
            ([hidden[0 if back else -1] for (hidden, _), back in zip(ends, layer.directions, strict=True)], None),
            ([cell for _, cell in ends], None),
        )
        for output, (values, shape) in zip(layer.node.output, results, strict=False):
            if output:
                whole = values[0] if len(values) == 1 else self._add("Concat", values, f"{output}/joined", axis=0)
                self._shaped(whole, shape or [ways, batch, layer.hidden], output, output)
        return self._nodes

    def _direction(self, place: int, *, backwards: bool) -> tuple[list[str], str]:
        """Write one direction; return the hidden state after each step of the sequence, and the last cell state."""
        layer = self._layer
        steps, batch, features = layer.sizes
        whole = layer.node.input[SEQUENCE]
        weights = self._store(f"{place}/W", layer.weights[place].T)
        recurrent = self._store(f"{place}/R", layer.recurrent[place].T)
        biases = [self._store(f"{place}/b{half}", layer.bias[place, half]) for half in range(2)]
        hidden = self._initial(HIDDEN, place)
        cell = self._initial(CELL, place) if layer.node.op_type == "LSTM" else ""
        found = [""] * steps
        for step in reversed(range(steps)) if backwards else range(steps):
            word = f"{place}/{step}"
            row = whole if steps == 1 else self._slice(whole, step, step + 1, 0, f"{word}/x")
            flat = self._shaped(row, [batch, features], f"{word}/flat")
            own = self._add("Gemm", [flat, weights, biases[0]], f"{word}/own")
            back = self._add("Gemm", [hidden, recurrent, biases[1]], f"{word}/back")
            if cell:
                hidden, cell = self._long(own, back, cell, word)
            else:
                hidden = self._gated(own, back, hidden, word)
            found[step] = hidden
        return found, cell

    def _long(self, own: str, back: str, cell: str, word: str) -> tuple[str, str]:
        """Write a step of an LSTM; return its hidden and its cell state."""
        gates = self._parts(self._add("Add", [own, back], f"{word}/gates"), word)
        enters, leaves, stays = (
            self._add("Sigmoid", [part], f"{word}/{name}") for part, name in zip(gates[:3], "iof", strict=True)
        )
        new = self._add("Tanh", [gates[3]], f"{word}/c")
        kept = self._add("Mul", [stays, cell], f"{word}/kept")
        added = self._add("Mul", [enters, new], f"{word}/added")
        cell = self._add("Add", [kept, added], f"{word}/cell")
        shown = self._add("Tanh", [cell], f"{word}/shown")
        return self._add("Mul", [leaves, shown], f"{word}/hidden"), cell

    def _gated(self, own: str, back: str, hidden: str, word: str) -> str:
        """Write a step of a GRU; return its hidden state."""
        owns, backs = self._parts(own, f"{word}/own"), self._parts(back, f"{word}/back")
        sums = [
            self._add("Add", list(pair), f"{word}/sum{k}") for k, pair in enumerate(zip(owns[:2], backs, strict=False))
        ]
        stays, resets = (self._add("Sigmoid", [each], f"{word}/{name}") for each, name in zip(sums, "zr", strict=True))
        reset = self._add("Mul", [resets, backs[2]], f"{word}/reset")
        new = self._add("Tanh", [self._add("Add", [owns[2], reset], f"{word}/sum")], f"{word}/n")
        far = self._add("Sub", [hidden, new], f"{word}/far")
        return self._add("Add", [new, self._add("Mul", [stays, far], f"{word}/kept")], f"{word}/hidden")

    def _parts(self, gates: str, word: str) -> list[str]:
        """Return the gates that lie side by side in one value."""
        size, count = self._layer.hidden, GATES[self._layer.node.op_type]
        return [self._slice(gates, gate * size, (gate + 1) * size, 1, f"{word}/{gate}") for gate in range(count)]

    def _initial(self, which: int, place: int) -> str:
        """Return the state before the first step, ``[batch, hidden]``."""
        layer = self._layer
        shape = [layer.sizes[1], layer.hidden]
        inputs = layer.node.input
        if len(inputs) <= which or not inputs[which]:
            return self._store(f"{place}/zero", np.zeros(shape, np.float32))
        given = inputs[which]
        if len(layer.directions) > 1:
            given = self._slice(given, place, place + 1, 0, f"{place}/initial_{which}")
        return self._shaped(given, shape, f"{place}/state_{which}")

    def _shaped(self, value: str, shape: Sequence[int], word: str, output: str = "") -> str:
        sizes = self._store(f"sizes/{'x'.join(map(str, shape))}", np.array(shape, np.int64))
        return self._add("Reshape", [value, sizes], word, output)

    def _slice(self, value: str, begin: int, end: int, axis: int, word: str) -> str:
        bounds = [self._store(f"at/{number}", np.array([number], np.int64)) for number in (begin, end, axis)]
        return self._add("Slice", [value, *bounds], word)

    def _add(self, kind: str, inputs: Sequence[str], word: str, output: str = "", **attributes: Any) -> str:
        import onnx  # noqa: PLC0415 - only in the child

        name = f"{self._layer.name}/{word}"
        self._nodes.append(onnx.helper.make_node(kind, inputs, [output or name], name=name, **attributes))
        return output or name

    def _store(self, word: str, values: Any) -> str:
        import onnx  # noqa: PLC0415 - only in the child

        name = f"{self._layer.name}/{word}"
        if name not in {tensor.name for tensor in self._graph.initializer}:
            self._graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
