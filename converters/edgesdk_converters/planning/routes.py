"""From the models that were given to a float file of the format that is wanted. Pure: steps are named, not run.

A file of the format itself is taken first, then what exports to it, then another format that converts to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesdk.errors import ConfigError
from edgesdk_converters.recipes import Format
from edgesdk_converters.running.environments import Environment
from edgesdk_converters.running.steps import Ref, Step
from edgesdk_converters.sources import Source, SourceFormat

KERAS_OPSET = 17
TORCH_OPSET = 18
"""What torch's exporter writes, whatever it is asked for."""
PREFERRED: dict[Format, tuple[SourceFormat, ...]] = {
    "tflite": ("tflite", "keras", "savedmodel", "onnx", "pt2"),
    "onnx": ("onnx", "pt2", "keras", "savedmodel", "tflite"),
}
DIRECT: dict[SourceFormat, tuple[Format, ...]] = {
    "tflite": ("tflite",),
    "onnx": ("onnx",),
    "keras": ("tflite", "onnx"),
    "savedmodel": ("tflite", "onnx"),
    "pt2": ("onnx",),
}
"""The formats that a source gives without conversion between formats, which is done only when asked for."""

TENSORFLOW_TOOLS = ("keras", "tensorflow-cpu", "tensorflow", "tf2onnx", "onnx", "ai-edge-litert", "numpy")
FILE_TOOLS = ("onnx", "onnxruntime", "ai-edge-litert", "numpy")

ONNX2TF = Environment(
    name="onnx2tf",
    packages=("onnx2tf==1.29.24", "tensorflow-cpu==2.19.1", "numpy==1.26.4", "protobuf==4.25.5"),
)
"""Unpinned it resolves to a broken 1.28.8; its pins conflict with ours."""
TORCH = Environment(name="torch", packages=("torch==2.13.0", "onnxscript==0.7.2", "onnx==1.23.2", "numpy==2.4.6"))


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What targets read of ONNX.

    Attributes:
        min_opset: The least operator set that recipes and tools need.
        max_opset: The most that runtimes read.
        max_ir: The same of the IR version.
        flat: Whether an If whose branch is known is folded: compilers for accelerators take none.
    """

    min_opset: int = 0
    max_opset: int = 21
    max_ir: int = 10
    flat: bool = False


@dataclass(frozen=True, kw_only=True)
class Route:
    """How a float file comes about.

    Attributes:
        source: The model that was given.
        steps: What makes the file, in order.
        float_file: The file.
        reference: What it must agree with: itself, or the file of another format that it was converted from.
        reference_format: The format of that.
    """

    source: Source
    steps: tuple[Step, ...]
    float_file: Ref
    reference: Ref
    reference_format: Format


def direct_formats(sources: Mapping[SourceFormat, Source]) -> tuple[Format, ...]:
    """Return the formats that the sources give without conversion between formats, preferred first."""
    every: tuple[Format, ...] = ("tflite", "onnx")
    return tuple(name for name in every if any(name in DIRECT[source] for source in sources))


def find_route(
    wanted: Format, sources: Mapping[SourceFormat, Source], contract: Mapping[str, Any], ceiling: Ceiling
) -> Route:
    """Return how a float file of a format is made from the sources.

    Raises:
        ConfigError: ``argument-invalid`` if none of them gives it.
    """
    found = next((sources[name] for name in PREFERRED[wanted] if name in sources), None)
    if found is None:
        raise ConfigError("argument-invalid", f"{wanted} cannot be made: no model is given")
    maker = _Maker(dict(contract), ceiling)
    here = wanted if wanted in DIRECT[found.format] else DIRECT[found.format][0]
    reference = made = maker.read(here, maker.export(found, here))
    if here != wanted:
        made = maker.read(wanted, maker.convert(made, here))
    return Route(source=found, steps=tuple(maker.steps), float_file=made, reference=reference, reference_format=here)


class _Maker:
    def __init__(self, contract: dict[str, Any], ceiling: Ceiling) -> None:
        self._contract, self._ceiling = contract, ceiling
        self.steps: list[Step] = []

    def export(self, source: Source, to: Format) -> Path | Ref:
        """Add what has a framework write a file of a format; a file of that format is taken as it is."""
        if source.format == to:
            return source.path
        if source.format == "pt2":
            return self._add(
                "export torch to onnx", "torch:to_onnx", source.path, {"opset": TORCH_OPSET}, environment=TORCH
            )
        params: dict[str, Any] = {"contract": self._contract}
        if to == "onnx":
            params["opset"] = min(KERAS_OPSET, self._ceiling.max_opset)
        return self._add(f"export {to}", f"{source.format}:to_{to}", source.path, params, tools=TENSORFLOW_TOOLS)

    def convert(self, source: Ref, here: Format) -> Ref:
        """Add what makes a file of the other format."""
        params: dict[str, Any] = {"contract": self._contract}
        if here == "onnx":
            action = "onnx_to_tflite:convert"
            return self._add("convert onnx to tflite", action, source, params, tools=FILE_TOOLS, environment=ONNX2TF)
        params["opset"] = min(KERAS_OPSET, self._ceiling.max_opset)
        action = "tflite_to_onnx:convert"
        return self._add("convert tflite to onnx", action, source, params, tools=TENSORFLOW_TOOLS)

    def read(self, here: Format, source: Path | Ref) -> Ref:
        """Add what checks a file and makes it fit the contract and the targets."""
        params = {"contract": self._contract}
        if here == "onnx":
            limits = {name: getattr(self._ceiling, name) for name in ("min_opset", "max_opset", "max_ir", "flat")}
            return self._add("pin onnx", "onnx:pin", source, params | limits, tools=FILE_TOOLS)
        return self._add("read tflite", "tflite:read", source, params, tools=FILE_TOOLS)

    def _add(self, name: str, action: str, source: Path | Ref, params: dict[str, Any], **how: Any) -> Ref:
        """Add a step whose name ends with the format of the file that it writes; `how` are fields of `Step`."""
        where = f"edgesdk_converters.sources.{action}"
        self.steps.append(Step(name=name, action=where, inputs={"source": source}, params=params, **how))
        return Ref(step=name, file=f"model.{name.rpartition(' ')[2]}")
