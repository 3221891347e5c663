"""ONNX artifacts, run by onnxruntime. One session serves all threads."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgesdk.errors import DeploymentError, ReleaseError, TargetError
from edgesdk.runtime.backend import RawTensor, RuntimeOptions, known_dtype
from edgesdk.targets.matching import InstalledRuntime, architecture_name

_DTYPES = {"float": "float32", "float16": "float16"}
_FATAL_ONLY = 4  # errors are raised; printing them, too, would only fill the device's log


class OrtBackend:
    """A `Backend` over one `onnxruntime.InferenceSession`."""

    width = 1  # one session takes any number of calls at once

    def __init__(self, path: Path, package: InstalledRuntime, options: RuntimeOptions) -> None:
        self.title = f"{package.package} {package.version}"
        try:
            import onnxruntime  # noqa: PLC0415 - heavy, and perhaps broken: then it is an answer, not a traceback
        except (ImportError, OSError) as error:
            raise DeploymentError("runtime-conflict", f"{self.title} does not start: {error}") from error
        providers = list(options.providers) or ["CPUExecutionProvider"]
        available = onnxruntime.get_available_providers()
        self._check_providers(providers, available)
        try:
            session = onnxruntime.InferenceSession(path, _settings(onnxruntime, options), providers=providers)
            self.inputs = tuple(_raw(node, position) for position, node in enumerate(session.get_inputs()))
            self.outputs = tuple(_raw(node, position) for position, node in enumerate(session.get_outputs()))
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime has no common base for its errors
            raise ReleaseError("artifact-unloadable", f"{self.title} cannot load the artifact: {error}") from error
        # A provider whose libraries are missing is left out without a word.
        self._check_providers(providers, session.get_providers())
        self.provider = providers[0].removesuffix("ExecutionProvider").lower()
        self._run = session.run
        self._input_names = [node.name for node in self.inputs]
        self._output_names = [node.name for node in self.outputs]

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the outputs; see `Backend.run`."""
        try:
            outputs: list[NDArray[Any]] = self._run(
                self._output_names, dict(zip(self._input_names, inputs, strict=True))
            )
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise ReleaseError("inference-failed", f"{self.title} could not run the artifact: {error}") from error
        return outputs

    def prepare(self, width: int) -> None:
        """Do nothing: a session is ready for any number of calls."""

    def close(self) -> None:
        """Free the session once no call uses it."""
        self._run = _closed

    def _check_providers(self, wanted: Sequence[str], have: Sequence[str]) -> None:
        for provider in wanted:
            if provider not in have:
                message = f"{self.title} has {', '.join(have)}, not {provider}"
                raise TargetError("accelerator-missing", message)


def saturates(architecture: str, cpuinfo: str) -> bool:
    """Say whether int8 products saturate at 16 bits: x86 without the VNNI instructions.

    Args:
        architecture: As in `Capabilities`.
        cpuinfo: The text of ``/proc/cpuinfo``.
    """
    return architecture == "x86_64" and re.search(r"\bavx(512)?_vnni\b", cpuinfo) is None


def _settings(onnxruntime: Any, options: RuntimeOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL_ONLY
    exact = options.x64_quant_precision
    if exact == "on" or (exact == "auto" and saturates(architecture_name(platform.machine()), _cpuinfo())):
        settings.add_session_config_entry("session.x64quantprecision", "1")
    return settings


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _raw(node: Any, position: int) -> RawTensor:
    match = re.fullmatch(r"tensor\((\w+)\)", node.type)
    name = match.group(1) if match else str(node.type)
    return RawTensor(
        name=str(node.name),
        index=position,
        dtype=known_dtype(_DTYPES.get(name, name), f"tensor {node.name!r}"),
        shape=tuple(_dim(size, axis) for axis, size in enumerate(node.shape)),
    )


def _dim(size: int | str | None, axis: int) -> int | str:
    if isinstance(size, int):
        return size
    symbol = (size or "").lower()
    return symbol if re.fullmatch(r"[a-z][a-z0-9_]{0,31}", symbol) else f"d{axis}"


def _closed(*_arguments: object) -> list[NDArray[Any]]:
    msg = "the session is closed"
    raise RuntimeError(msg)
