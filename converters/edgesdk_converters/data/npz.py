"""Data sets in `.npz` files: opened against a contract, checked, and streamed without holding them in memory.

A file holds one array per input, by the input's name (or `x` where there is one input), each of shape ``(N, *sample)``
in the *app's* units, and for labelled sets `y`: class indices (N,), or (N, K) where a sample has several classes and -1
stands for none, or the classes' names likewise; for regressions numbers, (N,) or of the first output's shape. An array
`labels` names the classes of the indices in `y`; without it they are the contract's.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Binding, Contract, DType, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk.runtime.codec import encoder
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.data.labels import class_indices, unknown_label

BATCH = 64
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A checked view of one file.

    Attributes:
        path: The file.
        count: Number of samples.
        members: Array in the file by contract input.
        truth: What `y` holds: int64 [N] or [N, K], indices into the contract's labels, for classifications; float64
            [N, K] for regressions; as it is for other tasks; None without `y`.
        is_truth: Whether it was opened as a truth set, by which devices judge releases.
    """

    path: Path
    contract: Contract
    count: int
    members: dict[str, str]
    truth: NDArray[Any] | None
    is_truth: bool = False

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each sample, int64 [N]; None without `y`, or where it says something else."""
        if self.truth is None or self.contract.task != "classification" or self.truth.ndim != 1:
            return None
        return self.truth

    def batches(self, size: int = BATCH) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield up to `size` samples at a time, ``{input: (n, *sample)}`` in app units; memory does not grow with N.

        Raises:
            ConfigError: ``data-invalid`` if the file is damaged.
        """
        streams = [_stream(self.path, member, size) for member in self.members.values()]
        for parts in zip(*streams, strict=True):
            yield dict(zip(self.members, parts, strict=True))

    def samples(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield one sample at a time in exactly the contract's shapes."""
        specs = {spec.name: spec for spec in self.contract.inputs}
        for batch in self.batches():
            for i in range(len(next(iter(batch.values())))):
                yield {name: as_call(values[i], specs[name]) for name, values in batch.items()}

    def take(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return chosen samples, ``{input: (len(rows), *sample)}``, in the order of `rows`."""
        wanted, found = set(rows.tolist()), dict[int, dict[str, NDArray[Any]]]()
        for index, sample in enumerate(_rows(self.batches())):
            if index in wanted:
                found[index] = sample
        return {name: np.stack([found[row][name] for row in rows.tolist()]) for name in self.members}


def open_data(path: Path, contract: Contract, *, labelled: bool) -> DataSet:
    """Open a data file and compare its arrays with the contract; values are not read yet.

    Raises:
        ConfigError: ``file-missing`` or ``data-invalid``.
    """
    if not path.is_file():
        raise ConfigError("file-missing", f"no data file {path}")
    headers = _headers(path)
    members = {spec.name: _member(path, headers, spec, alone=len(contract.inputs) == 1) for spec in contract.inputs}
    count = _count(path, {member: headers[member][0][0] for member in members.values()})
    if labelled and (contract.task != "classification" or len(headers.get("y", ((count,),))[0]) != 1):
        message = f"{path}: truth sets hold one class per sample, and this has none: the task is {contract.task}"
        raise ConfigError("data-invalid", message, hint="Leave --truth out: devices judge releases by other means.")
    truth = _truth(path, headers, contract, count) if labelled or "y" in headers else None
    return DataSet(path=path, contract=contract, count=count, members=members, truth=truth, is_truth=labelled)


def check_values(data: DataSet, *, values: bool = True) -> list[bytes]:
    """Read every sample once; return a 16-byte digest of each, for `check_overlap`.

    Args:
        data: The samples.
        values: Whether they are judged too; the calibration doctor says more about those of calibration data.

    Raises:
        ConfigError: ``data-invalid`` naming file, row and array for NaN, infinity or a value outside the contract's
            range, and naming the file if all samples are the same or an input never varies.
    """
    digests: list[bytes] = []
    spans: dict[str, tuple[float, float]] = {}
    for batch in data.batches():
        for name, array in batch.items() if values else ():
            spec = next(spec for spec in data.contract.inputs if spec.name == name)
            _check_batch(data, spec, array, first=len(digests))
            low, high = spans.get(name, (math.inf, -math.inf))
            spans[name] = (min(low, float(array.min())), max(high, float(array.max())))
        digests += [_digest(sample) for sample in _rows(iter([batch]))]
    declared = {spec.name: spec.range for spec in data.contract.inputs}
    constant = sorted(name for name, span in spans.items() if span[0] == span[1] and declared[name] != span)
    if constant:
        value = spans[constant[0]][0]
        hint = f"If it never changes (a sampling rate), say so in the contract: range = [{value:g}, {value:g}]."
        raise ConfigError("data-invalid", f"{data.path}: input {constant[0]!r} is {value} everywhere", hint=hint)
    if values and len(digests) > 1 and len(set(digests)) == 1:
        raise ConfigError("data-invalid", f"{data.path}: all {len(digests)} samples are the same")
    return digests


def check_overlap(calibration: DataSet, its_rows: list[bytes], judging: DataSet, judging_rows: list[bytes]) -> None:
    """Refuse an evaluation or truth set that shares samples with the calibration set: what calibrated must not judge.

    Raises:
        ConfigError: ``data-overlap`` with the number of shared samples and one pair of rows.
    """
    known = {digest: row for row, digest in enumerate(its_rows)}
    shared = [(known[digest], row) for row, digest in enumerate(judging_rows) if digest in known]
    if shared:
        a, b = shared[0]
        role = "truth" if judging.is_truth else "evaluation"
        raise ConfigError(
            "data-overlap",
            f"{len(shared)} samples of the {role} set {judging.path} are also in the calibration set "
            f"{calibration.path} (row {b} is row {a} there)",
            hint=f"Keep the two sets apart: what calibrated a model must not judge it, as the {role} set does.",
        )


def class_names(contract: Contract) -> tuple[str, ...]:
    """Return the labels, or, where the contract names none, the indices of the first output's last axis as names.

    One score alone tells two classes apart.
    """
    last = contract.outputs[0].shape[-1] if contract.outputs[0].shape else 0
    classes = max(2, last) if isinstance(last, int) and last else 0
    return contract.labels or tuple(str(index) for index in range(classes))


def has_batch(spec: TensorSpec) -> bool:
    """Say whether the first dimension of a contract tensor is the batch, of one or of any size."""
    return bool(spec.shape) and (spec.shape[0] == 1 or isinstance(spec.shape[0], str))


def as_call(sample: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Give one stored sample the shape that a call has."""
    return sample[None] if has_batch(spec) else sample


def feeds(data: DataSet, tensors: Mapping[str, DType]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield samples as a *float* artifact takes them, normalised by the runtime's own code.

    Args:
        data: The samples.
        tensors: dtype by name of the artifact's inputs, in its order.
    """
    code = _coder(data.contract, tensors)
    for sample in data.samples():
        yield code(sample)


def some_feeds(
    path: Path, contract: Contract, tensors: Mapping[str, DType], most: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield at most so many samples of a file, spread evenly; see `feeds`."""
    data = open_data(path, contract, labelled=False)
    wanted = set(np.unique(np.linspace(0, data.count - 1, most).astype(np.int64)).tolist())
    return (row for place, row in enumerate(feeds(data, tensors)) if place in wanted)


def encoded(
    contract: Contract, tensors: Mapping[str, DType], sample: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return one sample in the app's units as a *float* artifact takes it; see `feeds`."""
    return _coder(contract, tensors)(sample)


def _coder(
    contract: Contract, tensors: Mapping[str, DType]
) -> Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
    specs = order_by_name(contract.inputs, list(tensors), what="inputs")
    coders = [
        (name, spec.name, encoder(spec, _carried(spec, name, index, dtype)))
        for index, ((name, dtype), spec) in enumerate(zip(tensors.items(), specs, strict=True))
    ]
    return lambda sample: {name: code(sample[tensor]) for name, tensor, code in coders}


def _carried(spec: TensorSpec, name: str, index: int, dtype: DType) -> Binding:
    return Binding(tensor=spec.name, artifact_name=name, index=index, dtype=dtype, shape=spec.shape)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _count(path: Path, counts: dict[str, int]) -> int:
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{count} in {member!r}" for member, count in counts.items())
        raise ConfigError("data-invalid", f"{path}: expected equally many samples in each array, got {each}")
    count = next(iter(counts.values()))
    if not count:
        arrays = " and ".join(map(repr, counts))
        raise ConfigError("data-invalid", f"{path} holds no samples: {arrays} of length 0", hint="Give samples.")
    return count


Header = tuple[tuple[int, ...], bool, "np.dtype[Any]"]


def _headers(path: Path) -> dict[str, Header]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            headers = {}
            for name in names:
                with archive.open(f"{name}.npy") as file:
                    headers[name] = _read_header(file)
            return headers
    except _BROKEN as error:
        raise ConfigError("data-invalid", f"{path} is no readable .npz file: {error}") from error


def _read_header(file: IO[bytes]) -> Header:
    npy: Any = np.lib.format  # numpy has no types for it
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which are never read (names as objects: .astype(str))")
    return shape, fortran, dtype


def _stream(path: Path, member: str, size: int) -> Iterator[NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
            shape, fortran, dtype = _read_header(file)
            row = dtype.itemsize * math.prod(shape[1:])
            if fortran:  # columns first: only a whole read can give rows
                whole = np.frombuffer(file.read(row * shape[0]), dtype).reshape(shape, order="F")
                yield from (whole[start : start + size] for start in range(0, shape[0], size))
                return
            for start in range(0, shape[0], size):
                count = min(size, shape[0] - start)
                yield np.frombuffer(file.read(count * row), dtype).reshape(count, *shape[1:])
    except _BROKEN as error:
        raise ConfigError("data-invalid", f"{path}: array {member!r} cannot be read: {error}") from error


def _rows(batches: Iterator[dict[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
    for batch in batches:
        for i in range(len(next(iter(batch.values())))):
            yield {name: values[i] for name, values in batch.items()}


def _member(path: Path, headers: dict[str, Header], spec: TensorSpec, *, alone: bool) -> str:
    member = spec.name if spec.name in headers else "x" if alone and "x" in headers else None
    if member is None:
        only = ", ".join(headers) or "none"
        hint = f"Name the array {spec.name!r}, as the contract does"
        hint = f"{hint}; `x` will do, as there is one input." if alone else f"{hint}."
        raise ConfigError("data-invalid", f"{path} has no array {spec.name!r}, only {only}", hint=hint)
    shape, _, dtype = headers[member]
    sample = spec.shape[1:] if has_batch(spec) else spec.shape
    fits = len(shape) == 1 + len(sample) and all(
        isinstance(want, str) or want == got for want, got in zip(sample, shape[1:], strict=True)
    )
    if not fits:
        expected = ", ".join(["N", *map(str, sample)])
        raise ConfigError("data-invalid", f"{path}: array {member!r} expected shape ({expected}), got {shape}")
    if dtype.kind not in "fiub":
        raise ConfigError("data-invalid", f"{path}: array {member!r} expected numbers, got {dtype}")
    return member


def _truth(path: Path, headers: dict[str, Header], contract: Contract, count: int) -> NDArray[Any]:
    if contract.task == "classification":
        return _classes(path, headers, contract, count)
    shape, _fortran, dtype = headers["y"]
    if shape[:1] != (count,) or dtype.kind not in "fiub":
        message = f"{path}: expected labels `y`, numbers for {count} samples, got {dtype} of shape {shape}"
        named = "Names of classes need a contract with the task classification." if dtype.kind in "US" else None
        raise ConfigError("data-invalid", message, hint=named)
    values: NDArray[Any] = np.concatenate(list(_stream(path, "y", count)))
    return values if contract.task != "regression" else _numbers(path, values, contract)


def _numbers(path: Path, values: NDArray[Any], contract: Contract) -> NDArray[np.float64]:
    wide = values.reshape(len(values), -1).astype(np.float64)
    output = contract.outputs[0]
    sizes = [size for size in output.shape[1 if has_batch(output) else 0 :] if isinstance(size, int)]
    if wide.shape[1] != math.prod(sizes):
        message = f"{path}: expected {math.prod(sizes)} numbers per sample in `y`, as in {output.name!r}"
        raise ConfigError("data-invalid", f"{message}, got {wide.shape[1]}")
    bad = np.flatnonzero(~np.isfinite(wide).all(axis=1))
    if len(bad):
        raise ConfigError("data-invalid", f"{path}: row {bad[0]} of `y` holds NaN or infinity")
    return wide


def _classes(path: Path, headers: dict[str, Header], contract: Contract, count: int) -> NDArray[np.int64]:
    shape, _fortran, dtype = headers.get("y", ((), False, np.dtype(np.int64)))
    if shape[:1] != (count,) or len(shape) not in {1, 2} or dtype.kind not in "iuUS":
        got = f"{dtype} of shape {shape}" if "y" in headers else "no array `y`"
        message = f"{path}: expected labels `y`, {count} integers or names, one per sample, got {got}"
        hint = "Give class indices in the order of the contract's labels, or their names."
        raise ConfigError("data-invalid", message, hint=hint)
    stored: NDArray[Any] = np.concatenate(list(_stream(path, "y", count)))
    if dtype.kind in "US":
        return _by_name(path, stored.astype(np.str_), contract)
    y = stored.astype(np.int64)
    names = [str(name) for part in _stream(path, "labels", count) for name in part] if "labels" in headers else None
    classes = len(names if names is not None else class_names(contract))
    least = 0 if y.ndim == 1 else -1  # among several classes, -1 stands for none
    wrong = np.argwhere((y < least) | (y >= classes))
    if len(wrong):
        found = f"row {wrong[0][0]} has label {y[tuple(wrong[0])]}"
        known = f"`labels` names {classes} classes" if names is not None else f"the contract has {classes} classes"
        message = f"{path}: {found}, expected {least}..{classes - 1}; `y` runs from {y.min()} to {y.max()}, and {known}"
        raise ConfigError("data-invalid", message, hint="Count classes from 0, in the order of the labels.")
    if names is None:
        return y
    order: NDArray[np.int64] = np.append(_ordered(path, names, contract), -1)[y]
    return order


def _by_name(path: Path, labels: NDArray[np.str_], contract: Contract) -> NDArray[np.int64]:
    """Return the classes of labels by name; among several of a sample, an empty one stands for none."""
    found, inverse = np.unique(labels, return_inverse=True)
    names, distinct = class_names(contract), [str(label) for label in found]
    known = class_indices(distinct, names) | ({"": -1} if labels.ndim > 1 else {})
    classes = np.array([known.get(label, -2) for label in distinct], np.int64)
    indices: NDArray[np.int64] = classes[inverse.reshape(labels.shape)]
    wrong = np.argwhere(indices == -2)  # noqa: PLR2004 - neither a class nor none
    if len(wrong):
        what = f"{path}: row {wrong[0][0]} has label {str(labels[tuple(wrong[0])])!r}"
        raise unknown_label(what, distinct, names, named=bool(contract.labels))
    return indices


def _ordered(path: Path, names: list[str], contract: Contract) -> NDArray[np.int64]:
    classes = class_names(contract)
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise unknown_label(f"{path}: `labels` holds {unknown[0]!r}", names, classes, named=bool(contract.labels))
    return np.array([classes.index(name) for name in names], dtype=np.int64)


def _check_batch(data: DataSet, spec: TensorSpec, values: NDArray[Any], *, first: int) -> None:
    flat = values.reshape(len(values), -1)
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if len(bad):
        raise ConfigError("data-invalid", f"{data.path}: row {first + bad[0]} of {spec.name!r} holds NaN or infinity")
    if spec.range is None:
        return
    low, high = spec.range
    bad = np.flatnonzero(((flat < low) | (flat > high)).any(axis=1))
    if len(bad):
        row = flat[bad[0]].astype(np.float64)
        worst = float(row[np.argmax(np.maximum(low - row, row - high))])
        raise ConfigError(
            "data-invalid",
            f"{data.path}: row {first + bad[0]} of {spec.name!r} expected values in [{low}, {high}], got {worst:.9g}",
            hint="Give data in the app's units, before any normalisation, or correct the contract's range.",
        )


def _digest(sample: dict[str, NDArray[Any]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(sample):
        digest.update(np.ascontiguousarray(sample[name]).tobytes())
    return digest.digest()
