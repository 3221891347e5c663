"""GELUs in the one order of small operators that TensorFlow's converter makes one operator of TFLite.

Traps: TFLite has no error function, and the converter fails at that of a GELU in another order, as PyTorch and Paddle
export it; where x³ is a value of its own (JAX), int8 has no step that is fit for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgesdk_converters.passes.gelus import CUBIC, INNER, Gelu, Op, find_gelus
from edgesdk_converters.passes.unroll_onnx import drop_unread

if TYPE_CHECKING:
    import onnx


def order_gelus(model: onnx.ModelProto) -> int:
    """Write each GELU as ``(x * 0.5) * (f(...) + 1)``; return how many there were.

    It stays in small operators: onnx2tf runs the ONNX file, whose operator set may be older than the operator Gelu.

    Args:
        model: With the shapes of its values inferred.
    """
    graph = model.graph
    ops = [Op(kind=node.op_type, inputs=node.input, output=node.output[0]) for node in graph.node]
    numbers = {tensor.name: number for tensor in graph.initializer if (number := _number(tensor)) is not None}
    shapes = {
        entry.name: [size.dim_value or size.dim_param for size in entry.type.tensor_type.shape.dim]
        for entry in (*graph.input, *graph.value_info, *graph.output)
    }
    gelus = find_gelus(ops, numbers, shapes)
    for gelu in gelus:
        _write(graph, gelu)
    if gelus:
        drop_unread(graph)
    return len(gelus)


def _write(graph: onnx.GraphProto, gelu: Gelu) -> None:
    """Put a GELU in the place of the node that gave its output."""
    import onnx  # noqa: PLC0415 - only in the child

    name, source, function = gelu.output, gelu.source, gelu.function
    last = next(node for node in graph.node if node.output[0] == name)
    numbers = {"half": 0.5, "one": 1.0, "slope": INNER[function][1], "cubic": CUBIC, "three": 3.0}
    parts = [("Mul", ["", "slope"], "inner")]  # an empty word is the source, whatever its name
    if function == "Tanh":
        parts = [
            ("Pow", ["", "three"], "cube"),
            ("Mul", ["cube", "cubic"], "bend"),
            ("Add", ["", "bend"], "bent"),
            ("Mul", ["bent", "slope"], "inner"),
        ]
    parts += [
        (function, ["inner"], "gate"),
        ("Add", ["gate", "one"], "raised"),
        ("Mul", ["", "half"], "halved"),
        ("Mul", ["halved", "raised"], ""),
    ]
    for word in sorted({each for _, inputs, _ in parts for each in inputs} & numbers.keys()):
        tensor = onnx.numpy_helper.from_array(np.array(numbers[word], np.float32), f"{name}/{word}")
        graph.initializer.append(tensor)
    place = list(graph.node).index(last)
    graph.node.remove(last)
    for step, (operator, inputs, output) in enumerate(parts):
        given = [f"{name}/{each}" if each else source for each in inputs]
        made = onnx.helper.make_node(
            operator, given, [f"{name}/{output}" if output else name], name=f"{last.name or name}/{output or 'gelu'}"
        )
        graph.node.insert(place + step, made)


def _number(tensor: onnx.TensorProto) -> float | None:
    """Return the only number that a float32 tensor holds; None if it holds others."""
    import onnx  # noqa: PLC0415 - only in the child

    if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) != 1:
        return None
    return float(np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(()))
