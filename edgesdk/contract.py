"""What a model's inputs and outputs mean to an app, whatever artifact computes them.

The *contract* speaks the app's language: named tensors in real units, their layout and range, normalisation, labels.
A *binding* (one per artifact tensor) says how a contract tensor is carried by one artifact: its name there, its dtype,
scale and zero point. An app sees only the contract; two variants of a release differ only in bindings.

Shapes may hold symbolic dimensions as strings (``"batch"``); a symbol must have one value within a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}$(?!\n)")]
Dim = Annotated[int, Meta(ge=1, le=2**31 - 1)] | Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$(?!\n)")]
DType = Literal["float32", "float16", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool", "string"]
Task = Literal["classification", "regression", "detection", "embedding", "other"]


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``(x - mean) / std`` along the last axis (or the channel axis of the layout), applied by the runtime.

    Both hold one number for each channel, or one for all of them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input, output or state tensor as an app sees it.

    Attributes:
        name: The name by which apps pass or receive it.
        shape: Sizes or symbols, batch dimension included.
        dtype: What the app passes or receives, before any quantization.
        layout: For example ``"NTC"``, ``"NHWC"``, ``"NCHW"``: one letter per dimension.
        colour: ``"RGB"``, ``"BGR"`` or ``"GRAY"`` for images.
        unit: Free text, for example ``"g, deg/s"``.
        range: Lowest and highest plausible value, inclusive; a value outside is an error of the caller.
        normalisation: Applied to inputs by the runtime before the artifact sees them.
    """

    name: Name
    shape: tuple[Dim, ...]
    dtype: DType = "float32"
    layout: str | None = None
    colour: Literal["RGB", "BGR", "GRAY"] | None = None
    unit: str | None = None
    range: tuple[float, float] | None = None
    normalisation: Normalisation | None = None


class StateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor that a stateful model hands back to itself: `output` of one call is `input` of the next."""

    input: Name
    output: Name
    reset: Literal["zeros"] = "zeros"


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The promise of a release to its apps.

    Attributes:
        version: ``"major.minor"``; an app asks for a major.
        task: What the first output means.
        inputs: Tensors that the app passes.
        outputs: Tensors that the app receives.
        labels: For a classification: the name of every class, in the order of the first output's last axis.
        states: State tensors and their reset, for stateful models.
        margin: Largest loss on truth examples (fraction of examples, 0..1) that a newcomer may have against the
            incumbent; see `edgesdk.stats`.
    """

    version: Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+$(?!\n)")]
    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    states: tuple[StateSpec, ...] = ()
    margin: Annotated[float, Meta(ge=0, le=1)] = 0.02

    @property
    def major(self) -> int:
        """The part of the version that apps ask for."""
        return int(self.version.split(".")[0])


class Binding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one contract tensor is carried by one artifact.

    ``real = (quantized - zero_point) * scale`` when `scale` is given; else the artifact takes the dtype as it is.
    """

    tensor: Name
    artifact_name: Annotated[str, Meta(max_length=512)]
    index: Annotated[int, Meta(ge=0, le=4096)]
    dtype: DType
    shape: tuple[Dim, ...]
    scale: float | None = None
    zero_point: int | None = None


class Bindings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bindings of one artifact, in the order of its own inputs and outputs."""

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]


def load_contract_toml(text: str) -> Contract:
    """Read a contract from TOML (the fields are those of `Contract`).

    Raises:
        msgspec.ValidationError: If a field is missing, unknown or of the wrong type.
    """
    return msgspec.toml.decode(text.encode(), type=Contract)


def same_major(asked: int | None, contract: Contract) -> bool:
    """Say whether an app that asks for major `asked` (None: any) can use `contract`."""
    return asked is None or asked == contract.major


def tensor(specs: Sequence[TensorSpec], name: str) -> TensorSpec | None:
    """Return the spec of that name, or None."""
    return next((spec for spec in specs if spec.name == name), None)
