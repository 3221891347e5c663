"""One description of a model for every rule: nodes, tensors, attributes; the same for TFLite and ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ConfigError
from edgesdk_converters.lint.macs import count_macs

GraphFormat = Literal["tflite", "onnx"]


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the numbers of a tensor stand for reals: ``real = scale * (number - zero_point)``.

    Attributes:
        scales: One, or one for each index along `axis`.
        zero_points: As many.
        axis: The quantized dimension; None: one scale for the tensor.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value between nodes, or a constant.

    Attributes:
        name: As in the file.
        dtype: ``int8``, ``float32``, ``bool``, ``int4``, ``string`` …; ``unknown`` where the file does not say.
        shape: Dimensions, None for one that is not fixed; None for an unknown rank.
        quantization: None for a tensor without.
        load: Reads the constant's values, or None where they lie in a file that is not there; None for a value that
            only exists at run time.
        variable: State that lives from call to call.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    quantization: Quantization | None = None
    load: Callable[[], NDArray[Any] | None] | None = None
    variable: bool = False

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.load is not None

    @property
    def values(self) -> NDArray[Any] | None:
        """The constant's values, or None."""
        return None if self.load is None else self.load()

    @property
    def static(self) -> bool:
        """Whether every dimension is fixed."""
        return self.shape is not None and None not in self.shape

    @property
    def dims(self) -> tuple[int, ...]:
        """Dimensions with 1 for each that is not fixed; empty for an unknown rank."""
        return tuple(1 if size is None else size for size in self.shape or ())

    @property
    def elements(self) -> int:
        """How many numbers it holds, counting 1 for a dimension that is not fixed."""
        return math.prod(self.dims)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation.

    Attributes:
        name: Its name, or that of its first output.
        op: ``CONV_2D`` (TFLite) or ``Conv`` (ONNX); a custom operation under its own name.
        inputs: None for one that is left out.
        attributes: Options of TFLite in snake case, attributes of ONNX, as plain values.
        domain: Of an ONNX operator; empty for the default one and for TFLite.
        version: Of a TFLite operator.
        index: Its place in the file.
    """

    name: str
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    version: int = 1
    index: int = 0

    def input(self, index: int) -> Tensor | None:
        """Return an input, or None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def present(self) -> tuple[Tensor, ...]:
        """Inputs that are there."""
        return tuple(tensor for tensor in self.inputs if tensor is not None)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one call; see `macs.count_macs`."""
        return count_macs(self)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model.

    Attributes:
        format: Whose operators the nodes use.
        nodes: In the order of the file; those of subgraphs follow, their names prefixed.
        inputs: What a caller gives.
        outputs: What a caller gets.
        opsets: Of an ONNX file, by domain.
        ir_version: Of an ONNX file.
        assumed: What was assumed in words, where the graph is not the file as it stands.
    """

    format: GraphFormat
    nodes: tuple[Node, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opsets: Mapping[str, int] = field(default_factory=dict)
    ir_version: int | None = None
    assumed: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one call."""
        return sum(node.macs for node in self.nodes)

    def tensors(self) -> Iterator[Tensor]:
        """Give every tensor that a node reads or writes, once."""
        seen: set[int] = set()
        for node in self.nodes:
            for tensor in (*node.present, *node.outputs):
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield tensor

    @property
    def quantized(self) -> bool:
        """Whether the numbers that nodes compute with are integers of 16 bits or fewer, QDQ counted as such."""
        if self.format == "onnx":
            return any(node.op in {"QuantizeLinear", "DequantizeLinear", "QLinearConv"} for node in self.nodes)
        return any(
            tensor.quantization is not None and tensor.dtype in {"int8", "uint8", "int16"} and not tensor.constant
            for tensor in self.tensors()
        )


def read_graph(path: Path) -> Graph:
    """Read a ``.tflite`` or ``.onnx`` file, told apart by content.

    Raises:
        ConfigError: ``file-missing``, or ``model-format`` if it is neither or is damaged.
    """
    if not path.is_file():
        raise ConfigError("file-missing", f"no model file {path}")
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] == b"TFL3":
        from edgesdk_converters.lint.read_tflite import read_tflite as read  # noqa: PLC0415 - heavy
    elif path.suffix == ".onnx":
        from edgesdk_converters.lint.read_onnx import read_onnx as read  # noqa: PLC0415 - heavy
    else:
        raise ConfigError("model-format", f"{path} is neither a TFLite nor an ONNX file")
    return read(path)


def listed(values: Any) -> tuple[int, ...]:
    """Return an array of numbers as a flat tuple of int."""
    return tuple(int(value) for value in np.asarray(values).reshape(-1))
