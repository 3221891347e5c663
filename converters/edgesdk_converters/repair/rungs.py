"""The rungs of the repair ladder: which there are, what each changes, which error rate it may spend. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from edgesdk_converters import ALPHA
from edgesdk_converters.evaluate.alone import Alone, fewest
from edgesdk_converters.recipes import (
    Format,
    OnnxFloat16,
    OnnxStatic,
    OnnxWeights,
    Recipe,
    TfliteDynamic,
    TfliteStatic,
    TfliteWeights,
)

Kind = Literal[
    "asked",
    "7-bit",
    "8-bit",
    "core",
    "percentile",
    "mse",
    "16-bit",
    "island",
    "islands",
    "archipelago",
    "dynamic",
    "dynamic-island",
    "weights",
    "weights-island",
    "weights-islands",
    "weights-archipelago",
    "float16",
]
RANGES: tuple[Literal["percentile"], Literal["mse"]] = ("percentile", "mse")
NOISIEST: dict[Kind, int] = {"island": 1, "islands": 3}
"""How many layers stay in float where only their local noise is known."""
QUARTER = 4
"""The last rung then leaves a quarter of all layers in float."""
UNCALIBRATED = ("dynamic", "weights")
"""What rungs that need no ranges of activations begin with."""
WANTED_DB: dict[Kind, float] = {
    "island": 28.0,
    "islands": 34.0,
    "dynamic-island": 34.0,
    "weights-island": 34.0,
    "weights-islands": 40.0,
    "weights-archipelago": 46.0,
}
"""Signal-to-noise ratio at the outputs for which the fewest layers stay in float, where each was asked alone."""
MOST_FLOAT = 0.5
"""Where more than this share of the layers would stay in float, int8 is for nothing: the weights are better kept."""
FIRST_SHARE = 0.5
NAME_LENGTH = 40


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the calibration data says about layers.

    Attributes:
        ranges: The way to get ranges whose answers are nearest to float.
        noisy: Layers by the noise that they add to their own inputs', most first; known for every format.
        alone: What each layer costs if it alone is quantized; None where nobody asked.
    """

    ranges: Literal["minmax", "percentile", "mse"]
    noisy: Sequence[str] = ()
    alone: Sequence[Alone] | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a ladder is for.

    Attributes:
        recipe: As asked.
        format: Of the artifact.
        x86: Whether the target is an x86 processor.
        compiled: Whether a vendor's tool compiles the artifact, for what runs integers only.
        half: Whether the accelerator runs float16 where nothing is quantized.
    """

    recipe: Recipe
    format: Format
    x86: bool = False
    compiled: bool = False
    half: bool = False

    @property
    def saturates(self) -> bool:
        """Whether x86 without VNNI may saturate."""
        options = self.recipe.options(self.format)
        return self.x86 and isinstance(options, OnnxStatic) and not options.reduce_range

    @property
    def spares(self) -> bool:
        """Whether weights have 7 bits for an x86 that the target is not."""
        options = self.recipe.options(self.format)
        return self.mixes and not self.x86 and isinstance(options, OnnxStatic) and options.reduce_range

    @property
    def mixes(self) -> bool:
        """Whether arithmetic may run in float: on a CPU, or on a GPU."""
        options = self.recipe.options(self.format)
        qualcomm = isinstance(options, OnnxStatic) and options.qualcomm
        return isinstance(options, OnnxStatic | TfliteStatic) and not self.compiled and not qualcomm


def rungs(asked: Asked) -> tuple[Kind, ...]:
    """Return what is tried, in order; what is not calibrated has one rung only."""
    recipe = asked.recipe
    options = recipe.options(asked.format)
    if not isinstance(options, TfliteStatic | OnnxStatic):
        return ("asked",)
    ranges: tuple[Kind, ...] = tuple(kind for kind in RANGES if kind != recipe.calibration_range)
    first: tuple[Kind, ...] = ("asked", *(("7-bit",) if asked.saturates else ("8-bit",) if asked.spares else ()))
    wide: tuple[Kind, ...] = () if recipe.precision == "int16x8" else ("16-bit",)
    if not asked.mixes:
        # Islands would run in float32, if at all; float16 is what the accelerator has for float.
        last: tuple[Kind, ...] = ("float16",) if asked.half else ("island", "islands", "archipelago")
        return (*first, *ranges, *wide, *last)
    core: tuple[Kind, ...] = ("core",) if options.operators == "all" else ()
    own: tuple[Kind, ...] = ("island", "islands", "dynamic", "dynamic-island")
    if asked.format == "onnx":  # onnxruntime has no 16-bit kernels for a CPU, and no dynamic convolutions
        own, wide = ("island", "islands"), ()
    weights: tuple[Kind, ...] = ("weights", "weights-island", "weights-islands", "weights-archipelago")
    floats: tuple[Kind, ...] = ("float16",) if asked.half else weights
    # LiteRT computes 16-bit convolutions by its reference kernels: 30 times float's time on EfficientNet-Lite0.
    return (*first, *core, *ranges, *own, *floats, *wide)


def leaves_layers(kind: Kind) -> bool:
    """Say whether a rung leaves named layers in float."""
    return kind.endswith(("island", "islands", "archipelago"))


def alpha_of(place: int, count: int) -> float:
    """Return the error rate of the rung at a place (from 0) of a ladder of `count`; in all they have the gate's."""
    if count == 1:
        return ALPHA
    return ALPHA * (FIRST_SHARE if place == 0 else (1 - FIRST_SHARE) / (count - 1))


