"""What exporters wrote out in small operators is one operator again, where compilers know that and not the parts.

JAX writes a softmax as ReduceMax, Max with minus infinity, Sub, Exp, ReduceSum, Div, and a reciprocal square root as
Sqrt, Reciprocal. Trap: rknn-toolkit2 quantizes the minus infinity, and ends with "cannot convert float NaN to integer";
it has no Exp, ReduceMax and Reciprocal for its NPU either, but Softmax and Div.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgesdk_converters.passes.unroll_onnx import drop_unread

if TYPE_CHECKING:
    import onnx

MOVERS = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Identity"})
AXES_OPSET = 13
"""Since then a Softmax is over its axis alone; before, over that and all after it."""
ONE = "/one"
SLICE_INPUTS = 5
"""Data, starts, ends, axes and, if it has them, steps."""
SIX = 6
"""Where TFLite's RELU6 ends."""


def gather(model: onnx.ModelProto) -> int:
    """Put Softmax and Div in place of what they were written out as, drop Slices of all; return how many there were.

    Args:
        model: With the shapes of its values inferred.
    """
    found = _Finder(model)
    return found.slices() + found.softmaxes() + found.reciprocals()


def widen_sigmoids(model: onnx.ModelProto) -> int:
    """Write each HardSigmoid as a Relu6, in place: ``min(max(6 (a x + b), 0), 6) / 6``; return how many they were.

    Trap: TFLite's RELU_0_TO_1, which it becomes otherwise, stays float, and with it the way to the NPU and back.
    """
    import onnx  # noqa: PLC0415 - only in the child

    nodes = [node for node in model.graph.node if node.op_type == "HardSigmoid"]
    for node in nodes:
        place = list(model.graph.node).index(node)
        given = {item.name: item.f for item in node.attribute}
        name, top = node.output[0], float(SIX)
        numbers = {"slope": given.get("alpha", 0.2) * top, "base": given.get("beta", 0.5) * top, "part": 1 / top}
        for word, value in {**numbers, "low": 0.0, "high": top}.items():
            tensor = onnx.numpy_helper.from_array(np.array(value, np.float32), f"{name}/{word}")
            model.graph.initializer.append(tensor)
        parts = [
            ("Mul", [node.input[0], f"{name}/slope"], f"{name}/steep"),
            ("Add", [f"{name}/steep", f"{name}/base"], f"{name}/raised"),
            ("Clip", [f"{name}/raised", f"{name}/low", f"{name}/high"], f"{name}/six"),
            ("Mul", [f"{name}/six", f"{name}/part"], name),
        ]
        model.graph.node.remove(node)
        for step, (op, inputs, output) in enumerate(parts):
            made = onnx.helper.make_node(op, inputs, [output], name=f"{node.name or name}/{op}{step}")
            model.graph.node.insert(place + step, made)
    return len(nodes)


