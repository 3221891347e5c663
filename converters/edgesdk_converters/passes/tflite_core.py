"""The operators of a float TFLite graph as litert-quantizer calls them, and which of them are worth being int8."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

CORE = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED", "BATCH_MATMUL"})
"""Operators whose int8 kernels are what makes an artifact fast."""
MOVERS = frozenset(
    {"RELU", "MAX_POOL_2D", "RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "UNPACK", "SPACE_TO_DEPTH"}
)
"""Operators that only clip or move values: behind one of the core they cost no accuracy, and float would cost time."""
_MATRIX = 2


class Layer(msgspec.Struct, frozen=True):
    """One operator of the main graph.

    Attributes:
        scope: How the tool calls it.
        op: Its kind, as the tool calls it; empty for what the tool does not know.
        inputs: Names of what it reads.
        outputs: Names of what it writes, with the rank of each.
        weight: Buffer in which its constant weight lies, which layers may share; 0 if it has none.
    """

    scope: str
    op: str
    inputs: tuple[str, ...]
    outputs: dict[str, int]
    weight: int = 0

    @property
    def pattern(self) -> str:
        """A regular expression that means this layer alone."""
        return f"^{re.escape(self.scope)}$"


def read_layers(content: bytes) -> list[Layer]:
    """Return the operators of a file in the order in which they run, then the one that stands for its inputs."""
    from litert_quantizer.utils import tfl_flatbuffer_utils as tool  # noqa: PLC0415 - only in the child

    model = tool.read_model(content)
    graph = model.subgraphs[0]
    return list(_layers(model, [*graph.operators, *tool.get_subgraph_input_output_operators(graph)[:1]], tool))


def _layers(model: Any, operators: Sequence[Any], tool: Any) -> Iterator[Layer]:
    tensors = model.subgraphs[0].tensors
    names = [tool.get_tensor_name(tensor) for tensor in tensors]
    for operator in operators:
        inputs = [int(index) for index in (operator.inputs if operator.inputs is not None else ()) if index >= 0]
        codes = model.operatorCodes if inputs else []  # the one for the graph's inputs has none
        kind = tool.TFL_OP_CODE_TO_NAME.get(codes[operator.opcodeIndex].builtinCode) if codes else None
        yield Layer(
            scope=tool.get_op_scope(operator, tensors),
            op=kind.value if kind is not None else "",
            inputs=tuple(names[index] for index in inputs),
            outputs={names[index]: len(tensors[index].shape) for index in operator.outputs},
            weight=next((buffer for index in inputs if (buffer := _weight(model, tensors[index]))), 0),
        )


def _weight(model: Any, tensor: Any) -> int:
    """Return the buffer of a constant of two dimensions or more; 0 if the tensor is none."""
    data = model.buffers[tensor.buffer].data
    return int(tensor.buffer) if data is not None and len(data) and len(tensor.shape) >= _MATRIX else 0


def core(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers of the core, and those that only move or clip what comes from it."""
    found: list[Layer] = []
    inside: set[str] = set()
    for layer in layers:
        if layer.op in CORE or (layer.op in MOVERS and not inside.isdisjoint(layer.inputs)):
            found.append(layer)
            inside |= layer.outputs.keys()
    return found
