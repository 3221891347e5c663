"""Float ONNX to float ONNX whose weights lie on an int8 grid already, rounded by what calibration data shows.

Whatever quantizes the file then finds these very numbers. See `rounding` for the method.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk_converters.data import feeds, open_data
from edgesdk_converters.isolation import Call
from edgesdk_converters.passes.observe import onnx_dtype
from edgesdk_converters.passes.rounding import Floats, Rounded, round_layer

if TYPE_CHECKING:
    import onnx

TOOLS = ("onnxruntime", "onnx", "numpy")
SAMPLES = 64
POSITIONS = 256
"""Of one sample that count, drawn once per layer: neighbours say the same."""
JUDGES = 4
"""Every so many samples judge what the others taught."""
MOST_INPUTS = 4608
"""Of one output (512 channels of 3 x 3): larger moments take too much memory, and such weights are rounded as usual."""
MEMORY = 512 << 20
"""Bytes of moments at once: the data is run again for more layers."""
_WEIGHT, _BIAS, _MATRIX = 1, 2, 2


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Weights that are rounded, and who multiplies by them.

    Attributes:
        name: The weights'.
        nodes: Who reads them, one or more of a kind.
        weights: [groups, channels, inputs of each].
        kernel: Of a convolution.
        biased: Whether there is a bias that may change: of one node, and its own.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    weights: Floats
    kernel: tuple[int, ...]
    biased: bool

    @property
    def size(self) -> int:
        """Bytes of its moments, of both kinds of samples."""
        groups, _channels, inputs = self.weights.shape
        return 2 * 8 * groups * (inputs + 1) ** 2


def round_weights(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, input ``source`` with weights rounded on ``calibration``; answer how far.

    Parameters: ``most``, the largest whole number; ``contract``.
    """
    import onnx  # noqa: PLC0415 - only in the child

    model = onnx.load(call.inputs["source"])
    layers = layers_of(model)
    contract = msgspec.convert(call.params["contract"], Contract)
    said = {}
    for number, part in enumerate(parts := list(in_parts(layers))):
        teaching, judging = _moments(model, part, _rows(call.inputs["calibration"], contract, model))
        for done, layer in enumerate(part):
            call.progress(number * len(layers) + done, len(parts) * len(layers))
            moments = teaching[layer.name], judging[layer.name]
            rounded = round_layer(layer.weights, *moments, call.params["most"])
            _put(model, layer, rounded)
            said[layer.nodes[0].name] = {"nearest": rounded.nearest, "loss": rounded.loss}
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
    read: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)
    found = []
    for name, tensor in stored.items():
        nodes = tuple(read.get(name, ()))
        if tensor.data_type != tensor.FLOAT or len(tensor.dims) < _MATRIX or not _alike(nodes, name):
            continue
        weights = _by_channel(nodes[0], onnx.numpy_helper.to_array(tensor))
        if weights is None or weights.shape[2] > MOST_INPUTS:
            continue
        bias = nodes[0].input[_BIAS] if len(nodes[0].input) > _BIAS else ""
        biased = len(nodes) == 1 and bias in stored and len(read[bias]) == 1
        kernel = tuple(tensor.dims[_MATRIX:])
        found.append(Layer(name=name, nodes=nodes, weights=weights, kernel=kernel, biased=biased))
    return found


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


def _put(model: onnx.ModelProto, layer: Layer, rounded: Rounded) -> None:
    """Store what was rounded."""
    import onnx  # noqa: PLC0415 - only in the child

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    node, tensor = layer.nodes[0], stored[layer.name]
    values = rounded.weights.reshape(-1, rounded.weights.shape[2])
    turned = node.op_type != "Conv" and not _options(node).get("transB", 0)
    shaped = (values.T if turned else values).reshape(list(tensor.dims)).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(shaped), tensor.name))
    if layer.biased:
        bias = stored[node.input[_BIAS]]
        before = onnx.numpy_helper.to_array(bias)
        after = (before + rounded.bias.reshape(before.shape)).astype(np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(after, bias.name))


