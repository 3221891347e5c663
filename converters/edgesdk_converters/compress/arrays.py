"""Training data on disk, as the model takes it: memory does not grow with the number of samples. Only for children."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.data.npz import DataSet, feeds, open_data

PREDICTED = 256
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Samples in the order of the model's inputs.

    Attributes:
        inputs: One array per input, mapped from a file, (N, …), normalised.
        targets: int64 [N] for classes, float32 (N, …) for values; None without `y`.
    """

    inputs: list[NDArray[Any]]
    targets: NDArray[Any] | None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs[0])

    def digests(self) -> set[bytes]:
        """Return a digest of every sample."""
        return {
            hashlib.blake2b(b"".join(np.ascontiguousarray(values[row]).tobytes() for values in self.inputs)).digest()
            for row in range(len(self))
        }

    def take(self, rows: NDArray[np.int64] | slice) -> list[NDArray[Any]]:
        """Return the inputs of some samples."""
        return [np.ascontiguousarray(values[rows]) for values in self.inputs]


def contract_of(model: Any, paths: list[Path]) -> Contract:
    """Return a contract for a model without one: it takes what it takes, and `y` in the data says what it answers."""
    classes = False
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            classes = classes or ("y" in arrays.files and arrays["y"].dtype.kind in "iu")
    return Contract(
        version="1.0",
        task="classification" if classes else "regression",
        inputs=tuple(_spec(tensor, "input", place) for place, tensor in enumerate(model.inputs)),
        outputs=tuple(_spec(tensor, "output", place) for place, tensor in enumerate(model.outputs)),
    )


def prepare(path: Path, contract: Contract, model: Any, folder: Path) -> Arrays:
    """Write the samples of an ``.npz`` into `folder` as the model takes them, and map them.

    Raises:
        ConfigError: ``data-invalid`` if the arrays do not fit the contract, or ``contract-mismatch``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = open_data(path, contract, labelled=False)
    names = [tensor.name for tensor in model.inputs]
    order_by_name(contract.inputs, names, what="inputs")
    mapped: list[NDArray[Any]] = []
    for place, feed in enumerate(feeds(data, dict.fromkeys(names, "float32"))):
        for index, (values, tensor) in enumerate(zip(feed.values(), model.inputs, strict=True)):
            if not place:
                _check_shape(path, values.shape, tensor)
                shape = (data.count, *values.shape[1:])
                mapped.append(_mapped(folder / f"{index}.npy", shape, tensor.dtype))
            mapped[index][place] = values[0]
    return Arrays(inputs=mapped, targets=_targets(path, data))


def predict(model: Any, arrays: Arrays, file: Path | None = None) -> Floats:
    """Return a model's first output for every sample, float32 (N, …); mapped from `file` where one is given."""
    import tensorflow as tf  # noqa: PLC0415 - one trace for all batches of a size

    from edgesdk_converters.compress.shrink import packed  # noqa: PLC0415 - see above

    def first(inputs: list[Any]) -> Any:
        return tf.nest.flatten(model(packed(model, inputs), training=False))[0]

    call = tf.function(first, reduce_retracing=True)
    found: Floats | None = None
    for start in range(0, len(arrays), PREDICTED):
        rows = slice(start, start + PREDICTED)
        part = np.asarray(call([tf.constant(each) for each in arrays.take(rows)]))
        if found is None:
            shape = (len(arrays), *part.shape[1:])
            found = np.empty(shape, part.dtype) if file is None else _mapped(file, shape, part.dtype)
        found[rows] = part
    assert found is not None, "there are samples"
    return found


def _mapped(file: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    npy: Any = np.lib.format  # numpy has no types for it
    mapped: NDArray[Any] = npy.open_memmap(file, mode="w+", dtype=np.dtype(dtype), shape=shape)
    return mapped


def _targets(path: Path, data: DataSet) -> NDArray[Any] | None:
    if data.truth is None:
        return None
    if data.contract.task == "classification" and data.labels is None:
        raise ConfigError("data-invalid", f"{path}: training takes one class per sample, and `y` has several")
    return data.truth if data.labels is not None else data.truth.astype(np.float32)


def _check_shape(path: Path, shape: tuple[int, ...], tensor: Any) -> None:
    wanted = tuple(tensor.shape)[1:]
    fits = len(wanted) == len(shape) - 1 and all(a in {None, b} for a, b in zip(wanted, shape[1:], strict=True))
    if not fits:
        raise ConfigError("data-invalid", f"{path}: the model takes samples of shape {wanted}, got {shape[1:]}")


def _spec(tensor: Any, kind: str, place: int) -> TensorSpec:
    sizes = [size or f"size_{axis}" for axis, size in enumerate(tensor.shape[1:])]
    return TensorSpec(name=tensor.name if kind == "input" else f"{kind}_{place}", shape=("batch", *sizes))
