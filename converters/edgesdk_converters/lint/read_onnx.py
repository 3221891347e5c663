"""ONNX files as a `Graph`: shapes by ONNX's own inference, model-local functions inlined; nothing is run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk.errors import ConfigError
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.tensor import Quantization, Tensor

_DTYPES = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
_NAMES = {"float": "float32", "double": "float64", "undefined": "unknown"}
_NEVER_FOLDED = {
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("If", "Loop", "Scan", "QuantizeLinear"),
}
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
# Shape inference copies the file; larger ones keep their weights beside it anyway.
_MAX_INFERRED_BYTES = 1 << 31


def read_onnx(path: Path, *, change: Callable[[onnx.ModelProto], None] | None = None) -> Graph:
    """Read an ONNX file; weights in files beside it are not needed.

    Args:
        path: The file.
        change: What to do to the model in place, before its sizes are inferred.

    Raises:
        ConfigError: ``model-format`` if it is damaged; what `change` raises.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        if change is not None:
            change(model)
        _check_inputs(model)
        found = _graph(_inferred(model), path.parent)
    except ConfigError:
        raise
    except Exception as error:
        # Protobuf, onnx.checker and numpy raise what they like about damaged bytes.
        raise ConfigError("model-format", f"{path} is no whole ONNX file: {error}") from error
    if not found.nodes and not found.outputs:
        raise ConfigError("model-format", f"{path} is no ONNX file: it holds no graph")
    return found


def _check_inputs(model: onnx.ModelProto) -> None:
    """Refuse an operator that reads less than its kind needs: no rule could be asked of it."""
    version = next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), 0)
    for node in model.graph.node:
        if node.domain in {"", "ai.onnx"} and onnx.defs.has(node.op_type, version):
            least = onnx.defs.get_schema(node.op_type, version).min_input
            if not node.output:
                raise ValueError(f"{node.op_type} {node.name!r} gives nothing")
            if len(node.input) < least:
                raise ValueError(
                    f"{node.op_type} {node.name!r} reads {len(node.input)} values, expected {least} or more"
                )


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if model.ByteSize() >= _MAX_INFERRED_BYTES:
        return model
    # Not strict: an operator of another domain leaves its outputs without a shape.
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _graph(model: onnx.ModelProto, folder: Path) -> Graph:
    reader = _Reader(folder)
    nodes = tuple(reader.nodes(model.graph, {}))
    known = reader.tensors(model.graph, {})
    initialized = {tensor.name for tensor in model.graph.initializer}
    return Graph(
        format="onnx",
        nodes=nodes,
        inputs=tuple(known[value.name] for value in model.graph.input if value.name not in initialized),
        outputs=tuple(known[value.name] for value in model.graph.output if value.name in known),
        opsets={item.domain.replace("ai.onnx", "") if item.domain == "ai.onnx" else item.domain: item.version
                for item in model.opset_import},
        ir_version=model.ir_version,
    )  # fmt: skip


