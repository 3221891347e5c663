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
        _write(graph, gelu, rank=len(shapes[gelu.source]))
    if gelus:
        drop_unread(graph)
    return len(gelus)


def write_tflite_gelus(model: onnx.ModelProto) -> int:
    """Write out each GELU of TFLite, which tf2onnx lets stand as a ``TFL_GELU``; return how many there were."""
    found = [node for node in model.graph.node if node.op_type == "TFL_GELU"]
    for node in found:
        approximate = any(item.name == "approximate" and item.i for item in node.attribute)
        gelu = Gelu(source=node.input[0], output=node.output[0], function="Tanh" if approximate else "Erf")
        _write(model.graph, gelu)
    return len(found)


def write_erfcs(model: onnx.ModelProto) -> int:
    """Write each Erfc, which is no operator of ONNX, by an Erf: ``erfc(x) = 1 - erf(x) = 1 + erf(-x)``, in place.

    Trap: TensorFlow writes its exact GELU as ``x/2 erfc(-x/√2)`` since 2.16, and tf2onnx lets the Erfc stand. What is
    negated before it becomes the form with a sum, which compilers know for a GELU.

    Returns:
        How many there were.
    """
    import onnx  # noqa: PLC0415 - only in the child

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    found = [node for node in graph.node if node.op_type == "Erfc"]
    for node in found:
        name, place = node.output[0], list(graph.node).index(node)
        inner, parts = _negated(node.input[0], makers, f"{name}/inner")
        operator, source = ("Sub", node.input[0]) if inner is None else ("Add", inner)
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), f"{name}/one"))
        parts.append(onnx.helper.make_node("Erf", [source], [f"{name}/erf"], name=f"{node.name or name}/erf"))
        parts.append(onnx.helper.make_node(operator, [f"{name}/one", f"{name}/erf"], [name], name=node.name or name))
        graph.node.remove(node)
        for step, part in enumerate(parts):
            graph.node.insert(place + step, part)
    if found:
        drop_unread(graph)
    return len(found)


def _negated(name: str, makers: dict[str, onnx.NodeProto], made: str) -> tuple[str | None, list[onnx.NodeProto]]:
    """Return the value whose negative is called `name`, and the nodes that make it; None where nothing is negated."""
    import onnx  # noqa: PLC0415 - only in the child

    node = makers.get(name)
    if node is not None and node.op_type == "Neg":
        return node.input[0], []
    for place, factor in enumerate(node.input if node is not None and node.op_type in {"Mul", "Div"} else ()):
        maker = makers.get(factor)
        if node is not None and maker is not None and maker.op_type == "Neg":
            inputs = [maker.input[0] if at == place else each for at, each in enumerate(node.input)]
            return made, [onnx.helper.make_node(node.op_type, inputs, [made], name=made)]
    return None, []


def _write(graph: onnx.GraphProto, gelu: Gelu, *, rank: int = 0) -> None:
    """Put a GELU in the place of the node that gave its output.

    Trap: onnx2tf makes products of a power whose exponent has no or one axis, which are then no GELU for the converter;
    so it gets the `rank` of the source.
    """
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
        shape = [1] * rank if word == "three" else []
        tensor = onnx.numpy_helper.from_array(np.full(shape, numbers[word], np.float32), f"{name}/{word}")
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
