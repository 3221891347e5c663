"""The golden set's files: arrays as ``.npy``, written by the converters and read by whoever judges.

Imports numpy; the rest of `edgesdk.bundle` does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Manifest, Parity, Tolerance, Truth
from edgesdk.contract import TensorSpec, tensor
from edgesdk.errors import ReleaseError

MAX_ARRAY_BYTES = 1 << 28
NPY_MEDIA_TYPE = "application/x-npy"
MAX_DIMENSIONS = 32

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(?P<descr><f[248]|[<|][iu][1248]|\|b1)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:\d{1,10},? ?)*)\), \} *\n"
)

Array = NDArray[Any]
Read = Callable[[str], bytes]
Origin = Literal["artifact", "precompiled-source", "simulator"]


@dataclass(frozen=True, slots=True)
class ParityData:
    """Inputs and the outputs that this artifact gives for them, by contract name; shape ``(count, *shape)``."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True)
class TruthData:
    """Labelled examples.

    Attributes:
        inputs: Arrays by contract name, shape ``(count, *shape)``.
        labels: int64 indices into `label_names`, shape ``(count,)``.
        label_names: Names; compare these, never indices.
        correct: Whether the release that brought the examples answers each rightly, bool ``(count,)``, if stored.
    """

    inputs: dict[str, Array]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    correct: NDArray[np.bool_] | None

    def names(self) -> list[str]:
        """Return the label of every example by name."""
        return [self.label_names[index] for index in self.labels.tolist()]


def parity_files(
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    tolerances: Mapping[str, Tolerance],
    *,
    origin: Origin = "artifact",
) -> tuple[Parity, dict[str, bytes]]:
    """Return the record and the files (by bundle path) of a parity part.

    Args:
        inputs: By contract name, shape ``(count, *shape)``, in the app's units.
        outputs: By contract name, shape ``(count, *shape)``: what the artifact answered, dequantized.
        tolerances: By output name.
        origin: What computed `outputs`.

    Raises:
        ReleaseError: ``golden-invalid`` if the arrays do not belong together.
    """
    count = _count({**inputs, **outputs})
    files: dict[str, bytes] = {}
    record = Parity(
        count=count,
        inputs=_store(files, "golden/parity/input", inputs),
        outputs=_store(files, "golden/parity/output", outputs),
        tolerances=dict(tolerances),
        origin=origin,
    )
    if set(tolerances) != set(outputs):
        raise ReleaseError("golden-invalid", f"tolerances are for {sorted(tolerances)}, outputs are {sorted(outputs)}")
    return record, files


def truth_files(
    inputs: Mapping[str, Array],
    labels: Array,
    label_names: Sequence[str],
    *,
    correct: Array | None = None,
) -> tuple[Truth, dict[str, bytes]]:
    """Return the record and the files (by bundle path) of a truth part.

    Args:
        inputs: By contract name, shape ``(count, *shape)``, in the app's units.
        labels: Indices into `label_names`, shape ``(count,)``.
        label_names: The names of the classes.
        correct: Whether this release answers each example rightly, shape ``(count,)``; its mean becomes the score.

    Raises:
        ReleaseError: ``golden-invalid`` if the arrays do not belong together or a label has no name.
    """
    numbers = np.asarray(labels, np.int64)
    flags = None if correct is None else np.asarray(correct, np.bool_)
    count = _count({**inputs, "labels": numbers, **({} if flags is None else {"correct": flags})})
    _check_labels(numbers, len(label_names))
    files: dict[str, bytes] = {}
    record = Truth(
        count=count,
        inputs=_store(files, "golden/truth/input", inputs),
        labels=_store(files, "golden/truth/labels", {"": numbers})[""],
        label_names=tuple(label_names),
        score=None if flags is None else float(flags.mean()),
        correct=None if flags is None else _store(files, "golden/truth/correct", {"": flags})[""],
    )
    return record, files


def load_parity(read: Read, manifest: Manifest) -> ParityData | None:
    """Read the parity part; None when the bundle has none.

    Args:
        read: Returns the contents of a bundle path, for example `Bundle.read`.
        manifest: The bundle's manifest.

    Raises:
        ReleaseError: ``golden-invalid``, and what `read` raises.
    """
    parity = manifest.golden.parity
    if parity is None:
        return None
    contract = manifest.contract
    if set(parity.tolerances) != set(parity.outputs):
        raise ReleaseError("golden-invalid", f"tolerances are for {sorted(parity.tolerances)}, not for the outputs")
    return ParityData(
        _load_all(read, parity.inputs, contract.inputs, parity.count),
        _load_all(read, parity.outputs, contract.outputs, parity.count),
    )


