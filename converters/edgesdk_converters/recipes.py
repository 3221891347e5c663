"""Recipes: how the numbers of an artifact are made. Frozen, and written into the lineage of what they made.

A recipe holds one table of options per artifact format, told apart by `kind`; without a table it makes no artifact of
that format. People write their own as TOML, from nothing or from a named one (`read_recipe`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta

from edgesdk.errors import ConfigError
from edgesdk.near import did_you_mean
from edgesdk_converters.recipe_hints import hint

Format = Literal["tflite", "onnx"]
Precision = Literal["float32", "float16", "int8", "int8-dynamic", "int16x8"]
Granularity = Literal["CHANNELWISE", "TENSORWISE"]
Ranges = Literal["minmax", "percentile", "mse"]
Operators = Literal["all", "core"]
Rounding = Literal["nearest", "calibrated"]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers to which calibration data rounds weights.

    Attributes:
        most: The largest whole number.
        whole: Whether a dense layer has one scale for all channels.
    """

    most: int
    whole: bool = False


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Options of one artifact format."""


class TfliteFloat32(_Options, frozen=True, kw_only=True, tag="float32"):
    """Float TFLite, as the source gives it."""

    precision: ClassVar[Precision] = "float32"


class TfliteFloat16(_Options, frozen=True, kw_only=True, tag="float16"):
    """Weights in float16 that the interpreter widens on load; computed in float32 where it knows no better."""

    precision: ClassVar[Precision] = "float16"


class TfliteDynamic(_Options, frozen=True, kw_only=True, tag="dynamic"):
    """Weights in int8; activations are float outside of operators and quantized on the fly within them.

    Attributes:
        weights: Granularity of the weights of convolutions.
        dense_weights: As in `TfliteStatic`; per channel, tflite-runtime 2.14 computes them wrongly without a word.
    """

    weights: Granularity = "CHANNELWISE"
    dense_weights: Granularity = "TENSORWISE"
    precision: ClassVar[Precision] = "int8-dynamic"


class TfliteStatic(_Options, frozen=True, kw_only=True, tag="static"):
    """Full-integer TFLite: weights in int8, activations in int8 or int16, their ranges calibrated.

    Attributes:
        activations: With int16 they are symmetric, and biases have 64 bits.
        inputs_outputs: What the artifact takes and gives; ``activations`` are the inner type itself.
        weights: Granularity of the weights of convolutions.
        dense_weights: Granularity of the weights of dense layers: per channel they make a FULLY_CONNECTED version
            that old interpreters refuse or, worse, compute wrongly.
        operators: ``all`` that the tool can; or the ``core``, as in `OnnxStatic`: inputs and outputs then stay float.
        rounding: Of weights: each to the ``nearest``, or ``calibrated``, by what their layer reads of the calibration
            data, so that errors make good each other. Only where convolutions have a scale per channel.
    """

    activations: Literal["int8", "int16"] = "int8"
    inputs_outputs: Literal["activations", "uint8", "float32"] = "activations"
    weights: Granularity = "CHANNELWISE"
    dense_weights: Granularity = "TENSORWISE"
    operators: Operators = "all"
    rounding: Rounding = "calibrated"

    @property
    def precision(self) -> Precision:
        """What profiles call it."""
        return "int8" if self.activations == "int8" else "int16x8"

    @property
    def grid(self) -> Grid | None:
        """To which calibration data rounds weights; None where it does not."""
        if self.rounding == "nearest" or self.weights != "CHANNELWISE":
            return None
        return Grid(most=127, whole=self.dense_weights == "TENSORWISE")


class TfliteWeights(_Options, frozen=True, kw_only=True, tag="weights"):
    """Weights in int8, one scale per output channel, which are widened once, on load; everything is computed in float.

    Nearer to float than `TfliteDynamic`, and no faster than it.

    Attributes:
        rounding: As in `TfliteStatic`; without calibration data each goes to the nearest.
    """

    rounding: Rounding = "calibrated"
    precision: ClassVar[Precision] = "int8-dynamic"

    @property
    def grid(self) -> Grid | None:
        """To which calibration data rounds weights; None where it does not."""
        return Grid(most=127) if self.rounding == "calibrated" else None


class OnnxFloat32(_Options, frozen=True, kw_only=True, tag="float32"):
    """Float ONNX, as the source gives it."""

    precision: ClassVar[Precision] = "float32"


class OnnxFloat16(_Options, frozen=True, kw_only=True, tag="float16"):
    """Weights and activations in float16, cast inside the file; inputs and outputs stay float32.

    Attributes:
        tiny: What is done with constants below 1e-7, as in ``log(x * x + 1e-10)``. ``float32``: they and what they are
            added to stay in float32. ``float16``: they become 6e-8, the least half, for accelerators without float32.
    """

    precision: ClassVar[Precision] = "float16"
    tiny: Literal["float32", "float16"] = "float32"


class OnnxDynamic(_Options, frozen=True, kw_only=True, tag="dynamic"):
    """Weights in 8 bits; activations are quantized on the fly.

    Attributes:
        per_channel: One scale per output channel of a weight.
        reduce_range: See `OnnxStatic`.
    """

    per_channel: bool = True
    reduce_range: bool = True
    precision: ClassVar[Precision] = "int8-dynamic"


class OnnxStatic(_Options, frozen=True, kw_only=True, tag="static"):
    """Static QDQ quantization; inputs and outputs stay float32.

    Attributes:
        activations: 16 bits need opset 21.
        weights: Type of the weights.
        per_channel: One scale per output channel of a weight.
        reduce_range: 7-bit weights: x86 without VNNI adds two products of 8 x 8 bits in 16 bits and saturates.
        symmetric_activations: Zero point in the middle of the type for activations.
        quantized_bias: Whether biases become int32, which TensorRT refuses.
        qualcomm: Whether the rules of Qualcomm's HTP hold: every operator is quantized, no MatMul per channel, fixed
            ranges for 16-bit Sigmoid and Tanh, and no range narrower than 0.0001.
        operators: ``all`` that onnxruntime can; or the ``core``: convolutions and matrix products, which is where int8
            is faster, and what only moves or clips their values. The arithmetic between them stays in float.
        rounding: As in `TfliteStatic`; only for signed weights with a scale per channel.
    """

    activations: Literal["int8", "uint8", "int16", "uint16"] = "int8"
    weights: Literal["int8", "uint8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = True
    symmetric_activations: bool = False
    quantized_bias: bool = True
    qualcomm: bool = False
    operators: Operators = "all"
    rounding: Rounding = "calibrated"

    @property
    def precision(self) -> Precision:
        """What profiles call it."""
        return "int8" if self.activations in {"int8", "uint8"} else "int16x8"

    @property
    def grid(self) -> Grid | None:
        """To which calibration data rounds weights; None where it does not."""
        if self.rounding == "nearest" or self.weights != "int8" or not self.per_channel or self.qualcomm:
            return None
        return Grid(most=64 if self.reduce_range else 127)


class OnnxWeights(_Options, frozen=True, kw_only=True, tag="weights"):
    """Weights in int8, one scale per output channel; everything is computed in float.

    onnxruntime has no 16-bit kernels for a CPU, so this is as fast there as 16-bit activations, and nearer to float.

    Attributes:
        rounding: As in `OnnxStatic`; without calibration data each goes to the nearest.
    """

    rounding: Rounding = "calibrated"
    precision: ClassVar[Precision] = "int8-dynamic"

    @property
    def grid(self) -> Grid | None:
        """As in `OnnxStatic`."""
        return Grid(most=127) if self.rounding == "calibrated" else None


TfliteOptions = TfliteFloat32 | TfliteFloat16 | TfliteDynamic | TfliteStatic | TfliteWeights
OnnxOptions = OnnxFloat32 | OnnxFloat16 | OnnxDynamic | OnnxStatic | OnnxWeights
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$(?!\n)", max_length=40)]


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to make artifacts.

    Layers are named by nodes (ONNX) or by the tensors that they write (both), whole or as a shell pattern
    (``*/softmax*``).

    Attributes:
        name: Unique; part of the names of variants.
        summary: One line for people.
        tflite: Options for TFLite; None: this recipe makes none.
        onnx: Options for ONNX; None: this recipe makes none.
        calibration_range: How static quantization gets the ranges of activations: all that occurs (``minmax``), all
            but the rarest (``percentile``), or what loses least in square error (``mse``).
        percentile: Percentage of values that ``percentile`` keeps, half of the rest cut at either end.
        float_layers: Layers that stay in float among quantized ones (*float islands*).
        wide_layers: Layers whose activations get 16 bits among those of 8.
    """

    name: Name
    summary: str = ""
    tflite: TfliteOptions | None = None
    onnx: OnnxOptions | None = None
    calibration_range: Ranges = "minmax"
    percentile: Annotated[float, Meta(gt=50, le=100)] = 99.99
    float_layers: tuple[str, ...] = ()
    wide_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what the types do not.

        Raises:
            ValueError: If the recipe makes nothing, or artifacts of two precisions.
        """
        if len({options.precision for options in self._tables()}) != 1:
            msg = "a recipe needs options for tflite or onnx, and of one precision"
            raise ValueError(msg)

    @property
    def precision(self) -> Precision:
        """What profiles call it; the same for all formats."""
        return self._tables()[0].precision

    def makes(self, artifact_format: Format) -> bool:
        """Say whether this recipe makes artifacts of a format."""
        return self.options(artifact_format) is not None

    def quantizes(self, artifact_format: Format) -> bool:
        """Say whether its artifacts of a format differ from the float source."""
        return self.makes(artifact_format) and self.precision != "float32"

    def calibrates(self, artifact_format: Format) -> bool:
        """Say whether it needs the ranges of activations."""
        return isinstance(self.options(artifact_format), TfliteStatic | OnnxStatic)

    def grid(self, artifact_format: Format) -> Grid | None:
        """Return the numbers to which calibration data rounds its weights; None where it does not."""
        options = self.options(artifact_format)
        return options.grid if isinstance(options, TfliteStatic | TfliteWeights | OnnxStatic | OnnxWeights) else None

    def options(self, artifact_format: Format) -> TfliteOptions | OnnxOptions | None:
        """Return the options for a format."""
        return self.tflite if artifact_format == "tflite" else self.onnx

    def _tables(self) -> list[TfliteOptions | OnnxOptions]:
        return [options for options in (self.tflite, self.onnx) if options is not None]


def names_layer(patterns: tuple[str, ...], *names: str) -> bool:
    """Say whether one of a layer's names is meant by one of the patterns."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns for name in names)


