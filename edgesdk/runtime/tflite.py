"""TensorFlow Lite artifacts, run by ai-edge-litert or tflite-runtime.

An interpreter must not be used by two threads at once, so there is a pool: a call takes an idle interpreter or makes
one, and gives it back. As many exist as calls were ever under way at once.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import DeploymentError, ReleaseError
from edgesdk.runtime.backend import RawTensor, RuntimeOptions, known_dtype
from edgesdk.targets.matching import InstalledRuntime

_MODULES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}


class TfliteBackend:
    """A `Backend` over a pool of interpreters, each with `RuntimeOptions.threads` threads."""

    provider = "cpu"

    def __init__(self, path: Path, package: InstalledRuntime, options: RuntimeOptions) -> None:
        self.title = f"{package.package} {package.version}"
        self._interpreter_class = _interpreter_class(package.package)
        # The bytes are shared by all interpreters; they must outlive them.
        self._artifact = path.read_bytes()
        self._threads = options.threads
        self._closed = False
        self._width = 0
        self._idle: deque[_Interpreter] = deque()
        first = self._new()
        self.inputs, self.outputs = first.inputs, first.outputs
        self._idle.append(first)

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the outputs; see `Backend.run`."""
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = self._new()
        try:
            outputs = interpreter.run(inputs)
        except (RuntimeError, ValueError) as error:
            # The interpreter may be left in any state: it is dropped, not given back.
            self._width -= 1
            raise ReleaseError("inference-failed", f"{self.title} could not run the artifact: {error}") from error
        if not self._closed:
            self._idle.append(interpreter)
        return outputs

    @property
    def width(self) -> int:
        """How many interpreters exist."""
        return self._width

    def prepare(self, width: int) -> None:
        """Make interpreters until there are `width`."""
        while self._width < width:
            self._idle.append(self._new())

    def close(self) -> None:
        """Free the idle interpreters; those in use are freed when their call ends."""
        self._closed = True
        self._idle.clear()

    def _new(self) -> _Interpreter:
        try:
            made = _Interpreter(self._interpreter_class(model_content=self._artifact, num_threads=self._threads))
        except (RuntimeError, ValueError, SystemError) as error:
            raise ReleaseError("artifact-unloadable", f"{self.title} cannot load the artifact: {error}") from error
        self._width += 1
        return made


class _Interpreter:
    """One interpreter and where its tensors are."""

    def __init__(self, interpreter: Any) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(_raw(detail, position) for position, detail in enumerate(inputs))
        self.outputs = tuple(_raw(detail, position) for position, detail in enumerate(outputs))
        self._input_indices = [int(detail["index"]) for detail in inputs]
        self._output_indices = [int(detail["index"]) for detail in outputs]
        self._shapes = [tuple(int(size) for size in detail["shape"]) for detail in inputs]

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        interpreter = self._interpreter
        shapes = [array.shape for array in inputs]
        if shapes != self._shapes:
            for index, shape in zip(self._input_indices, shapes, strict=True):
                interpreter.resize_tensor_input(index, shape, strict=True)
            interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in zip(self._input_indices, inputs, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in self._output_indices]


def _interpreter_class(package: str) -> Any:
    if package == "tflite-runtime" and "tensorflow" in sys.modules:
        message = "tflite-runtime cannot run in a process that has imported TensorFlow"
        raise DeploymentError("runtime-conflict", message)
    try:
        return import_module(_MODULES[package]).Interpreter
    except (ImportError, OSError) as error:
        raise DeploymentError("runtime-conflict", f"{package} is installed but does not start: {error}") from error


def _raw(detail: dict[str, Any], position: int) -> RawTensor:
    scales = detail["quantization_parameters"]["scales"]
    zero_points = detail["quantization_parameters"]["zero_points"]
    quantized = len(scales) == 1
    return RawTensor(
        name=str(detail["name"]),
        index=position,
        dtype=known_dtype(np.dtype(detail["dtype"]).name.replace("bytes_", "string"), f"tensor {detail['name']!r}"),
        shape=tuple(f"d{axis}" if size < 0 else int(size) for axis, size in enumerate(_signature(detail))),
        scale=float(scales[0]) if quantized else None,
        zero_point=int(zero_points[0]) if quantized else None,
    )


def _signature(detail: dict[str, Any]) -> Sequence[int]:
    signature = detail["shape_signature"]
    return signature if len(signature) == len(detail["shape"]) else detail["shape"]  # type: ignore[no-any-return]  # numpy