def load_truth(read: Read, manifest: Manifest) -> TruthData | None:
    """Read the truth part; None when the bundle has none. Arguments and errors as `load_parity`."""
    truth = manifest.golden.truth
    if truth is None:
        return None
    inputs = _load_all(read, truth.inputs, manifest.contract.inputs, truth.count)
    labels = _vector(read, truth.labels, truth.count, "iu").astype(np.int64)
    _check_labels(labels, len(truth.label_names))
    correct = None if truth.correct is None else _vector(read, truth.correct, truth.count, "b")
    return TruthData(inputs, labels, truth.label_names, correct)


def write_npy(array: Array) -> bytes:
    """Return `array` as a ``.npy`` file: the same bytes for the same array, with every version of numpy.

    Format 1.0 of numpy's NEP 1: little-endian, C order, the header padded to a multiple of 64 bytes.
    """
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    header = f"{{'descr': '{little.dtype.str}', 'fortran_order': False, 'shape': {np.shape(array)}, }}".encode()
    header += b" " * (-(len(_MAGIC) + 2 + len(header) + 1) % 64) + b"\n"
    return _MAGIC + len(header).to_bytes(2, "little") + header + little.tobytes()


def read_npy(data: bytes, where: str) -> Array:
    """Read a ``.npy`` file as `write_npy` and numpy write it: numbers and booleans only, no larger than `data` itself.

    The header is matched, not evaluated; nothing is ever unpickled.

    Raises:
        ReleaseError: ``golden-invalid``; `where` is named in the message.
    """
    if len(data) > MAX_ARRAY_BYTES:
        raise ReleaseError("golden-invalid", f"{where} has {len(data)} bytes; {MAX_ARRAY_BYTES} is the most")
    start = len(_MAGIC) + 2 + int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 2], "little")
    match = _HEADER.fullmatch(data[len(_MAGIC) + 2 : start])
    if match is None or not data.startswith(_MAGIC):
        message = "is no npy file of format 1.0 with little-endian numbers in row order"
        raise ReleaseError("golden-invalid", f"{where} {message}")
    dtype = np.dtype(match["descr"].decode())
    shape = tuple(int(size) for size in re.findall(rb"\d+", match["shape"]))
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) * dtype.itemsize != len(data) - start:
        message = f"{where} declares {dtype} {list(shape)[:MAX_DIMENSIONS]}"
        raise ReleaseError("golden-invalid", f"{message}, but holds {len(data) - start} bytes")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _store(files: dict[str, bytes], stem: str, arrays: Mapping[str, Array]) -> dict[str, str]:
    """Add the arrays to `files`; contract names may hold what paths may not, so files are numbered."""
    paths = {}
    for number, (name, array) in enumerate(arrays.items()):
        paths[name] = f"{stem}-{number}.npy" if name else f"{stem}.npy"
        files[paths[name]] = write_npy(array)
    return paths


def _count(arrays: Mapping[str, Array]) -> int:
    counts = {len(array) if np.ndim(array) else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise ReleaseError("golden-invalid", f"{sorted(arrays)} hold {sorted(counts)} examples; expected equally many")
    return counts.pop()


def _check_labels(labels: Array, classes: int) -> None:
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        message = f"labels lie within [{labels.min()}, {labels.max()}], but there are {classes} names"
        raise ReleaseError("golden-invalid", message)


def _load_all(read: Read, paths: Mapping[str, str], specs: Sequence[TensorSpec], count: int) -> dict[str, Array]:
    found = {}
    for name, path in paths.items():
        spec = tensor(specs, name)
        if spec is None:
            raise ReleaseError("golden-invalid", f"the golden set names {name!r}, which the contract does not have")
        array = read_npy(read(path), path)
        expected = (count, *spec.shape)
        fits = len(array.shape) == len(expected) and all(
            isinstance(size, str) or size == got for size, got in zip(expected, array.shape, strict=True)
        )
        if not fits:
            raise ReleaseError("golden-invalid", f"{path}: expected shape {list(expected)}, got {list(array.shape)}")
        found[name] = array
    return found


def _vector(read: Read, path: str, count: int, kinds: str) -> Array:
    array = read_npy(read(path), path)
    if array.shape != (count,) or array.dtype.kind not in kinds:
        raise ReleaseError("golden-invalid", f"{path}: expected {count} values, got {array.dtype} {list(array.shape)}")
    return array