def changed(asked: Asked, kind: Kind, heard: Heard) -> Recipe | None:
    """Return the recipe of a rung; None where it would be none of its own.

    Args:
        asked: What the ladder is for.
        kind: The rung.
        heard: What the calibration data said so far; of weights for the rungs of weights.
    """
    recipe = asked.recipe
    own: dict[str, Any] = {"tflite": None, "onnx": None, asked.format: recipe.options(asked.format)}
    if kind not in {"asked", "7-bit", "8-bit"} and asked.mixes:
        own[asked.format] = _of_core(own[asked.format])
    if kind != "asked" and (asked.saturates or asked.spares):
        own["onnx"] = msgspec.structs.replace(own["onnx"], reduce_range=asked.saturates)
    if kind == "float16":
        half = OnnxFloat16(tiny="float32" if asked.mixes else "float16")
        own = {"tflite": None, "onnx": half, "calibration_range": "minmax", "wide_layers": ()}
    elif kind in RANGES:
        own["calibration_range"] = kind
    elif kind == "16-bit":
        wide = "int16" if asked.format == "tflite" else "uint16"
        own[asked.format] = msgspec.structs.replace(own[asked.format], activations=wide)
    elif kind.startswith(UNCALIBRATED):
        own |= {asked.format: _uncalibrated(asked.format, kind), "calibration_range": "minmax"}
    if leaves_layers(kind):
        left = _left(kind, heard)
        if not left:
            return None
        ranges = "minmax" if kind.startswith(UNCALIBRATED) else heard.ranges
        own |= {"calibration_range": ranges, "float_layers": (*recipe.float_layers, *left)}
    suffix = "" if kind == "asked" else f"-{kind}"
    name = recipe.name[: NAME_LENGTH - len(suffix)].rstrip("-") + suffix
    return msgspec.structs.replace(recipe, name=name, **own)


def _of_core(options: OnnxStatic | TfliteStatic) -> OnnxStatic | TfliteStatic:
    """Return options for the core alone; the ends of a TFLite file are float then."""
    more = {"inputs_outputs": "float32"} if isinstance(options, TfliteStatic) else {}
    return msgspec.structs.replace(options, operators="core", **more)


def _uncalibrated(artifact_format: Format, kind: Kind) -> TfliteDynamic | TfliteWeights | OnnxWeights:
    if artifact_format == "onnx":
        return OnnxWeights()
    return TfliteDynamic() if kind.startswith("dynamic") else TfliteWeights()


def _left(kind: Kind, heard: Heard) -> tuple[str, ...]:
    """Return the layers that stay in float; none where the rung would be none of its own."""
    if heard.alone is not None:
        found = fewest(heard.alone, WANTED_DB[kind])
        share = 1.0 if kind.startswith(UNCALIBRATED) else MOST_FLOAT
        few = len(found) < share * len(heard.alone)
        return tuple(name for each in found for name in each.names) if few else ()
    count = NOISIEST.get(kind, max(1, len(heard.noisy) // QUARTER))
    if kind == "archipelago" and count <= NOISIEST["islands"]:
        return ()
    return tuple(heard.noisy[:count])


@dataclass(frozen=True, kw_only=True)
class Point:
    """One rung that was tried.

    Attributes:
        rung: Its kind.
        recipe: The recipe's name.
        passed: Whether every gate let it pass.
        why: The gate's reason, or the error; empty if it passed.
        value: The metric of the artifact; None if it could not be made or run.
        source_value: The metric of the float source on the same samples.
        samples: How many those were: what is shown to be worse on a part is run on no more.
        interval: Of the loss.
        loss: How much worse it is, in `unit`.
        unit: The gate's: 1, or the standard deviation of value labels.
        greater: Whether more of the metric is better.
        size: Bytes of the artifact.
        speedup: How many times as fast as float on this machine; None where it was not timed.
        alpha: The error rate that its test could spend.
    """

    rung: Kind | Literal["float"]
    recipe: str
    passed: bool
    why: str = ""
    value: float | None = None
    source_value: float | None = None
    samples: int | None = None
    interval: tuple[float, float] | None = None
    loss: float | None = None
    unit: float = 1.0
    greater: bool = True
    size: int | None = None
    speedup: float | None = None
    alpha: float | None = None


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other is at least as good as in metric loss, bytes and speed, and better in one."""

    def goods(point: Point) -> tuple[float, float, float] | None:
        if point.loss is None or point.size is None:
            return None
        return -point.loss, -float(point.size), point.speedup or 0.0

    measured = [(point, good) for point in points if (good := goods(point)) is not None]
    return [
        point
        for point, good in measured
        if not any(other != good and all(a >= b for a, b in zip(other, good, strict=True)) for _, other in measured)
    ]
