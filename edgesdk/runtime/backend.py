"""The seam behind which runtimes live; `edgesdk.runtime.choice` picks one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

import msgspec
from msgspec import Meta

from edgesdk.contract import DType
from edgesdk.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RawTensor:
    """One input or output as the artifact itself declares it.

    Attributes:
        name: Its name in the artifact.
        index: Its position among the artifact's inputs (or outputs), from 0.
        dtype: As in a contract.
        shape: Sizes, or a symbol where the artifact leaves a size open.
        scale: Per-tensor quantization, ``real = (quantized - zero_point) * scale``; None when not quantized.
        zero_point: See `scale`.
    """

    name: str
    index: int
    dtype: DType
    shape: tuple[int | str, ...]
    scale: float | None = None
    zero_point: int | None = None


class Backend(Protocol):
    """One loaded artifact. `run` may be called from several threads at once."""

    title: str  # the package and its version, "ai-edge-litert 2.3.0"
    provider: str  # where the operators run, "cpu"
    inputs: tuple[RawTensor, ...]
    outputs: tuple[RawTensor, ...]

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the outputs from inputs of the artifact's own dtypes, both in the artifact's order.

        Raises:
            ReleaseError: ``inference-failed``.
        """
        ...

    @property
    def width(self) -> int:
        """How many calls at once were prepared for."""
        ...

    def prepare(self, width: int) -> None:
        """Make the first `width` calls at once as fast as any later ones."""
        ...

    def close(self) -> None:
        """Free the artifact; calls under way may end first."""
        ...


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a runtime is set up: `Manifest.options["runtime"]`, overridden by the operator's configuration.

    Attributes:
        package: Which of several installed packages to use, for example ``"tflite-runtime"``.
        threads: Threads within one call; several calls at once always run in parallel.
        providers: ONNX Runtime's execution providers, best first; empty: the CPU.
        x64_quant_precision: ONNX Runtime on x86 without VNNI saturates int8 products; ``auto`` switches its exact
            arithmetic on where that is so, ``on`` and ``off`` decide by hand.
    """

    package: str | None = None
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    providers: tuple[str, ...] = ()
    x64_quant_precision: Literal["auto", "on", "off"] = "auto"


def read_options(*layers: Mapping[str, Any] | None) -> RuntimeOptions:
    """Merge layers of options, the later ones winning.

    Raises:
        ConfigError: ``config-invalid``.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer or {})
    try:
        return msgspec.convert(merged, RuntimeOptions)
    except msgspec.ValidationError as error:
        raise ConfigError("config-invalid", f"runtime options: {error}") from error


def known_dtype(name: str, where: str) -> DType:
    """Return `name` if contracts know it.

    Raises:
        ValueError: If they do not.
    """
    if name not in get_args(DType):
        msg = f"{where} has dtype {name}, which no contract can describe"
        raise ValueError(msg)
    return name  # type: ignore[return-value]  # just checked
