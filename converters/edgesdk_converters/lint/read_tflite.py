"""TFLite files as a `Graph`: the flatbuffer is read with the schema that LiteRT brings; nothing is run."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgesdk.errors import ConfigError
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.tensor import Quantization, Tensor

_DTYPES = {number: name.lower() for name, number in vars(schema.TensorType).items() if name.isupper()}
_OPS = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
_CUSTOM = schema.BuiltinOperator.CUSTOM
_NUMPY = {
    "float32": "<f4", "float16": "<f2", "float64": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2",
    "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "?",
}  # fmt: skip
_ENUMS: dict[str, Any] = {
    "padding": schema.Padding,
    "fused_activation_function": schema.ActivationFunctionType,
    "mode": schema.MirrorPadMode,
}


def read_tflite(path: Path) -> Graph:
    """Read a TFLite file.

    Raises:
        ConfigError: ``model-format`` if it is damaged.
    """
    content = path.read_bytes()
    try:
        return _Reader(content).graph()
    except Exception as error:
        # Whatever the generated reader meets in damaged bytes: struct.error, IndexError, UnicodeDecodeError, …
        raise ConfigError("model-format", f"{path} is no whole TFLite file: {error}") from error


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._model = schema.ModelT.InitFromPackedBuf(content, 0)

    def graph(self) -> Graph:
        subgraphs = self._model.subgraphs or []
        if not subgraphs:
            raise ValueError("it holds no graph")
        read = [self._subgraph(subgraph, index) for index, subgraph in enumerate(subgraphs)]
        main, nodes = subgraphs[0], _called([found for _, found in read])
        tensors = read[0][0]
        return Graph(
            format="tflite",
            nodes=tuple(nodes),
            inputs=tuple(tensors[index] for index in _ints(main.inputs)),
            outputs=tuple(tensors[index] for index in _ints(main.outputs)),
        )

    def _subgraph(self, subgraph: Any, number: int) -> tuple[list[Tensor], list[Node]]:
        tensors = [self._tensor(tensor) for tensor in subgraph.tensors or []]
        prefix = f"{_text(subgraph.name) or number}/" if number else ""
        nodes = [
            self._node(operator, tensors, prefix, index) for index, operator in enumerate(subgraph.operators or [])
        ]
        return tensors, nodes

    def _node(self, operator: Any, tensors: list[Tensor], prefix: str, index: int) -> Node:
        code = self._model.operatorCodes[operator.opcodeIndex]
        number = code.builtinCode or code.deprecatedBuiltinCode
        op = _text(code.customCode) or "CUSTOM" if number == _CUSTOM else _OPS.get(number, f"OPERATOR_{number}")
        # An index must exist; -1 stands for an input that is left out.
        inputs = tuple(None if at == -1 else _at(tensors, at) for at in _ints(operator.inputs))
        outputs = tuple(_at(tensors, at) for at in _ints(operator.outputs))
        attributes = _attributes(operator)
        if operator.intermediates is not None:
            attributes["intermediates"] = len(_ints(operator.intermediates))
        name = outputs[0].name if outputs and outputs[0].name else f"{op.lower()}_{index}"
        return Node(
            name=prefix + name,
            op=op,
            inputs=inputs,
            outputs=outputs,
            attributes=attributes,
            version=code.version,
            index=index,
        )

    def _tensor(self, tensor: Any) -> Tensor:
        dtype = _DTYPES.get(tensor.type, "unknown")
        shape, signature = tuple(_ints(tensor.shape)), tuple(_ints(tensor.shapeSignature))
        return Tensor(
            name=_text(tensor.name),
            dtype=dtype,
            shape=tuple(None if size < 0 else size for size in signature or shape),
            quantization=_quantization(tensor.quantization),
            load=self._constant(tensor.buffer, dtype, shape),
            variable=bool(tensor.isVariable),
        )

    def _constant(self, buffer: int, dtype: str, shape: tuple[int, ...]) -> Callable[[], NDArray[Any]] | None:
        entry = _at(self._model.buffers or [], buffer)
        # Weights of files over 2 GB lie behind the flatbuffer.
        if entry.offset and entry.offset > 1:
            raw: Any = memoryview(self._content)[entry.offset : entry.offset + entry.size]
        else:
            raw = entry.data
        if raw is None or len(raw) == 0:
            return None
        return functools.partial(_values, bytes(raw) if isinstance(raw, list) else raw, dtype, shape)


def _called(subgraphs: list[list[Node]]) -> list[Node]:
    """Return the nodes of every subgraph, each with the names of the operators that call it."""
    callers: dict[int, list[str]] = {}
    for node in (node for nodes in subgraphs for node in nodes):
        for number in _calls(node):
            callers.setdefault(number, []).append(node.name)
    return [
        replace(node, callers=tuple(callers.get(number, ())))
        for number, nodes in enumerate(subgraphs)
        for node in nodes
    ]


def _calls(node: Node) -> set[int]:
    """Return the numbers of the subgraphs that an operator calls; 0, the main graph, is what is not set."""
    options = node.attributes
    single = {value for key, value in options.items() if key == "subgraph" or key.endswith("subgraph_index")}
    return (single | set(options.get("branch_subgraph_indices") or ())) - {0}


def _values(raw: Any, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a constant; of types that numpy lacks (int4, strings) the bytes as they are."""
    if dtype not in _NUMPY:
        return np.frombuffer(raw, np.uint8)
    flat = np.frombuffer(raw, _NUMPY[dtype])
    return flat.reshape(shape) if flat.size == np.prod(shape, dtype=np.int64) and shape else flat


def _quantization(given: Any) -> Quantization | None:
    if given is None or given.scale is None or len(given.scale) == 0:
        return None
    scales = tuple(float(scale) for scale in given.scale)
    zero_points = tuple(_ints(given.zeroPoint))
    axis = int(given.quantizedDimension) if len(scales) > 1 else None
    return Quantization(scales=scales, zero_points=zero_points, axis=axis)


def _attributes(operator: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for options in (operator.builtinOptions, getattr(operator, "builtinOptions2", None)):
        for name, value in vars(options).items() if options is not None else ():
            key = re.sub(r"([A-Z])", r"_\1", name).lower()
            attributes[key] = _word(key, value)
    return attributes


def _word(key: str, value: Any) -> Any:
    """Return an option as a plain value, an enumeration's by its name in small letters."""
    if key in _ENUMS:
        names = {number: name.lower() for name, number in vars(_ENUMS[key]).items() if name.isupper()}
        return names.get(value, value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return _text(value) if isinstance(value, bytes) else value


def _at(items: list[Any], index: int) -> Any:
    if not 0 <= index < len(items):
        raise IndexError(f"index {index} of {len(items)}")
    return items[index]


def _ints(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