class _Finder:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = graph = model.graph
        self._opset = max((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), default=0)
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._shapes = {
            entry.name: [size.dim_value for size in entry.type.tensor_type.shape.dim]
            for entry in (*graph.input, *graph.value_info, *graph.output)
        }

    def softmaxes(self) -> int:
        """Replace each; what then nobody reads is dropped."""
        import onnx  # noqa: PLC0415 - only in the child

        count = 0
        for place, node in enumerate(self._graph.node):
            found = self._softmax(node)
            if found is None:
                continue
            source, axis = found
            made = onnx.helper.make_node("Softmax", [source], list(node.output), name=node.name, axis=axis)
            self._graph.node.remove(node)
            self._graph.node.insert(place, made)
            count += 1
        if count:
            drop_unread(self._graph)
        return count

    def slices(self) -> int:
        """Let what a Slice of everything gives be read from its source: onnx2tf cuts it along another axis."""
        given = {entry.name for entry in self._graph.output}
        idle = [node for node in self._graph.node if node.output[0] not in given and self._is_whole(node)]
        for whole in idle:
            for node in self._graph.node:
                for place, name in enumerate(node.input):
                    node.input[place] = whole.input[0] if name == whole.output[0] else name
        if idle:
            drop_unread(self._graph)
        return len(idle)

    def _is_whole(self, node: onnx.NodeProto) -> bool:
        import onnx  # noqa: PLC0415 - only in the child

        if node.op_type != "Slice" or len(node.input) < SLICE_INPUTS - 1:
            return False
        steps = node.input[SLICE_INPUTS - 1] if len(node.input) == SLICE_INPUTS else ""
        forward = not steps or (
            steps in self._stored and bool((onnx.numpy_helper.to_array(self._stored[steps]) == 1).all())
        )
        before, after = (self._shapes.get(name, [0]) for name in (node.input[0], node.output[0]))
        return forward and before == after and all(before)

    def reciprocals(self) -> int:
        """Replace each."""
        import onnx  # noqa: PLC0415 - only in the child

        nodes = [node for node in self._graph.node if node.op_type == "Reciprocal" and self._is_float(node.input[0])]
        for node in nodes:
            name = f"{node.output[0]}{ONE}"
            self._graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), name))
            node.op_type = "Div"
            node.input.insert(0, name)
        return len(nodes)

    def _is_float(self, name: str) -> bool:
        kinds = {
            entry.name: entry.type.tensor_type.elem_type for entry in (*self._graph.input, *self._graph.value_info)
        }
        return kinds.get(name) == 1  # TensorProto.FLOAT

    def _softmax(self, node: onnx.NodeProto) -> tuple[str, int] | None:
        """Return of what, and along which axis, a Div makes a softmax; None if it makes none."""
        exp = self._made(node, 0, "Div", "Exp")
        sub = self._made(exp, 0, "Exp", "Sub")
        if exp is None or sub is None:
            return None
        source, shape = sub.input[0], self._shapes.get(sub.input[0], [])
        most, whole = self._behind(sub.input[1]), self._behind(node.input[1])
        if most is None or most.op_type != "ReduceMax" or most.input[0] != source:
            return None
        if whole is None or whole.op_type != "ReduceSum" or whole.input[0] != exp.output[0]:
            return None
        axes = self._axes(most, len(shape))
        if not shape or len(axes) != 1 or axes != self._axes(whole, len(shape)):
            return None
        [axis] = axes
        reduced = [1 if place == axis else size for place, size in enumerate(shape)]
        fits = all(self._shapes.get(name) == reduced for name in (sub.input[1], node.input[1]))
        along = self._opset >= AXES_OPSET or axis == len(shape) - 1
        return (source, axis) if fits and along else None

    def _made(self, node: onnx.NodeProto | None, place: int, op: str, by: str) -> onnx.NodeProto | None:
        """Return the node of kind `by` that makes an input of a node of kind `op`."""
        if node is None or node.op_type != op:
            return None
        maker = self._makers.get(node.input[place])
        return maker if maker is not None and maker.op_type == by else None

    def _behind(self, name: str) -> onnx.NodeProto | None:
        """Return what makes a value, past what only shapes it and past a Max with minus infinity."""
        node = self._makers.get(name)
        while node is not None:
            bounded = [each for each in node.input if not self._is_least(each)]
            if node.op_type in MOVERS:
                node = self._makers.get(node.input[0])
            elif node.op_type == "Max" and len(bounded) == 1 < len(node.input):
                node = self._makers.get(bounded[0])
            else:
                return node
        return None

    def _is_least(self, name: str) -> bool:
        import onnx  # noqa: PLC0415 - only in the child

        tensor = self._stored.get(name)
        return tensor is not None and bool(np.isneginf(onnx.numpy_helper.to_array(tensor)).all())

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int]:
        import onnx  # noqa: PLC0415 - only in the child

        given = [list(item.ints) for item in node.attribute if item.name == "axes"]
        if len(node.input) > 1 and node.input[1] in self._stored:
            given.append(onnx.numpy_helper.to_array(self._stored[node.input[1]]).tolist())
        return sorted(axis % rank for axis in given[0]) if given and rank else []