class _Reader:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tensors(self, graph: onnx.GraphProto, outer: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor of a graph by name, those of the graphs around it included."""
        known = dict(outer)
        for value in (*graph.input, *graph.value_info, *graph.output):
            known[value.name] = _value(value)
        for item in graph.initializer:
            known[item.name] = self._constant(item, item.name)
        for node in graph.node:
            if node.op_type == "Constant" and node.output:
                constant = self._from_node(node)
                if constant is not None:
                    known[node.output[0]] = constant
            elif _foldable(node, known):
                given = [known[name] if name else None for name in node.input]
                for index, name in enumerate(node.output):
                    before = _known(known, name)
                    load = functools.partial(_evaluated, node, given, index)
                    known[name] = dataclasses.replace(before, load=load)
        _quantizations(graph, known)
        return known

    def nodes(self, graph: onnx.GraphProto, outer: Mapping[str, Tensor], caller: str = "") -> Iterator[Node]:
        """Give the nodes of a graph, then those of the graphs within."""
        prefix = f"{caller}/" if caller else ""
        known = self.tensors(graph, outer)
        inner: list[tuple[str, onnx.GraphProto]] = []
        for index, node in enumerate(graph.node):
            # Every compiler computes beforehand what hangs on constants only.
            if node.op_type != "DequantizeLinear" and _foldable(node, known):
                continue
            name = prefix + (node.name or next(iter(node.output), "") or f"{node.op_type}_{index}")
            inner += [(name, each) for each in _graphs(node.attribute)]
            yield Node(
                name=name,
                op=node.op_type,
                inputs=tuple(_known(known, given) if given else None for given in node.input),
                outputs=tuple(_known(known, made) for made in node.output if made),
                attributes={item.name: _plain(item) for item in node.attribute if item.type not in _SUBGRAPHS},
                domain="" if node.domain == "ai.onnx" else node.domain,
                index=index,
                callers=(caller,) if caller else (),
            )
        for name, each in inner:
            yield from self.nodes(each, known, name)

    def _constant(self, item: onnx.TensorProto, name: str) -> Tensor:
        return Tensor(
            name=name,
            dtype=_dtype(item.data_type),
            shape=tuple(item.dims),
            load=functools.partial(_array, item, str(self._folder)),
        )

    def _from_node(self, node: onnx.NodeProto) -> Tensor | None:
        for item in node.attribute:
            if item.name == "value":
                return self._constant(item.t, node.output[0])
            if item.name.startswith("value_"):
                array = np.asarray(onnx.helper.get_attribute_value(item))
                if array.dtype.kind in "fi":
                    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
                    return self._constant(numpy_helper.from_array(array), node.output[0])
        return None


def _foldable(node: onnx.NodeProto, known: Mapping[str, Tensor]) -> bool:
    given = [name for name in node.input if name]
    fixed = bool(given) and all(name in known and known[name].constant for name in given)
    return fixed and node.op_type not in _NEVER_FOLDED and not any(item.type in _SUBGRAPHS for item in node.attribute)


def _evaluated(node: onnx.NodeProto, given: list[Tensor | None], index: int) -> NDArray[Any] | None:
    """Compute a node of constants with ONNX's reference; None where that cannot be done."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - rarely needed, and heavy

    feeds = {tensor.name: tensor.values for tensor in given if tensor is not None}
    if any(values is None for values in feeds.values()):
        return None
    with contextlib.suppress(Exception):  # it has no operators of other domains, and not all options of ONNX's own
        return np.asarray(ReferenceEvaluator(node).run(None, feeds)[index])
    return None


def _quantizations(graph: onnx.GraphProto, known: dict[str, Tensor]) -> None:
    """Mark what QuantizeLinear writes and DequantizeLinear reads with its scale and zero point."""
    for node in graph.node:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"} or len(node.input) < 2:  # noqa: PLR2004
            continue
        name = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        scale = known.get(node.input[1])
        point = known.get(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004
        if name not in known or scale is None or scale.values is None:
            continue
        scales = tuple(float(value) for value in np.asarray(scale.values, np.float64).reshape(-1))
        values = point.values if point is not None else None
        points = tuple(int(value) for value in np.asarray(values).reshape(-1)) if values is not None else (0,)
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        before = known[name]
        known[name] = Tensor(
            name=name,
            dtype=before.dtype,
            shape=before.shape,
            quantization=Quantization(scales=scales, zero_points=points, axis=axis if len(scales) > 1 else None),
            load=before.load,
        )


def _known(known: dict[str, Tensor], name: str) -> Tensor:
    return known.setdefault(name, Tensor(name=name, dtype="unknown", shape=None))


def _value(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type if value.type.HasField("tensor_type") else None
    if kind is None:
        return Tensor(name=value.name, dtype=value.type.WhichOneof("value") or "unknown", shape=None)
    shape = None
    if kind.HasField("shape"):
        sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
        shape = tuple(size if size is not None and size >= 0 else None for size in sizes)
    return Tensor(name=value.name, dtype=_dtype(kind.elem_type), shape=shape)


def _dtype(number: int) -> str:
    name = _DTYPES.get(number, "unknown")
    return str(_NAMES.get(name, name))


def _array(item: onnx.TensorProto, folder: str) -> NDArray[Any] | None:
    """Return a constant; None if its file is not there."""
    try:
        return np.asarray(numpy_helper.to_array(item, folder))
    except (OSError, ValueError, onnx.checker.ValidationError):
        return None


def _graphs(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.GraphProto]:
    for item in attributes:
        if item.type == onnx.AttributeProto.GRAPH:
            yield item.g
        yield from item.graphs


def _plain(item: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if item.type in {onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS}:
        return list(value)
    return (
        [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in value]
        if isinstance(value, list)
        else value
    )