def in_parts(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Yield the layers in parts whose moments fit into `MEMORY`, or that are one layer."""
    part: list[Layer] = []
    for layer in layers:
        if part and sum(each.size for each in part) + layer.size > MEMORY:
            yield part
            part = []
        part.append(layer)
    if part:
        yield part


def _moments(
    model: onnx.ModelProto, layers: Sequence[Layer], rows: Iterator[Mapping[str, NDArray[Any]]]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the sums of products of what each layer reads, of the samples that teach and of those that judge."""
    run = _runner(model, sorted({node.input[0] for layer in layers for node in layer.nodes}))
    sums: tuple[dict[str, Floats], dict[str, Floats]] = ({}, {})
    for at, row in enumerate(rows):
        read = run(row)
        mine = sums[at % JUDGES == JUDGES - 1]
        for layer in layers:
            for node in layer.nodes:
                columns = columns_of(layer, node, read[node.input[0]])
                products = (columns @ columns.transpose(0, 2, 1)).astype(np.float64)
                mine[layer.name] = mine.get(layer.name, 0.0) + products
    teaching, judging = sums
    return teaching, judging or teaching


def columns_of(layer: Layer, node: onnx.NodeProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a node multiplies by the weights, [groups, inputs (+ 1), positions]."""
    found = _windows(layer, node, values) if node.op_type == "Conv" else values.reshape(-1, values.shape[-1]).T[None]
    if found.shape[2] > POSITIONS:
        random = np.random.default_rng(zlib.crc32(node.name.encode()))
        found = found[:, :, np.sort(random.choice(found.shape[2], POSITIONS, replace=False))]
    if layer.biased:
        found = np.concatenate([found, np.ones((len(found), 1, found.shape[2]), found.dtype)], axis=1)
    return np.ascontiguousarray(found)


def _windows(layer: Layer, node: onnx.NodeProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the patches that a convolution sees, [groups, inputs, positions]; `values` are [N, channels, *sizes]."""
    options = _options(node)
    sizes = values.shape[2:]
    strides, dilations = (options.get(name, [1] * len(sizes)) for name in ("strides", "dilations"))
    reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel, dilations, strict=True)]
    seen = np.pad(values, [(0, 0), (0, 0), *_padding(options, sizes, reach, strides)])
    for axis, far in enumerate(reach, start=2):
        seen = np.lib.stride_tricks.sliding_window_view(seen, far, axis=axis)
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    seen = seen[(slice(None), slice(None), *steps)]
    groups, inputs = layer.weights.shape[0], layer.weights.shape[2]
    count = values.shape[0]
    patches = seen.reshape(count, groups, values.shape[1] // groups, -1, int(np.prod(layer.kernel)))
    return np.asarray(patches.transpose(1, 2, 4, 0, 3).reshape(groups, inputs, -1))


def _padding(
    options: Mapping[str, Any], sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return zeros before and after, by dimension."""
    auto = options.get("auto_pad", b"NOTSET")
    if auto in {b"SAME_UPPER", b"SAME_LOWER"}:
        wanted = [
            max(0, (-(-size // step) - 1) * step + far - size)
            for size, far, step in zip(sizes, reach, strides, strict=True)
        ]
        halves = [(each // 2, each - each // 2) for each in wanted]
        return halves if auto == b"SAME_UPPER" else [(after, before) for before, after in halves]
    pads = options.get("pads", [0] * 2 * len(sizes)) if auto == b"NOTSET" else [0] * 2 * len(sizes)
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))


def _options(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx  # noqa: PLC0415 - only in the child

    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _rows(path: Path, contract: Contract, model: onnx.ModelProto) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield up to `SAMPLES` samples, spread evenly, as the file takes them."""
    data = open_data(path, contract, labelled=False)
    wanted = set(np.unique(np.linspace(0, data.count - 1, SAMPLES).astype(np.int64)).tolist())
    session = _session(model)
    dtypes = {node.name: onnx_dtype(node.type, node.name) for node in session.get_inputs()}
    return (row for place, row in enumerate(feeds(data, dtypes)) if place in wanted)


def _runner(model: onnx.ModelProto, names: Sequence[str]) -> Any:
    """Return what runs a file and gives some of its tensors by name."""
    import onnx  # noqa: PLC0415 - only in the child

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {each.name for each in (*opened.graph.output, *opened.graph.input)}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    session = _session(opened)
    outputs = [each.name for each in session.get_outputs()]

    def run(row: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {**row, **dict(zip(outputs, session.run(None, dict(row)), strict=True))}

    return run


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime  # noqa: PLC0415 - only in the child

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
