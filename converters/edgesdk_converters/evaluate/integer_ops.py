"""Operators for the emulator of `saturation`: products in pairs, convolutions as matrices, one fast pooling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

INT16_LOW, INT16_HIGH = -32768, 32767
HIGHEST_ACTIVATION = 255

Array = NDArray[Any]
Attributes = Mapping[str, object]


class UnsupportedOperatorError(Exception):
    """The emulator does not know this operator, or this use of it."""


def paired_products(
    rows: NDArray[np.int32], columns: NDArray[np.int32], *, saturate: bool
) -> tuple[NDArray[np.int64], int, int]:
    """Return `rows @ columns`, how many pair sums saturated, and how many there were.

    Args:
        rows: Unsigned activations 0..255, [P, K].
        columns: Signed weights -128..127, [K, M].
        saturate: Clip the sum of products 2j and 2j+1 to 16 bits before it is added, as `vpmaddubsw` does.
    """
    exact = np.rint(rows.astype(np.float64) @ columns.astype(np.float64)).astype(np.int64)
    pairs = len(rows) * -(-rows.shape[1] // 2) * columns.shape[1]
    if not saturate:
        return exact, 0, pairs
    even, odd = columns[0::2], np.zeros_like(columns[0::2])
    odd[: len(columns) // 2] = columns[1::2]
    reach_up = HIGHEST_ACTIVATION * (np.maximum(even, 0) + np.maximum(odd, 0))
    reach_down = HIGHEST_ACTIVATION * (np.minimum(even, 0) + np.minimum(odd, 0))
    saturated = 0
    risky = (reach_up > INT16_HIGH) | (reach_down < INT16_LOW)
    for pair in np.flatnonzero(risky.any(axis=1)):
        # Only pairs of two large weights get here, so the odd row exists.
        chosen = np.flatnonzero(risky[pair])
        sums = np.outer(rows[:, 2 * pair], even[pair, chosen]) + np.outer(rows[:, 2 * pair + 1], odd[pair, chosen])
        excess: NDArray[np.int32] = sums - np.clip(sums, INT16_LOW, INT16_HIGH)
        saturated += int(np.count_nonzero(excess))
        exact[:, chosen] -= excess
    return exact, saturated, pairs


def convolution_operands(
    x: NDArray[np.int32], weight: Array, zero: int, attributes: Attributes
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], bool]]:
    """Yield, for each group, activations [P, K], weights [K, M] and whether the convolution is depthwise.

    K runs over the kernel's positions and, within one, over the channels. Padding holds the zero point.
    """
    geometry = _Geometry.of(x, weight, attributes)
    patches = geometry.patches(x, zero)
    group_inputs, group_outputs = weight.shape[1], weight.shape[0] // geometry.groups
    depthwise = geometry.groups > 1 and group_inputs == 1 and group_outputs == 1
    for group in range(geometry.groups):
        channels = slice(group * group_inputs, (group + 1) * group_inputs)
        filters = weight[group * group_outputs : (group + 1) * group_outputs].reshape(group_outputs, group_inputs, -1)
        columns = filters.transpose(2, 1, 0).reshape(-1, group_outputs).astype(np.int32)
        yield patches[:, :, channels].reshape(len(patches), -1), columns, depthwise


def fold_convolution(flat: NDArray[np.float64], x: Array, weight: Array, attributes: Attributes) -> NDArray[np.float64]:
    """Return results [P, M] of a convolution of `x` in the layout [batch, M, *spatial]."""
    out = _Geometry.of(x, weight, attributes).out
    return np.moveaxis(flat.reshape(len(x), *out, -1), -1, 1)


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    """Sizes of a convolution or pooling over any number of spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, x: Array, weight: Array, attributes: Attributes) -> _Geometry:
        return cls.sized(x.shape[2:], weight.shape[2:], attributes)

    @classmethod
    def sized(cls, size: tuple[int, ...], kernel: tuple[int, ...], attributes: Attributes) -> _Geometry:
        axes = len(size)
        strides = _integers(attributes, "strides", (1,) * axes)
        dilations = _integers(attributes, "dilations", (1,) * axes)
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        before, after = _padding(attributes, size, reach, strides)
        out = tuple(
            (s + b + a - r) // step + 1 for s, b, a, r, step in zip(size, before, after, reach, strides, strict=True)
        )
        groups = _integers(attributes, "group", (1,))[0]
        return cls(
            kernel=kernel, strides=strides, dilations=dilations, before=before, after=after, out=out, groups=groups
        )

    def patches(self, x: Array, fill: float) -> Array:
        """Return [batch * positions, kernel positions, channels]; padding holds `fill`."""
        axes = tuple(range(2, x.ndim))
        padding = [(0, 0), (0, 0), *zip(self.before, self.after, strict=True)]
        padded = np.pad(x, padding, constant_values=fill)
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        # numpy 1.26's types know no tuple of axes, its function does.
        views: Array = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)  # type: ignore[call-overload]
        steps = tuple(slice(None, None, s) for s in self.strides)
        holes = tuple(slice(None, None, d) for d in self.dilations)
        views = views[(slice(None), slice(None), *steps, *holes)]
        batch, channels = x.shape[:2]
        order = np.moveaxis(views, 1, -1)
        return order.reshape(batch * int(np.prod(self.out)), int(np.prod(self.kernel)), channels)


