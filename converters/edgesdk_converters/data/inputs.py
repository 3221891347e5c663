"""Data that is no `.npz` yet: `.npy`, CSV, Parquet, a folder of pictures, a Python iterator; made one, row by row.

What is written is what the app would pass: nothing is resized, scaled or normalised here. Files are read once and kept
by name, size and time; a Python function is called every time. The same rows give the same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk.runtime.codec import numpy_dtype
from edgesdk_converters.data.functions import file_of, load_function, reported
from edgesdk_converters.data.labels import class_indices, listed, unknown_label
from edgesdk_converters.data.npz import class_names, has_batch
from edgesdk_converters.data.tables import Label, Row, place, read_csv, read_parquet

PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}
NAMED = 4
"""Files of a folder that a message names at most."""
TABLES = {".csv": read_csv, ".parquet": read_parquet}
FILES = {".npz", ".npy", *TABLES}


def as_npz(given: Path, contract: Contract, folder: Path) -> Path:
    """Return an `.npz` with the data of `given`, made in `folder` where it is none already.

    Args:
        given: ``.npz``, ``.npy``, ``.csv``, ``.parquet``, a folder of pictures (one folder per class, or unlabelled),
            or ``module:function``, which returns an iterable of arrays, ``(array, label)`` or ``(dict, label)``.
        contract: Shapes, dtypes, labels.
        folder: Where made files are kept.

    Raises:
        ConfigError: ``file-missing``, ``data-invalid`` or ``dependency-missing``.
    """
    if given.suffix == ".npz":
        return given
    rows: Iterator[Row]
    if given.is_dir():
        rows = _pictures(_labelled_pictures(given, contract), _only_input(given, contract))
    elif given.is_file() and given.suffix in TABLES:
        spec = _only_input(given, contract)
        rows = TABLES[given.suffix](given, spec, _shape(spec))
    elif given.is_file() and given.suffix == ".npy":
        rows = _array(given, _only_input(given, contract))
    elif ":" in given.name and not given.exists():
        rows = _iterated(str(given), contract)
    elif given.exists():
        known = ".npz, .npy, .csv, .parquet, a folder of pictures, or module:function"
        raise ConfigError("data-invalid", f"{given} is data of no known kind", hint=f"Give {known}.")
    else:
        raise ConfigError("file-missing", f"no data file {given}")
    return _write(given, rows, contract, folder)


def _only_input(given: Path, contract: Contract) -> TensorSpec:
    if len(contract.inputs) != 1:
        raise ConfigError("data-invalid", f"{given} can feed one input, and the contract has {len(contract.inputs)}")
    return contract.inputs[0]


def _array(path: Path, spec: TensorSpec) -> Iterator[Row]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError("data-invalid", f"{path} is no readable .npy file: {error}") from error
    for sample in array:
        yield {spec.name: sample}, None


def _labelled_pictures(folder: Path, contract: Contract) -> list[tuple[Path, str | None]]:
    """Return the pictures of a folder with their classes, the names of the folders in it; None where there are none.

    Names that the contract does not know are refused before any picture is read.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files: list[tuple[Path, str | None]] = [(file, entry.name) for entry in classes for file in _picture_files(entry)]
    files = files or [(file, None) for file in _picture_files(folder)]
    if not files:
        others = sorted(str(file) for file in folder.iterdir() if file.suffix in FILES)
        hint = f"Give a folder of {', '.join(sorted(PICTURES))} files, or of one such folder per class."
        hint = f"Give a file in it: {', '.join(others[:NAMED])}." if others else hint
        raise ConfigError("data-invalid", f"{folder} holds no pictures", hint=hint)
    labels = list(dict.fromkeys(label for _file, label in files if label is not None))
    if contract.task == "classification" and labels:
        names = class_names(contract)
        known = class_indices(labels, names)
        unknown = [label for label in labels if label not in known]
        if unknown:
            what = f"{folder}: a folder is called {unknown[0]!r}"
            raise unknown_label(what, labels, names, named=bool(contract.labels))
    return files


