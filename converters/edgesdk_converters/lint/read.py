"""Read a model file into the one description that every rule sees."""

from __future__ import annotations

from pathlib import Path

from edgesdk.errors import ConfigError
from edgesdk_converters.lint.graph import Graph


def read_graph(path: Path) -> Graph:
    """Read a ``.tflite`` or ``.onnx`` file, told apart by content.

    Raises:
        ConfigError: ``file-missing``, or ``model-format`` if it is neither or is damaged.
    """
    if not path.is_file():
        raise ConfigError("file-missing", f"no model file {path}")
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] == b"TFL3":
        from edgesdk_converters.lint.read_tflite import read_tflite as read  # noqa: PLC0415 - heavy
    elif path.suffix == ".onnx":
        from edgesdk_converters.lint.read_onnx import read_onnx as read  # noqa: PLC0415 - heavy
    else:
        raise ConfigError("model-format", f"{path} is neither a TFLite nor an ONNX file")
    return read(path)
