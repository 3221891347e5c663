"""Between an app's arrays and an artifact's: contract checks, normalisation, quantization. Pure functions on numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgesdk.bundle.decode import channel_axis
from edgesdk.contract import Binding, TensorSpec
from edgesdk.errors import ContractError

Array = NDArray[Any]
Coder = Callable[[Array], Array]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return numpy's dtype of a contract's dtype (``string`` is `object`)."""
    return np.dtype(object if name == "string" else name)


def check_input(spec: TensorSpec, value: ArrayLike, symbols: dict[str, int]) -> Array:
    """Check one input and return it as an array of the contract's dtype.

    Args:
        spec: What the contract says.
        value: What the app passed.
        symbols: Sizes of symbolic dimensions seen so far in this call; new ones are added.

    Raises:
        ContractError: ``input-shape``, ``input-dtype``, ``input-nan`` or ``input-range``; the message names the tensor.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ContractError("input-shape", f"input {spec.name!r} is no array: {error}") from error
    _check_shape(spec, array.shape, symbols)
    array = _to_dtype(spec, array)
    if array.size and array.dtype.kind in "fiu":
        _check_values(spec, array)
    return array


def encoder(spec: TensorSpec | None, binding: Binding) -> Coder:
    """Return the way of one tensor into the artifact: normalise (contract inputs only), quantize, cast."""
    steps: list[Coder] = []
    if spec is not None and spec.normalisation is not None:
        steps.append(_normaliser(spec))
    if binding.scale is not None:
        steps.append(_quantizer(binding))
    dtype = numpy_dtype(binding.dtype)
    return _chain([*steps, lambda array: np.asarray(array, dtype, order="C")])


def decoder(spec: TensorSpec | None, binding: Binding) -> Coder:
    """Return the way of one tensor out of the artifact: dequantize, cast to the contract's dtype (else float32)."""
    if binding.scale is not None:
        scale, zero_point = np.float32(binding.scale), np.float32(binding.zero_point or 0)
        return lambda array: (array.astype(np.float32) - zero_point) * scale
    if spec is None:
        return lambda array: array
    dtype = numpy_dtype(spec.dtype)
    return lambda array: array.astype(dtype, copy=False)


def zeros(spec: TensorSpec, symbols: dict[str, int]) -> Array:
    """Return the reset value of a state tensor; symbols without a size are 1."""
    shape = [symbols.get(size, 1) if isinstance(size, str) else size for size in spec.shape]
    return np.zeros(shape, numpy_dtype(spec.dtype))


def not_finite(outputs: dict[str, Array]) -> list[str]:
    """Return the names of outputs that hold NaN or infinity."""
    return [name for name, array in outputs.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def _check_shape(spec: TensorSpec, shape: tuple[int, ...], symbols: dict[str, int]) -> None:
    fits = len(shape) == len(spec.shape)
    for expected, size in zip(spec.shape, shape, strict=False):
        wanted = symbols.setdefault(expected, size) if isinstance(expected, str) else expected
        fits = fits and wanted == size
    if not fits:
        expected_text = ", ".join(_dimension(size, symbols) for size in spec.shape)
        raise ContractError("input-shape", f"input {spec.name!r}: expected shape [{expected_text}], got {list(shape)}")


def _dimension(size: int | str, symbols: dict[str, int]) -> str:
    return f"{size}={symbols[size]}" if isinstance(size, str) and size in symbols else str(size)


def _to_dtype(spec: TensorSpec, array: Array) -> Array:
    wanted = numpy_dtype(spec.dtype)
    if array.dtype == wanted:
        return array
    if spec.dtype == "string" and array.dtype.kind in "US":
        return array.astype(object)
    if wanted.kind in "iu" and array.dtype.kind in "iu":  # a Python list of integers is int64
        limits = np.iinfo(wanted)
        fits = not array.size or bool(array.min() >= limits.min and array.max() <= limits.max)
    else:
        fits = wanted.kind != "O" and np.can_cast(array.dtype, wanted, "same_kind")
    if not fits:
        message = f"input {spec.name!r}: expected dtype {spec.dtype}, got {array.dtype} that does not fit it"
        raise ContractError("input-dtype", message)
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is refused as such
        return array.astype(wanted)


def _check_values(spec: TensorSpec, array: Array) -> None:
    low, high = array.min(), array.max()  # NaN wins both
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        raise ContractError("input-nan", f"input {spec.name!r}: {bad} of {array.size} values are NaN or infinite")
    if spec.range is not None and not (spec.range[0] <= low and high <= spec.range[1]):
        message = f"input {spec.name!r}: expected values within {list(spec.range)}, got [{low:.6g}, {high:.6g}]"
        raise ContractError("input-range", message)


def _normaliser(spec: TensorSpec) -> Coder:
    assert spec.normalisation is not None
    shape = [1] * len(spec.shape)
    if shape:
        shape[channel_axis(spec)] = len(spec.normalisation.mean)
    mean = np.asarray(spec.normalisation.mean, np.float32).reshape(shape)
    std = np.asarray(spec.normalisation.std, np.float32).reshape(shape)
    return lambda array: (array.astype(np.float32, copy=False) - mean) / std


def _quantizer(binding: Binding) -> Coder:
    """``clip(round_half_even(x / scale) + zero_point)``, as ONNX QuantizeLinear defines it."""
    limits = np.iinfo(binding.dtype)
    scale, zero_point = np.float32(binding.scale or 1.0), np.float32(binding.zero_point or 0)
    return lambda array: np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max)


def _chain(steps: list[Coder]) -> Coder:
    if len(steps) == 1:
        return steps[0]

    def run(array: Array) -> Array:
        for step in steps:
            array = step(array)
        return array

    return run
