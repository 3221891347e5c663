"""A session: one bundle, loaded, that takes an app's arrays and gives the contract's outputs.

The converters' evaluation, the agent's testing worker and `edgesdk.Model` all run artifacts through this module, so
what was measured is what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter  # durations of calls, never a time stamp
from types import TracebackType
from typing import Any, NamedTuple, Self

from numpy.typing import ArrayLike

from edgesdk.bundle.manifest import Manifest, RuntimeName, Stage
from edgesdk.contract import Binding, Bindings, Contract, tensor
from edgesdk.errors import ContractError, ReleaseError
from edgesdk.runtime.backend import Backend, RawTensor, RuntimeOptions, read_options
from edgesdk.runtime.choice import open_backend
from edgesdk.runtime.codec import Array, Coder, check_input, decoder, encoder, not_finite, zeros

_SCALE_TOLERANCE = 1e-6


class Timings(NamedTuple):
    """Where the time of one call went, in milliseconds."""

    pre_ms: float
    infer_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        """The whole call."""
        return self.pre_ms + self.infer_ms + self.post_ms


class _LoadedStage(NamedTuple):
    backend: Backend
    inputs: tuple[tuple[str, Coder], ...]
    outputs: tuple[tuple[str, Coder], ...]


class Session:
    """A loaded bundle; made by `open_session`. Safe to call from several threads at once.

    Attributes:
        contract: What it takes and gives.
        backend: The runtime and its version, for example ``"ai-edge-litert 2.3.0"``.
        provider: Where it runs, for example ``"cpu"``.
    """

    def __init__(self, contract: Contract, stages: list[_LoadedStage]) -> None:
        self.contract = contract
        self.backend = ", ".join(dict.fromkeys(stage.backend.title for stage in stages))
        self.provider = ", ".join(dict.fromkeys(stage.backend.provider for stage in stages))
        self._stages = stages
        self._specs = {spec.name: spec for spec in contract.inputs}
        self._states = frozenset(state.input for state in contract.states)
        self._outputs = tuple(spec.name for spec in contract.outputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return the contract's outputs for one call.

        Args:
            inputs: Arrays by the contract's names, in the app's units and dtypes. A state tensor that is left out is
                reset; to go on, pass the state output of the call before.

        Returns:
            Arrays by the contract's names, dequantized, in the contract's dtypes. NaN is returned, not raised; see
            `check_finite`.

        Raises:
            ContractError: ``input-*``: the inputs do not fit the contract.
            ReleaseError: ``inference-failed``.
        """
        return self.run_timed(inputs)[0]

    def run_timed(self, inputs: Mapping[str, ArrayLike]) -> tuple[dict[str, Array], Timings]:
        """Return the outputs and where the time went; otherwise as `run`."""
        begin = perf_counter()
        values = self.check(inputs)
        pre, infer = perf_counter() - begin, 0.0
        for stage in self._stages:
            started = perf_counter()
            raw_inputs = [code(values[name]) for name, code in stage.inputs]
            ready = perf_counter()
            raw_outputs = stage.backend.run(raw_inputs)
            infer += perf_counter() - ready
            pre += ready - started
            values.update((name, code(raw)) for (name, code), raw in zip(stage.outputs, raw_outputs, strict=True))
        outputs = {name: values[name] for name in self._outputs}
        post = perf_counter() - begin - pre - infer
        return outputs, Timings(pre * 1e3, infer * 1e3, post * 1e3)

    def check(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return the inputs as arrays of the contract's dtypes, states reset where they were left out.

        Raises:
            ContractError: ``input-missing``, ``input-unknown``, ``input-shape``, ``input-dtype``, ``input-nan`` or
                ``input-range``.
        """
        symbols: dict[str, int] = {}
        values: dict[str, Array] = {}
        for name, spec in self._specs.items():
            if name in inputs:
                values[name] = check_input(spec, inputs[name], symbols)
            elif name not in self._states:
                raise ContractError("input-missing", f"input {name!r} is missing; got {sorted(inputs)}")
        for name in inputs:
            if name not in self._specs:
                raise ContractError("input-unknown", f"no input is named {name!r}; expected {sorted(self._specs)}")
        for name in self._states.difference(values):
            values[name] = zeros(self._specs[name], symbols)
        return values

    def check_finite(self, outputs: dict[str, Array]) -> None:
        """Refuse outputs that hold NaN or infinity.

        Raises:
            ReleaseError: ``output-nan``; the message names the outputs.
        """
        bad = not_finite(outputs)
        if bad:
            raise ReleaseError("output-nan", f"output {', '.join(map(repr, bad))} holds NaN or infinity")

    @property
    def width(self) -> int:
        """For how many calls at once interpreters exist."""
        return max(stage.backend.width for stage in self._stages)

    def prepare(self, width: int) -> None:
        """Make ready for `width` calls at once, so that no call has to wait for an interpreter to be made."""
        for stage in self._stages:
            stage.backend.prepare(width)

    def close(self) -> None:
        """Free the artifacts. Nobody may call `run` any more."""
        for stage in self._stages:
            stage.backend.close()


def open_session(directory: Path, manifest: Manifest, *, options: Mapping[str, Any] | None = None) -> Session:
    """Load the bundle that is unpacked in `directory`.

    Args:
        directory: The unpacked bundle (a generation's folder).
        manifest: Its manifest.
        options: Fields of `RuntimeOptions` that override those of ``manifest.options["runtime"]``.

    Raises:
        TargetError: ``runtime-missing``, ``runtime-too-old`` or ``accelerator-missing``.
        ReleaseError: ``artifact-unloadable`` or ``artifact-mismatch``.
        ConfigError: ``config-invalid`` for the options.
        DeploymentError: ``runtime-conflict``.
    """
    settings = read_options(manifest.options.get("runtime"), options)
    with ExitStack() as undo:
        stages = []
        for stage in manifest.stages:
            loaded = _load(directory, stage, manifest, settings)
            undo.callback(loaded.backend.close)
            stages.append(loaded)
        undo.pop_all()
    return Session(manifest.contract, stages)


def describe_artifact(
    path: Path, runtime: RuntimeName, *, options: Mapping[str, Any] | None = None
) -> tuple[list[RawTensor], list[RawTensor]]:
    """Return the inputs and outputs of an artifact as the runtime sees them, in its order.

    Raises:
        TargetError: ``runtime-missing``.
        ReleaseError: ``artifact-unloadable``.
    """
    backend = open_backend(runtime, path, read_options(options), None)
    try:
        return list(backend.inputs), list(backend.outputs)
    finally:
        backend.close()


def bindings_in_order(contract: Contract, inputs: Sequence[RawTensor], outputs: Sequence[RawTensor]) -> Bindings:
    """Return the bindings of an artifact whose tensors stand in the contract's order.

    Raises:
        ReleaseError: ``artifact-mismatch`` if there are more or fewer tensors than in the contract.
    """
    for what, specs, raw in (("inputs", contract.inputs, inputs), ("outputs", contract.outputs, outputs)):
        if len(specs) != len(raw):
            message = f"the artifact has {len(raw)} {what}, the contract has {len(specs)}"
            raise ReleaseError("artifact-mismatch", message)
    return Bindings(
        inputs=tuple(_binding(spec.name, raw) for spec, raw in zip(contract.inputs, inputs, strict=True)),
        outputs=tuple(_binding(spec.name, raw) for spec, raw in zip(contract.outputs, outputs, strict=True)),
    )


def _binding(name: str, raw: RawTensor) -> Binding:
    return Binding(
        tensor=name,
        artifact_name=raw.name,
        index=raw.index,
        dtype=raw.dtype,
        shape=raw.shape,
        scale=raw.scale,
        zero_point=raw.zero_point,
    )


def _load(directory: Path, stage: Stage, manifest: Manifest, settings: RuntimeOptions) -> _LoadedStage:
    # `package` speaks of one runtime; a bundle of several stages may hold several.
    needed = tuple(need for need in manifest.requirements.runtimes if need.name == stage.runtime)
    requirements = manifest.requirements if needed else None
    backend = open_backend(stage.runtime, directory / stage.artifact, settings, requirements)
    try:
        inputs = _bind(stage.bindings.inputs, backend.inputs, f"{stage.artifact}: input")
        outputs = _bind(stage.bindings.outputs, backend.outputs, f"{stage.artifact}: output")
    except BaseException:
        backend.close()
        raise
    contract = manifest.contract
    return _LoadedStage(
        backend,
        tuple((binding.tensor, encoder(tensor(contract.inputs, binding.tensor), binding)) for binding in inputs),
        tuple((binding.tensor, decoder(tensor(contract.outputs, binding.tensor), binding)) for binding in outputs),
    )


def _bind(bindings: tuple[Binding, ...], raw: tuple[RawTensor, ...], where: str) -> list[Binding]:
    """Return the bindings in the artifact's order after comparing each with the artifact."""
    by_index = {binding.index: binding for binding in bindings}
    if sorted(binding.index for binding in bindings) != list(range(len(raw))):
        found = sorted(binding.index for binding in bindings)
        raise ReleaseError("artifact-mismatch", f"{where}s: bindings are for {found}, the artifact has {len(raw)}")
    for actual in raw:
        for what, expected, got in _differences(by_index[actual.index], actual):
            message = f"{where} {actual.index}: expected {what} {expected}, got {got}"
            raise ReleaseError("artifact-mismatch", message)
    return [by_index[actual.index] for actual in raw]


def _differences(binding: Binding, actual: RawTensor) -> Iterator[tuple[str, object, object]]:
    if binding.artifact_name != actual.name:
        yield "name", binding.artifact_name, actual.name
    if binding.dtype != actual.dtype:
        yield "dtype", binding.dtype, actual.dtype
    if not _same_shape(binding.shape, actual.shape):
        yield "shape", list(binding.shape), list(actual.shape)
    if actual.scale is None:  # ONNX says nothing of how its integer inputs are meant; the binding may
        return
    if binding.scale is None or abs(binding.scale - actual.scale) > _SCALE_TOLERANCE * actual.scale:
        yield "scale", binding.scale, actual.scale
    if binding.zero_point != actual.zero_point:
        yield "zero point", binding.zero_point, actual.zero_point


def _same_shape(bound: tuple[int | str, ...], actual: tuple[int | str, ...]) -> bool:
    return len(bound) == len(actual) and all(
        isinstance(size, str) or isinstance(found, str) or size == found
        for size, found in zip(bound, actual, strict=True)
    )
