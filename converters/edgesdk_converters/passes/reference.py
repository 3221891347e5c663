"""The reference quantizer: symmetric integers of any width, in numpy, as the formula says it.

    S = max(|max / (2^(n-1) - 1)|, |min / 2^(n-1)|)        Q = round(x / S)

The whole range of the type is used: the largest value meets the largest integer or the smallest value the smallest one,
whichever needs the wider step, and zero is zero. Halves are rounded to even, as IEEE 754 and ONNX do.

Where exporters do otherwise is said in `docs/converting.md` and held by tests: TFLite's int8 weights and int16
activations leave out the smallest integer (``S = max|x| / (2^(n-1) - 1)``), which is the same unless the smallest value
decides; onnxruntime's symmetric weights use ``S = 2 max|x| / (2^n - 2)``, the same again; its asymmetric activations
move the zero point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgesdk.errors import ConfigError

MIN_BITS = 2
MAX_BITS = 16


def scale_of(values: ArrayLike, bits: int, *, axis: int | None = None) -> NDArray[np.float64]:
    """Return S of values.

    Args:
        values: Finite numbers of any shape, at least one.
        bits: Width n of the integers, 2 to 16.
        axis: The channel axis for a scale per channel, which then is of shape ``(…, channels, …)`` with ones around it;
            None: one scale.

    Raises:
        ConfigError: ``argument-invalid`` for another width, or values that are not finite.
    """
    array = _checked(values, bits)
    axes = None if axis is None else tuple(other for other in range(array.ndim) if other != axis % array.ndim)
    high = array.max(axis=axes, keepdims=axis is not None)
    low = array.min(axis=axes, keepdims=axis is not None)
    top = 2 ** (bits - 1)
    scale: NDArray[np.float64] = np.maximum(np.abs(high / (top - 1)), np.abs(low / top))
    return np.where(scale == 0, 1.0, scale)


def quantize(values: ArrayLike, bits: int, *, axis: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return Q and S of values; see `scale_of`. ``Q * S`` is within ``S / 2`` of each value.

    Raises:
        ConfigError: ``argument-invalid``.
    """
    scale = scale_of(values, bits, axis=axis)
    return quantize_with(values, scale, bits), scale


def quantize_with(values: ArrayLike, scale: ArrayLike, bits: int) -> NDArray[np.int64]:
    """Return Q of values by a scale that is given; what lies beyond the type is cut off.

    Raises:
        ConfigError: ``argument-invalid``.
    """
    top = 2 ** (bits - 1)
    rounded: NDArray[np.float64] = np.rint(_checked(values, bits) / np.asarray(scale, np.float64))
    return np.clip(rounded, -top, top - 1).astype(np.int64)


def dequantize(quantized: NDArray[Any], scale: ArrayLike) -> NDArray[np.float64]:
    """Return the values that integers stand for."""
    values: NDArray[np.float64] = quantized.astype(np.float64) * np.asarray(scale, np.float64)
    return values


def _checked(values: ArrayLike, bits: int) -> NDArray[np.float64]:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError("argument-invalid", f"bits: expected {MIN_BITS} to {MAX_BITS}, got {bits}")
    array = np.asarray(values, np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ConfigError("argument-invalid", "the reference quantizer takes finite values, at least one")
    return array
