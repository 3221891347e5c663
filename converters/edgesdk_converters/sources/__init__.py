"""What is converted: a model of some framework or exchange format, seen as one description."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Literal

import msgspec

from edgesdk.errors import ConfigError
from edgesdk_converters.data.npz import file_sha256

SourceFormat = Literal["keras", "savedmodel", "tflite", "onnx", "pt2"]
_ZIP = b"PK\x03\x04"
_TFLITE = b"TFL3"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLE = b"\x80\x02"
_POINTER = b"version "
_ONNX = frozenset({b"\x08", b"\x0a", b"\x12", b"\x3a"})
_EXTERNAL = re.compile(rb"\x0a\x08location\x12(.)", re.DOTALL)
_EXPORT = "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its format by content, its hash, its size in bytes; of a folder, those of its files."""

    path: Path
    format: SourceFormat
    sha256: str
    size: int


def open_source(path: Path) -> Source:
    """Recognise a model by its first bytes; an ONNX file, which has no mark, by its suffix.

    Raises:
        ConfigError: ``file-missing`` or ``model-format``.
    """
    kind = _recognise(path)
    files = _files(path)
    return Source(path=path, format=kind, sha256=_sha256(path, files), size=sum(file.stat().st_size for file in files))


def source_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, or of an ONNX file with data outside, that of names and hashes."""
    return _sha256(path, _files(path))


def _recognise(path: Path) -> SourceFormat:
    if path.is_dir():
        return _folder_format(path)
    if not path.is_file():
        raise ConfigError("file-missing", f"no model file {path}")
    with path.open("rb") as file:
        return _format(path, file.read(16))


def _sha256(path: Path, files: list[Path]) -> str:
    if files == [path]:
        return file_sha256(path)
    root = path if path.is_dir() else path.parent
    lines = (f"{file.relative_to(root).as_posix()}\0{file_sha256(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path, *external_data(path)] if path.suffix == ".onnx" else [path]


def external_data(path: Path) -> list[Path]:
    """Return the files beside an ONNX file in which its tensors lie, found by their mark in its bytes."""
    content = path.read_bytes()
    found = set[str]()
    for match in _EXTERNAL.finditer(content):
        name = content[match.end() : match.end() + match.group(1)[0]]
        found.add(name.decode(errors="replace"))
    return [file for name in sorted(found) if "\0" not in name and (file := path.parent / name).is_file()]


def _folder_format(path: Path) -> SourceFormat:
    if (path / "saved_model.pb").is_file():
        return "savedmodel"
    raise ConfigError("model-format", f"the folder {path} is no SavedModel: it has no saved_model.pb")


def _format(path: Path, head: bytes) -> SourceFormat:
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(_ZIP):
        return _archive_format(path)
    if head.startswith(_PICKLE) or path.suffix in {".pt", ".pth", ".pkl", ".ckpt"}:
        raise _pickled(path)
    if path.suffix == ".safetensors":
        hint = f"Give the model with its graph, for example by {_EXPORT}."
        raise ConfigError("model-format", f"{path} holds weights and no graph", hint=hint)
    if head.startswith(_POINTER):
        message = f"{path} is a pointer of Git LFS, not the model"
        raise ConfigError("model-format", message, hint="Fetch the file: git lfs pull.")
    if path.suffix == ".onnx" and head[:1] in _ONNX:
        return "onnx"
    raise ConfigError("model-format", f"{path} is no model of a known format")


def _archive_format(path: Path) -> SourceFormat:
    """Tell archives apart by the names in them; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError("model-format", f"{path} is a damaged archive: {error}") from error
    if "config.json" in names:
        return "keras"
    inner = {name.partition("/")[2] for name in names} | set(names)
    if "archive_format" in inner or "serialized_exported_program.json" in inner:
        return "pt2"
    if "data.pkl" in inner:
        raise _pickled(path, script="constants.pkl" in inner)
    raise ConfigError("model-format", f"{path} is an archive, but of no known model format")


def _pickled(path: Path, *, script: bool = False) -> ConfigError:
    what = "a TorchScript file" if script else "a pickled PyTorch file, which runs code when it is read"
    message = f"{path} is {what}; it is never read"
    return ConfigError("model-format", message, hint=f"Export the model in PyTorch: {_EXPORT}.")
