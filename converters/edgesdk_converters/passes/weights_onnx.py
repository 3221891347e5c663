"""Float ONNX to int8 weights: convolutions and matrix products read them through Cast and Mul, and compute in float.

onnxruntime works both out once, when it loads the file, so the artifact is as fast as float. Trap: a DequantizeLinear,
the obvious way, it keeps for its integer kernels and works out at every call (three times float's time on
EfficientNet-Lite0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ReleaseError
from edgesdk_converters.passes.quantize_onnx import CORE, excluded, finish, start
from edgesdk_converters.recipes import Recipe
from edgesdk_converters.running.isolation import Call

if TYPE_CHECKING:
    import onnx

TOOLS = ("onnx", "numpy")
LARGEST = 127
"""-128 is left out, as in static quantization."""
SMALLEST = 1e-12
"""Scale of a channel of zeros."""
_MATRIX = 2


def quantize(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` with int8 weights from input ``source``; answer how many tensors they are.

    Weights are taken from input ``rounded`` if there is one.
    """
    recipe = msgspec.convert(call.params["recipe"], Recipe)
    model = start(call.inputs, recipe)
    count = store_weights(model, set(excluded(model, recipe.float_layers, "float_layers")))
    if not count:
        raise ReleaseError("conversion-failed", "no weights became int8: no convolution and no matrix product")
    finish(model, call)
    return {"int8_weights": count, "nodes": len(model.graph.node)}


def store_weights(model: onnx.ModelProto, left: set[str]) -> int:
    """Store the weights of the operators of the core as int8, but of the nodes named in `left`; return how many.

    What another operator reads too stays in float beside them.
    """
    import onnx  # noqa: PLC0415 - only in the child

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made: dict[tuple[str, int], str] = {}
    for node in list(model.graph.node):
        place = None if node.op_type not in CORE or node.name in left else _weight(node, stored)
        if place is None:
            continue
        name = node.input[place]
        values = onnx.numpy_helper.to_array(stored[name])
        axis = _axis(node, place, values.ndim)
        if (name, axis) not in made:
            made[name, axis] = f"{name}/int8_{axis}"
            _store(model, made[name, axis], values, axis)
        node.input[place] = made[name, axis]
    used = {name for node in model.graph.node for name in node.input} | {output.name for output in model.graph.output}
    for name in {name for name, _axis in made} - used:
        model.graph.initializer.remove(stored[name])
    return len(made)


def per_channel(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 values and the scales [channels] along an axis: ``S = max|x| / 127``, halves to even."""
    others = tuple(each for each in range(values.ndim) if each != axis)
    scales = (np.maximum(np.abs(values).max(axis=others), SMALLEST) / LARGEST).astype(np.float32)
    shaped = scales.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    return np.clip(np.rint(values / shaped), -LARGEST, LARGEST).astype(np.int8), scales


def _weight(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> int | None:
    """Return which input of a node is a constant float tensor of at least two dimensions."""
    for place in (1, 0):
        tensor = stored.get(node.input[place])
        if tensor is not None and tensor.data_type == tensor.FLOAT and len(tensor.dims) >= _MATRIX:
            return place
    return None


def _axis(node: onnx.NodeProto, place: int, rank: int) -> int:
    """Return the axis of a weight's output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "MatMul":
        return rank - 1 if place else rank - 2
    turned = next((item.i for item in node.attribute if item.name == ("transB" if place else "transA")), 0)
    return int(bool(turned) != bool(place))


def _store(model: onnx.ModelProto, name: str, values: NDArray[np.float32], axis: int) -> None:
    import onnx  # noqa: PLC0415 - only in the child

    made, scales = per_channel(values, axis)
    shape = [-1 if each == axis else 1 for each in range(values.ndim)]
    for part, array in {"values": made, "scales": scales.reshape(shape)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}/{part}"))
    wide = f"{name}/float"
    nodes = (
        onnx.helper.make_node("Cast", [f"{name}/values"], [wide], name=f"{name}/Cast", to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [wide, f"{name}/scales"], [name], name=f"{name}/Mul"),
    )
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
