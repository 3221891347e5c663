"""Which tensor of an artifact carries which tensor of the contract. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgesdk.contract import Binding, Bindings, Contract, DType, TensorSpec
from edgesdk.errors import ConfigError


class Raw(Protocol):
    """A tensor as its runtime describes it (`edgesdk.runtime.RawTensor`)."""

    @property
    def name(self) -> str: ...  # noqa: D102 - a plain field
    @property
    def index(self) -> int: ...  # noqa: D102 - a plain field
    @property
    def dtype(self) -> DType: ...  # noqa: D102 - a plain field
    @property
    def shape(self) -> tuple[int | str, ...]: ...  # noqa: D102 - a plain field
    @property
    def scale(self) -> float | None: ...  # noqa: D102 - a plain field
    @property
    def zero_point(self) -> int | None: ...  # noqa: D102 - a plain field


def order_by_name(specs: Sequence[TensorSpec], names: Sequence[str], *, what: str) -> list[TensorSpec]:
    """Return the contract tensors in the order of the artifact's `names`: by name if all agree, else by position.

    Raises:
        ConfigError: ``contract-mismatch`` if their numbers differ.
    """
    if len(specs) != len(names):
        raise ConfigError(
            "contract-mismatch",
            f"the contract has {len(specs)} {what} ({', '.join(spec.name for spec in specs)}), "
            f"the model has {len(names)} ({', '.join(names)})",
        )
    by_name = {spec.name: spec for spec in specs}
    return [by_name[name] for name in names] if set(names) == set(by_name) else list(specs)


def bind(contract: Contract, inputs: Sequence[Raw], outputs: Sequence[Raw]) -> Bindings:
    """Bind an artifact's tensors to the contract's.

    Raises:
        ConfigError: ``contract-mismatch`` if their numbers or shapes differ.
    """
    return Bindings(
        inputs=_bind(contract.inputs, inputs, what="inputs"), outputs=_bind(contract.outputs, outputs, what="outputs")
    )


def _bind(specs: Sequence[TensorSpec], raws: Sequence[Raw], *, what: str) -> tuple[Binding, ...]:
    ordered = order_by_name(specs, [raw.name for raw in raws], what=what)
    return tuple(_one(spec, raw, what=what) for spec, raw in zip(ordered, raws, strict=True))


def _one(spec: TensorSpec, raw: Raw, *, what: str) -> Binding:
    fits = len(spec.shape) == len(raw.shape) and all(
        isinstance(want, str) or isinstance(got, str) or want == got
        for want, got in zip(spec.shape, raw.shape, strict=True)
    )
    # A single number goes to a runtime as a row of one, and TFLite files made from ONNX have it so.
    row = what == "inputs" and spec.shape == () and raw.shape == (1,)
    if not (fits or row):
        raise ConfigError(
            "contract-mismatch",
            f"{what} {spec.name!r}: the contract expects shape {spec.shape}, the model's {raw.name!r} has {raw.shape}",
        )
    return Binding(
        tensor=spec.name,
        artifact_name=raw.name,
        index=raw.index,
        dtype=raw.dtype,
        shape=raw.shape,
        scale=raw.scale,
        zero_point=raw.zero_point,
    )