_SATURATING = OnnxStatic(reduce_range=False, symmetric_activations=True)
_QUALCOMM = OnnxStatic(activations="uint8", weights="uint8", reduce_range=False, per_channel=False, qualcomm=True)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="float", summary="float32, as trained", tflite=TfliteFloat32(), onnx=OnnxFloat32()),
        Recipe(
            name="float16",
            summary="float16 weights (TFLite), float16 but for what it cannot hold (ONNX); float32 inputs and outputs",
            tflite=TfliteFloat16(),
            onnx=OnnxFloat16(),
        ),
        Recipe(
            name="int8",
            summary="full int8 TFLite; QDQ int8 ONNX (convolutions, matrix products; 7-bit weights, safe on every CPU)",
            tflite=TfliteStatic(),
            onnx=OnnxStatic(operators="core"),
        ),
        Recipe(
            name="int8-dynamic",
            summary="int8 weights, activations quantized on the fly: needs no calibration",
            tflite=TfliteDynamic(),
            onnx=OnnxDynamic(),
        ),
        Recipe(
            name="int8-weights",
            summary="int8 weights, computed in float: small and near float, not faster; calibration data is optional",
            tflite=TfliteWeights(),
            onnx=OnnxWeights(),
        ),
        Recipe(
            name="int8-uint8-io",
            summary="full int8 TFLite that takes and gives uint8",
            tflite=TfliteStatic(inputs_outputs="uint8"),
        ),
        Recipe(
            name="int8-float-io",
            summary="int8 TFLite that takes and gives float32 (as QDQ ONNX always does)",
            tflite=TfliteStatic(inputs_outputs="float32"),
        ),
        Recipe(
            name="int16x8",
            summary="int16 activations, int8 weights: near float where int8 activations are too coarse",
            tflite=TfliteStatic(activations="int16"),
        ),
        Recipe(
            name="int8-per-channel-fast",
            summary="8-bit per-channel weights, symmetric activations: fast, and saturates on x86 without VNNI",
            tflite=TfliteStatic(),
            onnx=_SATURATING,
        ),
        Recipe(
            name="int8-tensorrt",
            summary="QDQ ONNX as TensorRT takes it: symmetric int8, per-channel weights, float biases",
            onnx=msgspec.structs.replace(_SATURATING, quantized_bias=False),
        ),
        Recipe(name="int8-qnn", summary="QDQ ONNX as Qualcomm's HTP takes it: uint8 throughout", onnx=_QUALCOMM),
        Recipe(
            name="int16-qnn",
            summary="QDQ ONNX for Qualcomm's HTP with uint16 activations",
            onnx=msgspec.structs.replace(_QUALCOMM, activations="uint16"),
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name, or the one in the file `name` if that ends with ``.toml``.

    Raises:
        ConfigError: ``argument-invalid`` if there is none, ``file-missing`` or ``config-invalid`` for a file.
    """
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    try:
        return RECIPES[name]
    except KeyError:
        hint = f"{did_you_mean(name, RECIPES)}Choose one of: {', '.join(RECIPES)}; or give a .toml file."
        raise ConfigError("argument-invalid", f"no recipe is called {name!r}", hint=hint) from None


def find_recipes(names: Sequence[str]) -> list[Recipe]:
    """Return recipes by names and files, each once.

    Raises:
        ConfigError: As `find_recipe`; ``argument-invalid`` if two files give one name to different recipes.
    """
    found: dict[str, Recipe] = {}
    for name in names:
        recipe = find_recipe(name)
        if found.setdefault(recipe.name, recipe) != recipe:
            raise ConfigError("argument-invalid", f"two recipes are called {recipe.name!r}")
    return list(found.values())


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML: fields of `Recipe`, and ``base``, the named recipe whose fields it changes.

    Without a name it has that of the file.

    Raises:
        ConfigError: ``file-missing``, or ``config-invalid`` naming the field.
    """
    try:
        written = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError("file-missing", f"no recipe file {path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError("config-invalid", f"{path} is no TOML file: {error}") from error
    base = written.pop("base", None)
    if base is not None and base not in RECIPES:
        raise ConfigError("config-invalid", f"{path}: base {base!r} is none of {', '.join(RECIPES)}")
    start = msgspec.to_builtins(RECIPES[base]) if base is not None else {}
    start = {key: value for key, value in start.items() if key not in {"name", "summary"}}
    try:
        recipe = msgspec.convert({"name": path.stem, **_merged(start, written)}, Recipe)
    except msgspec.ValidationError as error:
        do = hint(str(error), Recipe, (*get_args(TfliteOptions), *get_args(OnnxOptions)))
        raise ConfigError("config-invalid", f"{path} is no recipe: {error}", hint=do) from error
    if recipe.name in RECIPES:
        raise ConfigError("config-invalid", f"{path}: the name {recipe.name!r} is taken; give it another")
    return recipe


def _merged(start: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `start` with the changes; tables of the same kind are merged, others replaced."""
    merged = dict(start)
    for key, value in changes.items():
        before = merged.get(key)
        same = isinstance(before, dict) and isinstance(value, dict) and value.get("kind") in {None, before["kind"]}
        merged[key] = {**before, **value} if same and isinstance(before, dict) else value
    return merged
