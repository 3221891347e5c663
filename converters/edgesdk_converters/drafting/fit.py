"""Whether a contract fits a model. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.drafting.ports import Port, Ports


def fit(contract: Contract, ports: Ports) -> list[dict[str, Any]]:
    """Return which tensor of the contract is which of the model.

    Raises:
        ConfigError: ``contract-mismatch`` with every difference.
    """
    pairs = [
        *_paired("input", contract.inputs, ports.inputs),
        *_paired("output", contract.outputs, ports.outputs),
    ]
    wrong = [what for kind, spec, port in pairs for what in _differences(kind, spec, port)]
    if wrong:
        raise ConfigError("contract-mismatch", "; ".join(wrong))
    return [
        {"kind": kind, "contract": spec.name, "model": port.name, "shape": list(spec.shape), "dtype": spec.dtype}
        for kind, spec, port in pairs
    ]


def _channels(spec: TensorSpec) -> Iterator[str]:
    """Yield what layout, colour and normalisation say of the number of channels, where it is another."""
    if spec.layout is None or len(spec.layout) != len(spec.shape) or "C" not in spec.layout:
        return
    size = spec.shape[spec.layout.index("C")]
    colours = {"RGB": 3, "BGR": 3, "GRAY": 1}
    norm = spec.normalisation
    said = [("colour", colours[spec.colour])] if spec.colour is not None else []
    # One number is for all channels, as on devices.
    said += [("normalisation", count) for count in sorted({len(norm.mean), len(norm.std)} - {1})] if norm else []
    for word, count in said:
        if count != size:
            yield f"input {spec.name!r}: layout {spec.layout!r} gives {size} channels, {word} is for {count}"
    if norm is not None and len(norm.mean) != len(norm.std):
        yield f"input {spec.name!r}: normalisation has {len(norm.mean)} means and {len(norm.std)} deviations"


def _paired(kind: str, specs: Sequence[TensorSpec], ports: Sequence[Port]) -> list[tuple[str, TensorSpec, Port]]:
    ordered = order_by_name(specs, [port.name for port in ports], what=f"{kind}s")
    return [(kind, spec, port) for spec, port in zip(ordered, ports, strict=True)]


def _differences(kind: str, spec: TensorSpec, port: Port) -> Iterator[str]:
    fits = len(spec.shape) == len(port.shape) and all(
        have is None or isinstance(want, str) or want == have for want, have in zip(spec.shape, port.shape, strict=True)
    )
    if not fits:
        has = tuple("?" if size is None else size for size in port.shape)
        yield f"{kind} {spec.name!r} expected shape {spec.shape}, the model's {port.name!r} has {has}"
    still_open = [axis for axis, size in enumerate(spec.shape) if axis and isinstance(size, str) and kind == "input"]
    if still_open:
        [axis, *_] = still_open
        yield f"input {spec.name!r}: size {axis} is open ({spec.shape[axis]!r}); only the batch may be"
    yield from _channels(spec)
    if spec.layout is not None and len(spec.layout) != len(spec.shape):
        yield f"{kind} {spec.name!r}: layout {spec.layout!r} has {len(spec.layout)} letters for {len(spec.shape)} axes"
