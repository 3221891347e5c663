"""Per layer: how far is each tensor of an artifact from the float file's, and where does the error start?

Quantization adds noise in every layer, and layers pass on what they were given. So a layer is held against its own
inputs: the error *starts* where the noise-to-signal ratio rises by at least a quarter of the worst in the graph and by
at least one percent. A few dozen samples are run one at a time; only sums are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk.errors import EdgeError
from edgesdk_converters.data.npz import DataSet, open_data
from edgesdk_converters.evaluate.differences import Difference, Differences
from edgesdk_converters.evaluate.exposed import Exposed, Node, counterpart, counterparts, expose
from edgesdk_converters.running.isolation import Call

SAMPLES = 32
PART_OF_WORST = 0.25
LEAST = 0.01
MOST_LAYERS = 400
"""Of a larger graph the report shows the worst."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One compared tensor.

    Attributes:
        name: The float file's name of it.
        op: What computes it; ``input`` for the graph's own.
        added: How much its noise-to-signal ratio is above its worst input's.
        figures: How far the artifact's is from it.
    """

    name: str
    op: str
    added: float
    figures: Difference


def compare_layers(call: Call) -> dict[str, Any]:
    """Child action: compare input ``artifact`` with ``source`` on up to `SAMPLES` rows of ``samples``, layer by layer.

    Answers ``{"compared": True, "samples", "layers", "start", "sentence"}``, or ``{"compared": False, "reason"}`` where
    tensors cannot be mapped: that is no fault of the artifact.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["samples"], contract, labelled=False)
    try:
        source, artifact = (
            expose(call.inputs[name], call.params["format"], contract) for name in ("source", "artifact")
        )
        found, count = _differences(source, artifact, data, call)
    except (EdgeError, RuntimeError, ValueError, KeyError) as error:
        return {"compared": False, "reason": f"{type(error).__name__}: {error}"[:300]}
    layers = attribute(
        [*(Node(name=name, op="input", inputs=()) for name in source.inputs.values()), *source.nodes], found
    )
    if not layers:
        return {"compared": False, "reason": "no tensor of the artifact is named as one of the float file"}
    start = first_broken(layers)
    return {
        "compared": True,
        "samples": count,
        "layers": [msgspec.to_builtins(layer) for layer in _shown(layers)],
        "start": start.name if start is not None else None,
        "sentence": sentence(layers, start),
    }


def _differences(source: Exposed, artifact: Exposed, data: DataSet, call: Call) -> tuple[dict[str, Difference], int]:
    rows = set(np.unique(np.linspace(0, data.count - 1, SAMPLES).astype(np.int64)).tolist())
    sums: dict[str, Differences] = {}
    renamed, done = counterparts(source, artifact), 0
    for row, sample in enumerate(data.samples()):
        if row not in rows:
            continue
        ours, theirs = source.run(sample), artifact.run(sample)
        for name, values in ours.items():
            other = counterpart(name, theirs, renamed)
            if other is not None and other.shape == values.shape and values.dtype.kind == "f":
                sums.setdefault(name, Differences()).add(values, other)
        done += 1
        call.progress(done, len(rows))
    figures = {name: each.figures() for name, each in sums.items()}
    return {name: each for name, each in figures.items() if each is not None}, done


def attribute(nodes: Sequence[Node], found: Mapping[str, Difference]) -> list[Layer]:
    """Return the compared layers in the order in which they run, each with the noise that it adds."""
    noise: dict[str, float] = {}
    layers = []
    for node in nodes:
        before = max((noise.get(name, 0.0) for name in node.inputs), default=0.0)
        figures = found.get(node.name)
        noise[node.name] = before if figures is None else figures.noise
        if figures is not None:
            layers.append(Layer(name=node.name, op=node.op, added=figures.noise - before, figures=figures))
    return layers


def first_broken(layers: Sequence[Layer]) -> Layer | None:
    """Return the layer at which the error starts; None if no layer adds much."""
    worst = max(min(layer.figures.noise, 1.0) for layer in layers)
    enough = max(LEAST, PART_OF_WORST * worst)
    return next((layer for layer in layers if layer.added >= enough), None)


def sentence(layers: Sequence[Layer], start: Layer | None) -> str:
    """Return one sentence that says which layer broke, or that none did."""
    if start is None:
        worst = min(layers, key=lambda layer: layer.figures.snr_db)
        return f"no layer breaks: the worst, {short(worst.name)} ({worst.op}), keeps {worst.figures.snr_db:.0f} dB"
    before = start.figures.noise - start.added
    came = f"from {-10 * np.log10(before):.0f} dB " if before > 0 else ""
    figures = f"the signal-to-noise ratio falls {came}to {start.figures.snr_db:.0f} dB"
    return f"the error starts at {'' if start.op == 'input' else 'layer '}{short(start.name)} ({start.op}): {figures}"


def short(name: str) -> str:
    """Return the part of a converter's tensor name by which a person knows the layer."""
    last = name.rpartition(";")[2].removesuffix(":0")
    parts = [part for part in last.split("/") if part]
    return "/".join(parts[-2:]) or name


def _shown(layers: list[Layer]) -> list[Layer]:
    if len(layers) <= MOST_LAYERS:
        return layers
    worst = sorted(layers, key=lambda layer: layer.added, reverse=True)[:MOST_LAYERS]
    kept = {layer.name for layer in worst}
    return [layer for layer in layers if layer.name in kept]
