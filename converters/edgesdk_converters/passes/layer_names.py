"""Layers that a recipe names: looked for as soon as the graph is known, before anything is calibrated or quantized."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from edgesdk.errors import ConfigError
from edgesdk.near import NEAR, nearest
from edgesdk_converters.evaluate.layers import short
from edgesdk_converters.passes.tflite_core import read_layers
from edgesdk_converters.recipes import names_layer
from edgesdk_converters.running.isolation import Call

TOOLS = ("litert-quantizer", "ai-edge-litert", "onnx")
STEP = "find layers of"
"""How the steps begin that do that."""
SHOWN = 8
APART = (
    "TFLite and ONNX name layers differently: give one --format, or a recipe of each, one file with [tflite] alone and "
    "one with [onnx] alone, without base."
)
"""What to do where the other format has such a layer."""
_WILD = "*?[]"


def find(call: Call) -> dict[str, Any]:
    """Child action: look in ``source`` for the layers that ``float_layers`` and ``wide_layers`` mean; answers how many.

    Raises:
        ConfigError: ``argument-invalid`` if a pattern means none.
    """
    layers = named(call.inputs["source"])
    asked: Mapping[str, Sequence[str]] = call.params
    for what, patterns in asked.items():
        of = "TFLite" if call.inputs["source"].suffix == ".tflite" else "ONNX"
        check_patterns(tuple(patterns), [name for names in layers for name in names], what, of)
    return {
        what: sum(names_layer(tuple(patterns), *names) for names in layers if names) for what, patterns in asked.items()
    }


def named(path: Path) -> list[list[str]]:
    """Return by what names each layer of a float file is meant: its node's (ONNX) and what it writes."""
    if path.suffix == ".tflite":
        return [list(layer.outputs) for layer in read_layers(path.read_bytes())]
    import onnx  # noqa: PLC0415 - only in the child

    graph = onnx.load(path, load_external_data=False).graph
    return [[name for name in (node.name, *node.output) if name] for node in graph.node]


def check_patterns(patterns: tuple[str, ...], names: Sequence[str], what: str, of: str) -> None:
    """Refuse a pattern that means no layer of a file of format `of`.

    Raises:
        ConfigError: ``argument-invalid``; the hint shows names, shortened to what a person knows them by.
    """
    for pattern in patterns:
        if not any(names_layer((pattern,), name) for name in names):
            hint = _meant(pattern, names) or _some(names)
            raise ConfigError(
                "argument-invalid", f"{what}: {pattern!r} names no layer of the {of} file", hint=f"{hint} {APART}"
            )


def _meant(pattern: str, names: Sequence[str]) -> str:
    """Return a question that offers layers of whose names a part is near to what a pattern says."""
    word = pattern.strip(_WILD).rstrip("/").rpartition("/")[2].strip(_WILD)
    parts = {part: short(name) for name in reversed(names) for part in re.split("[;/]", name) if part}
    found = [name for part, name in reversed(parts.items()) if word and word.casefold() in part.casefold()][:NEAR]
    found = list(dict.fromkeys(found or [parts[part] for part in nearest(word, parts)]))
    return f"Did you mean {' or '.join(f'*{escape(name)}*' for name in found)}?" if found else ""


def _some(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(map(short, names)))
    if not known:
        return "It has no layers."
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"Its layers, shortened: {', '.join(known[:SHOWN])}{more}. For example *{escape(known[0])}* names one."
