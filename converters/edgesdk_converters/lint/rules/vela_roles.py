"""What Vela takes the tensors of a TFLite operator for: feature maps, weights, biases, parameters or state.

Learned from Vela 5.2 (`--supported-ops-report` and its behaviour); an input beyond the table is a feature map.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgesdk_converters.lint.graph import Node
from edgesdk_converters.lint.tensor import Tensor

_FILTER = ("feature", "weights", "bias")
_AXIS = ("feature", "parameter")
_TWO = ("feature", "parameter", "parameter")
_LSTM = ("feature", *["weights"] * 11, *["bias"] * 4, "weights", "bias", "state", "state", *["bias"] * 4)
_ROLES: dict[str, tuple[str, ...]] = {
    "CONV_2D": _FILTER,
    "DEPTHWISE_CONV_2D": _FILTER,
    "FULLY_CONNECTED": _FILTER,
    "TRANSPOSE_CONV": ("parameter", "weights", "feature", "bias"),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "SPLIT": ("parameter", "feature"),
    "SPLIT_V": _TWO,
    "PADV2": _TWO,
    "SLICE": _TWO,
    "SPACE_TO_BATCH_ND": _TWO,
    "BATCH_TO_SPACE_ND": _TWO,
    "STRIDED_SLICE": ("feature", "parameter", "parameter", "parameter"),
    "SCATTER_ND": ("feature", "feature", "parameter"),
    "ASSIGN_VARIABLE": ("parameter", "feature"),
    "READ_VARIABLE": ("parameter",),
    **dict.fromkeys(
        (
            *("ARG_MAX", "ARG_MIN", "MEAN", "MIRROR_PAD", "PAD", "PRELU", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX"),
            *("REDUCE_MIN", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SUM", "TILE"),
            "TRANSPOSE",
        ),
        _AXIS,
    ),
}


def roles(node: Node) -> Iterator[tuple[str, Tensor]]:
    """Give every input that is there, and every output, with its role."""
    table = _ROLES.get(node.op, ("feature",))
    for index, tensor in enumerate(node.inputs):
        if tensor is not None:
            yield (table[index] if index < len(table) else "feature"), tensor
    for tensor in node.outputs:
        yield "feature", tensor


def features(node: Node) -> list[Tensor]:
    """Return feature maps, read and written."""
    return [tensor for role, tensor in roles(node) if role == "feature"]


def role(node: Node, wanted: str, place: int = 0) -> Tensor | None:
    """Return the input of that role: the first, or the one at `place` among them."""
    inputs = len(node.present)
    found = [tensor for index, (name, tensor) in enumerate(roles(node)) if name == wanted and index < inputs]
    return found[place] if place < len(found) else None


def seen(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape as Vela sees it: a constant scalar has one element, an open batch is 1."""
    if not tensor.dims and tensor.constant:
        values = tensor.values
        return (1,) if values is None else (values.size,)
    return tensor.dims


def padded(shape: tuple[int, ...], fill: int = 1) -> tuple[int, ...]:
    """Return a shape with at least four dimensions."""
    return (fill,) * max(0, 4 - len(shape)) + shape
