"""What pages and the terminal say of a figure in words: one sign convention, one description per format. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgesdk_converters.evaluate.layers import short

Plain = Mapping[str, Any]
ERRORS = frozenset({"rmse", "mae"})
"""Metrics that are no shares, and of which less is better."""
NAMED = 3


def kind_of(found: Plain) -> Plain:
    """Say of an evaluation's metric whether it is a share, which changes by points, and whether more is better."""
    kind: Plain = found["details"]["metric"]
    return kind


def change(difference: float, interval: Sequence[float] | None, *, share: bool, unit: bool = True) -> str:
    """Return a change, artifact minus float: of a share in points, else in the metric's own unit.

    Args:
        difference: The change.
        interval: Its bounds; None: not known.
        share: Whether the metric is a share.
        unit: Whether points are called so.
    """
    shown = [_signed(each, share=share) for each in (difference, *(interval or ()))]
    bounds = f" ({shown[1]} to {shown[2]})" if interval else ""
    return f"{shown[0]}{' points' if share and unit else ''}{bounds}"


def _signed(value: float, *, share: bool) -> str:
    return f"{round(100 * value, 2) + 0.0:+.2f}" if share else f"{value + 0.0:+.4g}"


def worse(*, greater: bool) -> str:
    """Return which sign of a change is the worse one."""
    return f"{'minus' if greater else 'plus'} is worse than float"


def is_share(report: Plain) -> bool:
    """Say whether a report's metric is a share; of a user's own metric that was never measured: no."""
    for variant in report["variants"]:
        if variant.get("evaluation"):
            return bool(kind_of(variant["evaluation"])["share"])
    metric = str(report.get("metric", ""))
    return metric not in ERRORS and ":" not in metric


def rung_change(point: Plain, *, share: bool, unit: bool = True) -> str:
    """Return by how much a rung of the repair ladder changes the metric; empty where it was not judged.

    A ladder counts losses in the gate's unit, turned so that more is worse; people read changes.
    """
    loss, value, source = (point.get(key) for key in ("loss", "value", "source_value"))
    if loss is None:
        return ""
    scale = (point["unit"] or 1.0) * (-1 if point["greater"] else 1)  # a unit of 0: `loss_interval` divides by none
    difference = scale * loss if value is None or source is None else value - source
    interval = point.get("interval")
    bounds = sorted(scale * each for each in interval) if interval else None
    return change(difference, bounds, share=share, unit=unit)


def artifact_name(variant: Plain) -> str:
    """Return what an artifact is called: its format and recipe; with its target where a vendor's tool quantized it."""
    tail = f" for {variant['target']}" if variant.get("made_by") else ""
    return f"{variant['format']} {variant['recipe']['name']}{tail}"


def described(recipe: Plain, artifact_format: str, made: Plain | None = None) -> str:
    """Return what a recipe does to a format, as a phrase; recipes make several formats, each in its own way.

    Args:
        recipe: The recipe.
        artifact_format: The format.
        made: What the step that followed the recipe told; None: it is not known.
    """
    options: Plain = recipe.get(artifact_format) or {}
    if not options:
        words = str(recipe.get("summary", ""))
    else:
        words = _tflite(options) if artifact_format == "tflite" else _onnx(options, made or {})
    ranges = recipe.get("calibration_range", "minmax")
    if options.get("kind") == "static" and ranges != "minmax":
        words += "; ranges by " + {"percentile": "percentile", "mse": "least square error"}[ranges]
    for key, what in (("float_layers", "left in float"), ("wide_layers", "with 16-bit activations")):
        if named := list(dict.fromkeys(short(name) for name in recipe.get(key) or ())):
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            words += f"; {what}: {', '.join(named[:NAMED])}{more}"
    return words


_SIMPLE = {
    "float32": "float32, as trained",
    "dynamic": "int8 weights, activations quantized on the fly",
    "weights": "int8 weights, computed in float",
}


def _tflite(options: Plain) -> str:
    kind = options["kind"]
    if kind == "float16":
        return "float16 weights, widened on load; float32 inputs and outputs"
    if kind != "static":
        return _SIMPLE[kind]
    inner = options.get("activations", "int8")
    outer = options.get("inputs_outputs", "activations")
    if options.get("operators", "all") == "core":
        return f"int8 weights and {inner} activations of convolutions and matrix products; takes and gives float32"
    return (
        f"int8 weights and {inner} activations throughout; takes and gives {inner if outer == 'activations' else outer}"
    )


def _half(options: Plain, made: Plain) -> str:
    """Return what float16 of ONNX is: what half precision cannot hold stays in float32, operators are counted."""
    ends, single = "float32 inputs and outputs", made.get("float32_operators")
    if single:
        return f"float16 inside but for {single} of {made['float_operators']} operators, which stay in float32; {ends}"
    whole = single == 0 or options.get("tiny") == "float16"
    return f"float16 inside{'' if whole else ' but for what it cannot hold, which stays in float32'}; {ends}"


def _onnx(options: Plain, made: Plain) -> str:
    kind = options["kind"]
    if kind == "float16":
        return _half(options, made)
    if kind != "static":
        return _SIMPLE[kind]
    weights = "7-bit" if options.get("reduce_range", True) else options.get("weights", "int8")
    channels = " per-channel" if options.get("per_channel", True) else ""
    core = "convolutions and matrix products" if options.get("operators", "all") == "core" else "every operator"
    return (
        f"QDQ of {core}: {weights}{channels} weights, {options.get('activations', 'int8')} activations; "
        "takes and gives float32"
    )
