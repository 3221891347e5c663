"""Multiply-accumulate operations of a node: convolutions, matrix products and recurrent layers; all else counts 0."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgesdk_converters.lint.tensor import Tensor

RANK_OF_MATRIX = 2
LSTM_GATES, GRU_GATES = 4, 3


class Operation(Protocol):
    """What is counted: a `Node`."""

    @property
    def op(self) -> str:
        """Its kind."""
        ...

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What it makes."""
        ...

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its options."""
        ...

    def input(self, index: int) -> Tensor | None:
        """Return an input."""
        ...


def count_macs(node: Operation) -> int:
    """Return the operations of one call; a dimension that is not fixed counts as 1, an unknown shape as nothing."""
    count = _COUNTERS.get(node.op)
    return count(node) if count is not None and node.outputs else 0


def _conv(node: Operation) -> int:
    """Count ``CONV_2D``: weights (out, height, width, in); ``Conv``: (out, in per group, …)."""
    weights = _dims(node, 1)
    return node.outputs[0].elements * math.prod(weights[1:]) if weights else 0


def _depthwise(node: Operation) -> int:
    """Count ``DEPTHWISE_CONV_2D``: weights (1, height, width, out)."""
    weights = _dims(node, 1)
    return node.outputs[0].elements * math.prod(weights[1:3]) if weights else 0


def _kernel(node: Operation, index: int, cut: slice) -> int:
    """Count a convolution whose weights are input `index`, the dimensions of `cut` for each output element."""
    weights = _dims(node, index)
    return node.outputs[0].elements * math.prod(weights[cut]) if weights else 0


def _transpose_conv(node: Operation) -> int:
    """Count ``TRANSPOSE_CONV``: every input element meets every weight of its channel: (out, height, width, in)."""
    weights, given = _dims(node, 1), node.input(2)
    return given.elements * math.prod(weights[:3]) if weights and given is not None else 0


def _conv_transpose(node: Operation) -> int:
    """Count ``ConvTranspose``: weights (in, out per group, …)."""
    weights, given = _dims(node, 1), node.input(0)
    return given.elements * math.prod(weights[1:]) if weights and given is not None else 0


def _fully_connected(node: Operation) -> int:
    weights = _dims(node, 1)
    return node.outputs[0].elements * weights[-1] if weights else 0


def _matmul(node: Operation) -> int:
    """Count a product of (…, m, k) and (…, k, n); ``adj_x`` and ``transA`` exchange m and k."""
    left = _dims(node, 0)
    if not left:
        return 0
    swapped = node.attributes.get("adj_x") or node.attributes.get("transA")
    inner = left[-2] if swapped and len(left) >= RANK_OF_MATRIX else left[-1]
    return node.outputs[0].elements * inner


def _recurrent(node: Operation, gates: int) -> int:
    """Count ``LSTM`` or ``GRU``: (sequence, batch, input), recurrence (directions, gates * hidden, hidden)."""
    given, recurrence = _dims(node, 0), _dims(node, 2)
    if len(given) < RANK_OF_MATRIX + 1 or len(recurrence) < RANK_OF_MATRIX + 1:
        return 0
    hidden = recurrence[-1]
    return given[0] * given[1] * recurrence[0] * gates * hidden * (given[-1] + hidden)


def _sequence_lstm(node: Operation) -> int:
    """Count ``UNIDIRECTIONAL_SEQUENCE_LSTM``: input (batch, time, features), weights (cells, features)."""
    given, weights = _dims(node, 0), _dims(node, 2)
    if not given or len(weights) < RANK_OF_MATRIX:
        return 0
    return math.prod(given[:-1]) * LSTM_GATES * weights[0] * (given[-1] + weights[0])


def _dims(node: Operation, index: int) -> tuple[int, ...]:
    tensor: Tensor | None = node.input(index)
    return () if tensor is None else tensor.dims


_COUNTERS: dict[str, Callable[[Operation], int]] = {
    "CONV_2D": _conv,
    "CONV_3D": functools.partial(_kernel, index=1, cut=slice(None, -1)),
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence_lstm,
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": functools.partial(_kernel, index=3, cut=slice(1, None)),
    "ConvTranspose": _conv_transpose,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "LSTM": functools.partial(_recurrent, gates=LSTM_GATES),
    "GRU": functools.partial(_recurrent, gates=GRU_GATES),
    "RNN": functools.partial(_recurrent, gates=1),
}
