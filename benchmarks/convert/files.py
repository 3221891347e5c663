"""Magika: which kind of content has a file? Judged on the files of this Python and its packages, by their suffixes."""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.fetch import InWheel, from_wheel
from convert.zoo import Case, Store

_FOLDER = "magika/models/standard_v3_3"
MODEL = InWheel(
    requirement="magika==1.0.3",
    member=f"{_FOLDER}/model.onnx",
    sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
)
CONFIG = InWheel(
    requirement="magika==1.0.3",
    member=f"{_FOLDER}/config.min.json",
    sha256="ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
)
SIDE, BLOCK, PADDING, LEAST = 1024, 4096, 256, 8
"""Bytes at either end, the block that they are stripped in, what stands for no byte, the least size of a file."""
KINDS = {
    "py": "python", "pyi": "python", "pyc": "pythonbytecode", "so": "elf", "json": "json", "md": "markdown",
    "html": "html", "js": "javascript", "css": "css", "png": "png", "csv": "csv", "toml": "toml", "xml": "xml",
    "svg": "svg", "rst": "rst", "ttf": "ttf", "npy": "npy", "npz": "npz", "gz": "gzip", "c": "c", "onnx": "onnx",
    "jpg": "jpeg", "gif": "gif", "exe": "pebin", "wav": "wav", "pdf": "pdf", "f90": "fortran", "sh": "shell",
}  # fmt: skip
MOST, CALIBRATE_EVERY = 400, 12
"""Files of one suffix; every so many one calibrates, the others judge."""


def make(store: Store) -> None:
    """The model, and the first and last bytes of files that were chosen by the hashes of their contents."""
    store.model(from_wheel(MODEL, store.cache))
    labels = json.loads(from_wheel(CONFIG, store.cache).read_text())["target_labels_space"]
    rows: dict[str, list[tuple[NDArray[np.int32], int]]] = {"calibration": [], "evaluation": []}
    seen: set[bytes] = set()  # two files may differ only where the model does not look
    for suffix, kind in KINDS.items():
        for number, content in enumerate(_chosen(suffix)):
            use, row = "evaluation" if number % CALIBRATE_EVERY else "calibration", features(content)
            if row.tobytes() not in seen:
                rows[use].append((row, labels.index(kind)))
            seen.add(row.tobytes())
    for use, found in rows.items():
        x = np.stack([row for row, _ in found])
        store.data(use, bytes=x, y=np.array([label for _, label in found], np.int64))
    store.contract(
        {
            "version": "1.0",
            "task": "classification",
            "labels": labels,
            "inputs": [{"name": "bytes", "shape": [1, 2 * SIDE], "dtype": "int32", "range": [0, PADDING]}],
            "outputs": [{"name": "target_label", "shape": [1, len(labels)], "range": [0, 1]}],
        }
    )


def features(content: bytes) -> NDArray[np.int32]:
    """Return what the model takes: int32 [2048], the first and the last bytes without the white space outside."""
    first, last = content[:BLOCK], content[-BLOCK:]
    begin = (first.strip() if len(content) <= BLOCK else first.lstrip())[:SIDE]
    end = (last.strip() if len(content) <= BLOCK else last.rstrip())[-SIDE:]
    row = np.full(2 * SIDE, PADDING, np.int32)
    row[: len(begin)] = np.frombuffer(begin, np.uint8)
    row[2 * SIDE - len(end) :] = np.frombuffer(end, np.uint8)
    return row


def _chosen(suffix: str) -> list[bytes]:
    contents = {hashlib.sha256(content).digest(): content for content in _contents(suffix)}
    return [contents[digest] for digest in sorted(contents)[:MOST]]


def _contents(suffix: str) -> Iterator[bytes]:
    paths = sysconfig.get_paths()
    for folder in (paths["stdlib"], paths["purelib"]):
        # As many candidates as are needed: a package that has thousands of a kind would slow this down.
        found = sorted(path for path in Path(folder).rglob(f"*.{suffix}") if path.is_file())
        for path in found[:: max(1, len(found) // (2 * MOST))]:
            content = path.read_bytes()
            if len(content.strip()) >= 2 * LEAST:
                yield content[:BLOCK] + content[-BLOCK:] if len(content) > 2 * BLOCK else content


CASES = (
    Case(
        name="magika",
        what="Magika 1.0.3, kinds of files (ONNX, 3.2 MB, Apache-2.0)",
        data="files of the Python installation, labelled by suffix; more since a first run's gate asked for more",
        figure="accuracy",
        make=make,
        formats=("onnx",),
    ),
)