def _pictures(files: list[tuple[Path, str | None]], spec: TensorSpec) -> Iterator[Row]:
    try:
        from PIL import Image  # noqa: PLC0415 - optional
    except ImportError as error:
        message = f"reading pictures needs Pillow, and it cannot be imported: {error}"
        hint = "Install edgesdk-converters[pictures] (from a clone: pip install './converters[pictures]'), or pillow."
        raise ConfigError("dependency-missing", message, hint=hint) from None
    for file, label in files:
        try:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("L" if spec.colour == "GRAY" else "RGB"))
        except OSError as error:
            raise ConfigError("data-invalid", f"{file} is no readable picture: {error}") from error
        yield {spec.name: _placed(file, pixels, spec)}, label


def _picture_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)


def _placed(file: Path, pixels: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Give a picture [H, W] or [H, W, 3] the contract's colour order and layout; its size must fit already."""
    shape, letters = _shape(spec), (spec.layout or "NHWC").removeprefix("N")
    pixels = pixels[..., ::-1] if spec.colour == "BGR" else pixels
    if pixels.ndim == 2 and len(shape) == 3:  # noqa: PLR2004 - grey, with an axis for its one channel
        pixels = pixels[..., None]
    if letters == "CHW":
        pixels = pixels.transpose(2, 0, 1)
    if pixels.shape != shape:
        message = f"{file}: expected a picture of shape {shape}, got {pixels.shape}"
        raise ConfigError("data-invalid", message, hint="Resize pictures as the app does; we do not guess how.")
    return pixels


def _iterated(given: str, contract: Contract) -> Iterator[Row]:
    function = load_function(given, "data")
    with reported(given, "data", file_of(function)):
        for item in function():
            inputs, label = item if isinstance(item, tuple) else (item, None)
            if not isinstance(inputs, Mapping):
                inputs = {_only_input(Path(given), contract).name: np.asarray(inputs)}
            yield inputs, label


def _write(given: Path, rows: Iterator[Row], contract: Contract, folder: Path) -> Path:
    made = folder / _stamp(given, contract) / f"{given.stem or given.name}.npz"
    if made.exists() and given.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
        partial = Path(scratch) / "data.npz"
        _pack(given, rows, contract, partial)
        partial.replace(made)
    return made


def _stamp(given: Path, contract: Contract) -> str:
    files = [given, *sorted(given.rglob("*"))] if given.is_dir() else [given]
    states = [(str(file), *_state(file)) for file in files]
    meant = (contract.inputs, contract.labels, contract.task)
    return hashlib.sha256(repr((states, *meant)).encode()).hexdigest()[:24]


def _state(file: Path) -> tuple[int, int]:
    if not file.exists():
        return 0, 0
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _pack(given: Path, rows: Iterator[Row], contract: Contract, path: Path) -> None:
    """Write rows as they come; only labels are held in memory."""
    count, labels = 0, list[Label]()
    names = [spec.name for spec in contract.inputs]
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        parts = [Path(scratch) / str(index) for index in range(len(names))]
        files = [part.open("wb") for part in parts]
        try:
            for inputs, label in rows:
                for spec, file in zip(contract.inputs, files, strict=True):
                    file.write(_sample(given, count, inputs, spec).tobytes())
                labels.append(label)
                count += 1
        finally:
            for file in files:
                file.close()
        if not count:
            raise ConfigError("data-invalid", f"{given} holds no samples", hint="Give samples.")
        with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
            for spec, part in zip(contract.inputs, parts, strict=True):
                _member(archive, spec.name, (count, *_shape(spec)), numpy_dtype(spec.dtype), part.open("rb"))
            if any(label is not None for label in labels):
                y = _labels(given, labels, contract)
                with tempfile.TemporaryFile(dir=scratch) as column:
                    column.write(y.tobytes())
                    column.seek(0)
                    _member(archive, "y", y.shape, y.dtype, column)


def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], raw: Any) -> None:
    npy: Any = np.lib.format  # numpy has no types for it
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with raw, archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, header)
        shutil.copyfileobj(raw, member)


