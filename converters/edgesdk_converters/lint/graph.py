"""One description of a model for every rule: nodes, tensors, attributes; the same for TFLite and ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgesdk_converters.lint.macs import count_macs
from edgesdk_converters.lint.tensor import Tensor

GraphFormat = Literal["tflite", "onnx"]


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
        callers: Names of the operators that it is inside of: those that call its subgraph; none in the main graph.
    """

    name: str
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    version: int = 1
    index: int = 0
    callers: tuple[str, ...] = ()

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


def listed(values: Any) -> tuple[int, ...]:
    """Return an array of numbers as a flat tuple of int."""
    return tuple(int(value) for value in np.asarray(values).reshape(-1))
