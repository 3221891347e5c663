"""What is converted: a Keras model, a float TFLite file or an ONNX file, seen as one description."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgesdk.errors import ConfigError
from edgesdk_converters.data import file_sha256

SourceFormat = Literal["keras", "tflite", "onnx"]
_KERAS = b"PK\x03\x04"
_TFLITE = b"TFL3"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One model file: its format by content, its hash, its size in bytes."""

    path: Path
    format: SourceFormat
    sha256: str
    size: int


def open_source(path: Path) -> Source:
    """Recognise a model file by its first bytes; an ONNX file, which has no mark, by its suffix.

    Raises:
        ConfigError: ``file-missing`` or ``model-format``.
    """
    if not path.is_file():
        raise ConfigError("file-missing", f"no model file {path}")
    with path.open("rb") as file:
        head = file.read(8)
    return Source(path=path, format=_format(path, head), sha256=file_sha256(path), size=path.stat().st_size)


def _format(path: Path, head: bytes) -> SourceFormat:
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_KERAS) and path.suffix == ".keras":
        return "keras"
    if path.suffix == ".onnx" and head[:1] in {b"\x08", b"\x0a", b"\x12", b"\x3a"}:
        return "onnx"
    raise ConfigError("model-format", f"{path} is neither a .keras archive nor a TFLite or ONNX file")