def _sample(given: Path, row: int, inputs: Mapping[str, Any], spec: TensorSpec) -> NDArray[Any]:
    if spec.name not in inputs:
        raise ConfigError("data-invalid", f"{given}: row {row} has no input {spec.name!r}, only {', '.join(inputs)}")
    value = np.asarray(inputs[spec.name])
    if value.dtype.kind not in "fiub" or spec.dtype == "string":
        raise ConfigError("data-invalid", f"{given}: row {row} of {spec.name!r}: expected numbers, got {value.dtype}")
    shape = _shape(spec)
    value = value[0] if value.shape == (1, *shape) else value
    if value.shape != shape:
        message = f"{given}: row {row} of {spec.name!r}: expected shape {shape}, got {value.shape}"
        raise ConfigError("data-invalid", message)
    stored: NDArray[Any] = np.ascontiguousarray(value, numpy_dtype(spec.dtype))
    if stored.dtype.kind in "iu" and not np.array_equal(stored, value):
        message = f"{given}: {place(given, row)} of {spec.name!r} holds values that are no {spec.dtype}"
        raise ConfigError("data-invalid", message)
    return stored


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    sizes = spec.shape[1:] if has_batch(spec) else spec.shape
    if any(isinstance(size, str) for size in sizes):
        raise ConfigError("data-invalid", f"input {spec.name!r} has sizes that vary: give an .npz")
    return tuple(size for size in sizes if isinstance(size, int))


def _labels(given: Path, labels: list[Label], contract: Contract) -> NDArray[Any]:
    """Return `y`: class indices for classifications, one row of them where a label is several; else numbers."""
    if contract.task != "classification":
        return _numbers(given, labels)
    several = any(isinstance(label, list | np.ndarray) and np.ndim(label) for label in labels)
    rows = [np.ravel(np.asarray(label, object)).tolist() for label in labels]
    _check_labels(given, rows, contract)
    found = class_indices({str(label) for row in rows for label in row}, class_names(contract))
    classes = [[found[str(label)] for label in row] for row in rows]
    longest = max(map(len, classes)) if several else 1
    y = np.array([row + [-1] * (longest - len(row)) for row in classes], np.int64)
    return y if several else y.reshape(-1)


def _check_labels(given: Path, rows: Sequence[Sequence[Any]], contract: Contract) -> None:
    """Refuse labels that are no class of the contract, with the first row that has one."""
    names = class_names(contract)
    every = sorted({str(label) for row in rows for label in row if label is not None})
    known = class_indices(every, names)
    for number, row in enumerate(rows):
        for label in row:
            if label is None:
                message = f"{given}: {place(given, number)} has label None, expected one of {listed(names)}"
                raise ConfigError("data-invalid", message, hint="Label every sample, or none.")
            if str(label) not in known:
                what = f"{given}: {place(given, number)} has label {str(label)!r}"
                raise unknown_label(what, every, names, named=bool(contract.labels))


def _numbers(given: Path, labels: list[Label]) -> NDArray[np.float64]:
    found = []
    for row, label in enumerate(labels):
        try:
            found.append(np.ravel(np.asarray(label, np.float64)))
        except (TypeError, ValueError):
            found.append(np.array([np.nan]))
        if not np.isfinite(found[-1]).all() or found[-1].shape != found[0].shape:
            expected = "a number" if found[0].shape == (1,) else f"{len(found[0])} numbers"
            raise ConfigError("data-invalid", f"{given}: {place(given, row)} has label {label!r}, expected {expected}")
    return np.stack(found)
