"""Float TFLite to float TFLite whose weights lie on an int8 grid already; as `round_onnx` does it for ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk_converters.data.npz import some_feeds
from edgesdk_converters.passes.flatbuffer import pack, parse
from edgesdk_converters.passes.moments import MOST_INPUTS, SAMPLES, Layer, Tensors, Window, round_layers
from edgesdk_converters.passes.observe import open_tflite
from edgesdk_converters.passes.rounding import Floats, Rounded
from edgesdk_converters.recipes import names_layer
from edgesdk_converters.running.isolation import Call

TOOLS = ("ai-edge-litert", "numpy")
KINDS = CONV, DEPTHWISE, DENSE = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_WEIGHT, _BIAS = 1, 2


def round_weights(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite``, input ``source`` with weights rounded on ``calibration``; answer how far.

    Parameters: ``most``, the largest whole number; ``whole``, whether a dense layer has one scale; ``contract``.
    """
    content = call.inputs["source"].read_bytes()
    model = parse(content)
    found = layers_of(model, whole=call.params["whole"])
    users = {layer.name: operator for layer, operator in found}
    opened, dtypes = open_tflite(content)
    contract = msgspec.convert(call.params["contract"], Contract)
    layers, said = [layer for layer, _operator in found], {}

    def run(row: Tensors) -> Tensors:
        return opened(dict(row))

    def rows() -> Any:
        return some_feeds(call.inputs["calibration"], contract, dtypes, SAMPLES)

    for layer, rounded in round_layers(layers, run, rows, call.params["most"], call.progress):
        _put(model, users[layer.name], layer, rounded)
        said[layer.name] = {"nearest": rounded.nearest, "loss": rounded.loss}
    (call.out / "model.tflite").write_bytes(pack(model))
    return {"layers": said}


def take(source: bytes, rounded: bytes, left: tuple[str, ...]) -> bytes:
    """Return the rounded copy of a file, but with the file's own weights and biases where a layer stays in float."""
    if not left:
        return rounded
    before, after = parse(source), parse(rounded)
    for operator in before.subgraphs[0].operators:
        tensors = before.subgraphs[0].tensors
        if names_layer(left, *(tensors[index].name.decode() for index in operator.outputs)):
            for index in operator.inputs:
                if index >= 0:
                    after.buffers[tensors[index].buffer].data = before.buffers[tensors[index].buffer].data
    return pack(after)


def layers_of(model: Any, *, whole: bool) -> list[tuple[Layer, Any]]:
    """Return the convolutions and dense layers of the main graph by stored weights that nobody else reads.

    Args:
        model: A parsed file.
        whole: Whether all channels of a dense layer have one scale.
    """
    graph = model.subgraphs[0]
    users = Counter(int(index) for operator in graph.operators for index in operator.inputs if index >= 0)
    holders = Counter(tensor.buffer for part in model.subgraphs for tensor in part.tensors)
    found = []

    def own(index: int) -> bool:
        return index >= 0 and users[index] == 1 and holders[graph.tensors[index].buffer] == 1

    for operator in graph.operators:
        kind = _kind(model, operator)
        if kind is None or not own(operator.inputs[_WEIGHT]):
            continue
        values, bias = _constant(model, operator, _WEIGHT), _constant(model, operator, _BIAS)
        if values is None:
            continue
        read = graph.tensors[operator.inputs[0]]
        weights = _by_channel(kind, values, read.shape)
        if weights.shape[2] > MOST_INPUTS:
            continue
        layer = Layer(
            name=graph.tensors[operator.outputs[0]].name.decode(),
            reads=((read.name.decode(), _window(kind, operator, values.shape)),),
            weights=weights,
            biased=bias is not None and own(operator.inputs[_BIAS]),
            whole=whole and kind == DENSE,
        )
        found.append((layer, operator))
    return found


def _kind(model: Any, operator: Any) -> str | None:
    """Return ``CONV_2D``, ``DEPTHWISE_CONV_2D`` or ``FULLY_CONNECTED``; None for another operator."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next((kind for kind in KINDS if getattr(schema.BuiltinOperator, kind) == number), None)


def _constant(model: Any, operator: Any, place: int) -> NDArray[np.float32] | None:
    """Return a stored float32 input in its shape; None if there is none."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    index = operator.inputs[place] if len(operator.inputs) > place else -1
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if index < 0 or tensor.type != schema.TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)


def _by_channel(kind: str, values: NDArray[np.float32], read: Sequence[int]) -> Floats:
    """Return weights as [groups, channels, inputs], the inputs in the order (channel, *kernel)."""
    if kind == DENSE:
        return values[None].astype(np.float64)
    if kind == DEPTHWISE:
        _one, high, wide, outputs = values.shape
        groups = int(read[-1])
        return values.reshape(high * wide, groups, outputs // groups).transpose(1, 2, 0).astype(np.float64)
    groups = int(read[-1]) // values.shape[-1]
    return values.transpose(0, 3, 1, 2).reshape(groups, values.shape[0] // groups, -1).astype(np.float64)


def _by_place(kind: str, weights: Floats, shape: Sequence[int]) -> Floats:
    """Return weights in the shape of the file; the reverse of `_by_channel`."""
    if kind == CONV:
        outputs, high, wide, inputs = shape
        return weights.reshape(outputs, inputs, high, wide).transpose(0, 2, 3, 1)
    return (weights[0] if kind == DENSE else weights.transpose(2, 0, 1)).reshape(shape)


def _window(kind: str, operator: Any, shape: Sequence[int]) -> Window | None:
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    if kind == DENSE:
        return None
    options = operator.builtinOptions
    return Window(
        kernel=tuple(shape[1:3]),
        strides=(options.strideH, options.strideW),
        dilations=(options.dilationHFactor, options.dilationWFactor),
        pads="upper" if options.padding == schema.Padding.SAME else ((0, 0), (0, 0)),
        last=True,
    )


def _put(model: Any, operator: Any, layer: Layer, rounded: Rounded) -> None:
    """Store what was rounded."""
    tensors, kind = model.subgraphs[0].tensors, _kind(model, operator)
    assert kind is not None
    weight = tensors[operator.inputs[_WEIGHT]]
    _write(model, weight, _by_place(kind, rounded.weights, weight.shape))
    if layer.biased:
        before = _constant(model, operator, _BIAS)
        assert before is not None
        _write(model, tensors[operator.inputs[_BIAS]], before + rounded.bias.reshape(before.shape))


def _write(model: Any, tensor: Any, values: Floats) -> None:
    data = np.ascontiguousarray(values.astype(np.float32))
    model.buffers[tensor.buffer].data = np.frombuffer(data.tobytes(), np.uint8)