def _padding(
    attributes: Attributes, size: tuple[int, ...], reach: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    axes = len(size)
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto in {b"NOTSET", b""}:
        pads = _integers(attributes, "pads", (0,) * (2 * axes))
        return pads[:axes], pads[axes:]
    if auto == b"VALID":
        return (0,) * axes, (0,) * axes
    totals = [max((-(-s // step) - 1) * step + r - s, 0) for s, r, step in zip(size, reach, strides, strict=True)]
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if auto == b"SAME_UPPER" else (large, small)


def _integers(attributes: Attributes, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(value) for value in np.ravel(np.asarray(attributes.get(name, default))))


@dataclass(frozen=True)
class FloatOperator:
    """A vectorised stand-in for an operator whose reference implementation loops in Python.

    Attributes:
        refuses: Attributes with which the stand-in does not deal.
        apply: Computes the result from the tensors of the node's inputs and its attributes.
    """

    refuses: frozenset[str]
    apply: Callable[[list[Array], Attributes], Array]

    def knows(self, node: onnx.NodeProto) -> bool:
        """Say whether the stand-in can compute this node."""
        return len(node.output) == 1 and not any(
            entry.name in self.refuses and helper.get_attribute_value(entry) for entry in node.attribute
        )

    def __call__(self, node: onnx.NodeProto, values: Mapping[str, Array]) -> Array:
        """Compute the node."""
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        return self.apply([values[name] for name in node.input], attributes)


def _max_pool(tensors: list[Array], attributes: Attributes) -> Array:
    (x,) = tensors
    geometry = _Geometry.sized(x.shape[2:], _integers(attributes, "kernel_shape", ()), attributes)
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    flat = geometry.patches(x, lowest).max(axis=1)
    return np.moveaxis(flat.reshape(len(x), *geometry.out, -1), -1, 1).astype(x.dtype)


FLOAT_OPS: Mapping[str, FloatOperator] = {
    "MaxPool": FloatOperator(refuses=frozenset({"ceil_mode", "storage_order"}), apply=_max_pool),
}


def reference_operator(
    node: onnx.NodeProto, opsets: Mapping[str, int]
) -> Callable[[dict[str, Array]], tuple[Array, ...]]:
    """Return a function that computes `node` by onnx's reference implementation.

    Raises:
        UnsupportedOperatorError: There is none for it.
    """
    try:
        evaluator = ReferenceEvaluator(node, opsets=dict(opsets))
    except Exception as error:
        raise UnsupportedOperatorError(f"operator {node.domain}{node.op_type} is not emulated: {error}") from error

    def run(values: dict[str, Array]) -> tuple[Array, ...]:
        try:
            return tuple(evaluator.run(None, {name: values[name] for name in node.input if name}))
        except Exception as error:
            raise UnsupportedOperatorError(f"operator {node.domain}{node.op_type} failed: {error}") from error

    return run
