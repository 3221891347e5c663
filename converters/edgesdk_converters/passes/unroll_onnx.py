"""ONNX's LSTM written out in plain operators, step by step: compilers of accelerators take no LSTM, or crash on it.

What it computes stays the same (https://onnx.ai/onnx/operators/onnx__LSTM.html): gates ``i, o, f, c`` in this order,

    i, o, f = sigmoid(W x + R h + b)    c' = f c + i tanh(W x + R h + b)    h' = o tanh(c')

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
GATES = 4
SEQUENCE, WEIGHTS, RECURRENT, BIAS, LENGTHS, HIDDEN, CELL, PEEPHOLES = range(8)
"""Places of an LSTM's inputs."""
_UNKNOWN = frozenset({"activations", "activation_alpha", "activation_beta", "clip", "input_forget", "layout"})
"""Attributes that change what is computed; where one is set the layer stays as it is."""
DEFAULT = [b"sigmoid", b"tanh", b"tanh"]
"""Activations of one direction: of the gates, of what enters the cell, of what leaves it."""
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """An LSTM whose sizes and weights are known.

    Attributes:
        node: The operator.
        sizes: Steps, batch and features of its sequence.
        weights: ``[directions, 4 * hidden, features]``.
        recurrent: ``[directions, 4 * hidden, hidden]``.
        bias: ``[directions, 4 * hidden]``, both halves added.
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
    """Write out every LSTM of the main graph whose sizes are known, in place; return how many they were.

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
        if node.op_type == "LSTM" and (layer := _layer(node, shapes, stored)) is not None
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


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    return {
        entry.name: [size.dim_value for size in entry.type.tensor_type.shape.dim]
        for entry in (*graph.input, *graph.value_info, *graph.output)
        if entry.type.tensor_type.HasField("shape")
    }


def _layer(node: onnx.NodeProto, shapes: dict[str, list[int]], stored: dict[str, onnx.TensorProto]) -> _Layer | None:
    """Return what is known of an LSTM; None where it stays as it is."""
    import onnx  # noqa: PLC0415 - only in the child

    inputs = [*node.input, *[""] * (PEEPHOLES + 1 - len(node.input))]
    attributes = {item.name: item for item in node.attribute}
    shape = shapes.get(inputs[SEQUENCE], [])
    sizes = tuple(shape)
    if len(sizes) != 3 or not all(sizes) or sizes[0] > MOST_STEPS:  # noqa: PLR2004 - steps, batch, features
        return None
    if any(inputs[place] for place in (LENGTHS, PEEPHOLES)) or any(_says(attributes.get(name)) for name in _UNKNOWN):
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
        bias=halves[:, :wide] + halves[:, wide:],
        directions={"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction],
    )


def _says(attribute: onnx.AttributeProto | None) -> bool:
    """Say whether an attribute is set to something other than its default."""
    if attribute is None:
        return False
    named = [name.lower() for name in attribute.strings]
    return bool(attribute.i or attribute.f or attribute.floats) or named != DEFAULT * (len(named) // len(DEFAULT))


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
        bias = self._store(f"{place}/b", layer.bias[place])
        hidden, cell = self._initial(HIDDEN, place), self._initial(CELL, place)
        found = [""] * steps
        for step in reversed(range(steps)) if backwards else range(steps):
            word = f"{place}/{step}"
            row = whole if steps == 1 else self._slice(whole, step, step + 1, 0, f"{word}/x")
            flat = self._shaped(row, [batch, features], f"{word}/flat")
            own = self._add("Gemm", [flat, weights, bias], f"{word}/own")
            back = self._add("MatMul", [hidden, recurrent], f"{word}/back")
            gates = self._add("Add", [own, back], f"{word}/gates")
            hidden, cell = self._step(gates, cell, word)
            found[step] = hidden
        return found, cell

    def _step(self, gates: str, cell: str, word: str) -> tuple[str, str]:
        size = self._layer.hidden
        parts = [self._slice(gates, gate * size, (gate + 1) * size, 1, f"{word}/{gate}") for gate in range(GATES)]
        enters, leaves, stays = (
            self._add("Sigmoid", [part], f"{word}/{name}") for part, name in zip(parts[:3], "iof", strict=True)
        )
        new = self._add("Tanh", [parts[3]], f"{word}/c")
        kept = self._add("Mul", [stays, cell], f"{word}/kept")
        added = self._add("Mul", [enters, new], f"{word}/added")
        cell = self._add("Add", [kept, added], f"{word}/cell")
        shown = self._add("Tanh", [cell], f"{word}/shown")
        return self._add("Mul", [leaves, shown], f"{word}/hidden"), cell

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
