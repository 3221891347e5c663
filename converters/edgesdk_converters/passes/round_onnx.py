"""Float ONNX to float ONNX whose weights lie on an int8 grid already, rounded by what calibration data shows.

Whatever quantizes the file then finds these very numbers. See `rounding` for the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk_converters.data.npz import some_feeds
from edgesdk_converters.passes.moments import MOST_INPUTS, SAMPLES, Layer, Run, Tensors, Window, round_layers
from edgesdk_converters.passes.observe import onnx_dtype
from edgesdk_converters.passes.rounding import Floats, Rounded
from edgesdk_converters.running.isolation import Call

if TYPE_CHECKING:
    import onnx

TOOLS = ("onnxruntime", "onnx", "numpy")
_WEIGHT, _BIAS, _MATRIX = 1, 2, 2


def round_weights(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, input ``source`` with weights rounded on ``calibration``; answer how far.

    Parameters: ``most``, the largest whole number; ``contract``.
    """
    import onnx  # noqa: PLC0415 - only in the child

    model = onnx.load(call.inputs["source"])
    users = _users(model)
    layers = layers_of(model)
    run = _runner(model, sorted({tensor for layer in layers for tensor, _window in layer.reads}))
    contract = msgspec.convert(call.params["contract"], Contract)
    dtypes = {node.name: onnx_dtype(node.type, node.name) for node in _session(model).get_inputs()}
    said = {}

    def rows() -> Any:
        return some_feeds(call.inputs["calibration"], contract, dtypes, SAMPLES)

    for layer, rounded in round_layers(layers, run, rows, call.params["most"], call.progress):
        _put(model, users[layer.name][0], layer, rounded)
        said[layer.name] = {"nearest": rounded.nearest, "loss": rounded.loss}
    onnx.save(model, call.out / "model.onnx")
    return {"layers": said}


def take(model: onnx.ModelProto, rounded: onnx.ModelProto, left: set[str]) -> None:
    """Give a float model the weights and biases of its rounded copy, but those of the nodes in `left`, by name."""
    stored = {tensor.name: tensor for tensor in rounded.graph.initializer}
    kept = {name for node in model.graph.node if node.name in left for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in stored and tensor.name not in kept:
            tensor.CopyFrom(stored[tensor.name])


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """Return the stored weights that nothing but convolutions, or nothing but matrix products, multiply by."""
    import onnx  # noqa: PLC0415 - only in the child

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    users = _users(model)
    found = []
    for name, tensor in stored.items():
        nodes = users.get(name, [])
        if tensor.data_type != tensor.FLOAT or len(tensor.dims) < _MATRIX or not _alike(nodes, name):
            continue
        weights = _by_channel(nodes[0], onnx.numpy_helper.to_array(tensor))
        if weights is None or weights.shape[2] > MOST_INPUTS:
            continue
        bias = nodes[0].input[_BIAS] if len(nodes[0].input) > _BIAS else ""
        biased = len(nodes) == 1 and bias in stored and len(users[bias]) == 1
        reads = tuple((node.input[0], _window(node, tensor.dims[_MATRIX:])) for node in nodes)
        found.append(Layer(name=name, reads=reads, weights=weights, biased=biased))
    return found


def _users(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _alike(nodes: Sequence[onnx.NodeProto], weights: str) -> bool:
    """Say whether nodes are products by the same weights, and count channels along the same axis."""
    kinds = {(node.op_type, _options(node).get("group", 1), _options(node).get("transB", 0)) for node in nodes}
    products = all(node.op_type in {"Conv", "Gemm", "MatMul"} and node.input[_WEIGHT] == weights for node in nodes)
    return len(kinds) == 1 and products


def _by_channel(node: onnx.NodeProto, values: NDArray[np.float32]) -> Floats | None:
    """Return weights as [groups, channels, inputs]; None for what is not a plain product."""
    options = _options(node)
    if node.op_type == "Conv":
        groups = int(options.get("group", 1))
        return values.reshape(groups, values.shape[0] // groups, -1).astype(np.float64)
    if (
        values.ndim != _MATRIX
        or options.get("transA", 0)
        or options.get("alpha", 1) != 1
        or options.get("beta", 1) != 1
    ):
        return None
    return (values if options.get("transB", 0) else values.T)[None].astype(np.float64)


def _window(node: onnx.NodeProto, kernel: Sequence[int]) -> Window | None:
    if node.op_type != "Conv":
        return None
    options, count = _options(node), len(kernel)
    auto = options.get("auto_pad", b"NOTSET")
    ends = options.get("pads", [0] * 2 * count) if auto == b"NOTSET" else [0] * 2 * count
    same = {b"SAME_UPPER": "upper", b"SAME_LOWER": "lower"}.get(auto)
    return Window(
        kernel=tuple(kernel),
        strides=options.get("strides", [1] * count),
        dilations=options.get("dilations", [1] * count),
        pads=same or tuple(zip(ends[:count], ends[count:], strict=True)),
    )


def _put(model: onnx.ModelProto, node: onnx.NodeProto, layer: Layer, rounded: Rounded) -> None:
    """Store what was rounded."""
    import onnx  # noqa: PLC0415 - only in the child

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    tensor = stored[layer.name]
    values = rounded.weights.reshape(-1, rounded.weights.shape[2])
    turned = node.op_type != "Conv" and not _options(node).get("transB", 0)
    shaped = (values.T if turned else values).reshape(list(tensor.dims)).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(shaped), tensor.name))
    if layer.biased:
        bias = stored[node.input[_BIAS]]
        before = onnx.numpy_helper.to_array(bias)
        after = (before + rounded.bias.reshape(before.shape)).astype(np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(after, bias.name))


def _options(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx  # noqa: PLC0415 - only in the child

    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _runner(model: onnx.ModelProto, names: Sequence[str]) -> Run:
    """Return what runs a file and gives some of its tensors by name."""
    import onnx  # noqa: PLC0415 - only in the child

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {each.name for each in (*opened.graph.output, *opened.graph.input)}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    session = _session(opened)
    outputs = [each.name for each in session.get_outputs()]

    def run(row: Tensors) -> Tensors:
        return {**row, **dict(zip(outputs, session.run(None, dict(row)), strict=True))}

    return run


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime  # noqa: PLC0415 - only in the child

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
