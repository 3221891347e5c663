"""Named recipes: how the numbers of an artifact are made. Frozen, and written into the lineage of what they made."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgesdk.errors import ConfigError

Format = Literal["tflite", "onnx"]
Precision = Literal["float32", "int8"]


class TfliteInt8(msgspec.Struct, frozen=True, kw_only=True):
    """Options of full-integer TFLite: int8 inputs, outputs, weights and activations, ranges by minimum and maximum.

    Attributes:
        weights: Granularity of the weights of convolutions.
        dense_weights: Granularity of the weights of dense layers: per channel they make a FULLY_CONNECTED version
            that old interpreters refuse or, worse, compute wrongly.
    """

    weights: Literal["CHANNELWISE", "TENSORWISE"] = "CHANNELWISE"
    dense_weights: Literal["CHANNELWISE", "TENSORWISE"] = "TENSORWISE"


class OnnxInt8(msgspec.Struct, frozen=True, kw_only=True):
    """Options of static QDQ quantization with ranges by minimum and maximum.

    Attributes:
        per_channel: One scale per output channel of a weight.
        reduce_range: 7-bit weights: x86 without VNNI adds two products of 8 x 8 bits in 16 bits and saturates.
        symmetric_activations: Zero point 0 for activations.
    """

    per_channel: bool = True
    reduce_range: bool = True
    symmetric_activations: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One way to make artifacts; a format whose options are None is left in float32."""

    name: str
    summary: str
    precision: Precision
    tflite: TfliteInt8 | None = None
    onnx: OnnxInt8 | None = None

    def quantizes(self, artifact_format: Format) -> bool:
        """Say whether artifacts of this format get quantized."""
        return (self.tflite if artifact_format == "tflite" else self.onnx) is not None


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="float", summary="float32, as trained", precision="float32"),
        Recipe(
            name="int8",
            summary="full int8 TFLite; QDQ int8 ONNX with 7-bit weights, safe on every CPU",
            precision="int8",
            tflite=TfliteInt8(),
            onnx=OnnxInt8(),
        ),
        Recipe(
            name="int8-per-channel-fast",
            summary="8-bit per-channel weights, symmetric activations: fast, and saturates on x86 without VNNI",
            precision="int8",
            tflite=TfliteInt8(),
            onnx=OnnxInt8(reduce_range=False, symmetric_activations=True),
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ConfigError: ``argument-invalid`` if there is none.
    """
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(RECIPES)
        raise ConfigError(
            "argument-invalid", f"no recipe is called {name!r}", hint=f"Choose one of: {known}."
        ) from None
