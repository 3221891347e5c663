"""Float TFLite to float16, dynamic int8, full int8 and int16x8, by litert-quantizer with our ranges.

Traps: per-channel dense weights make a FULLY_CONNECTED version that tflite-runtime 2.14 refuses or computes wrongly;
what is unknown to the tool stays float without a word, so an artifact in which nothing changed is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ReleaseError
from edgesdk_converters.passes.flatbuffer import parse
from edgesdk_converters.passes.layer_names import check_patterns
from edgesdk_converters.passes.observe import read_values
from edgesdk_converters.passes.ranges import choose
from edgesdk_converters.passes.round_tflite import take
from edgesdk_converters.passes.tflite_core import Layer, core, read_layers
from edgesdk_converters.passes.tflite_io import with_uint8
from edgesdk_converters.passes.tflite_unread import with_unread
from edgesdk_converters.passes.tflite_widen import with_detours
from edgesdk_converters.recipes import Recipe, TfliteDynamic, TfliteFloat16, TfliteStatic, TfliteWeights, names_layer
from edgesdk_converters.running.isolation import Call

TOOLS = ("litert-quantizer", "ai-edge-litert", "numpy")
BITS = {"int8": 8, "int16": 16}

Ranges = dict[str, tuple[float, float]]
Statistics = dict[str, dict[str, NDArray[np.float32]]]


def quantize(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite`` from input ``source`` and, for static recipes, ``values``.

    Weights are taken from input ``rounded`` if there is one. Answers the ranges that were used, by tensor.
    """
    recipe = msgspec.convert(call.params["recipe"], Recipe)
    content = start(call.inputs, recipe)
    ranges = ranges_of(recipe, call.inputs["values"]) if recipe.calibrates("tflite") else {}
    made = quantized(content, recipe, ranges, read_layers(content))
    _check_changed(content, made)
    (call.out / "model.tflite").write_bytes(made)
    return {"ranges": {name: list(span) for name, span in ranges.items()}}


def start(inputs: Mapping[str, Path], recipe: Recipe) -> bytes:
    """Return the float file ``source`` with the weights of ``rounded``, but for the layers that a recipe leaves."""
    content = inputs["source"].read_bytes()
    return take(content, inputs["rounded"].read_bytes(), recipe.float_layers) if "rounded" in inputs else content


def quantized(content: bytes, recipe: Recipe, ranges: Ranges, layers: Sequence[Layer]) -> bytes:
    """Return a float file quantized by a recipe.

    Args:
        content: The file.
        recipe: With options for TFLite.
        ranges: Of the tensors; empty where nothing is calibrated.
        layers: Of the file.
    """
    from litert_quantizer import quantizer  # noqa: PLC0415 - only in the child

    tool = quantizer.Quantizer(content)
    _configure(tool, recipe, layers)
    result = tool.quantize(_statistics(ranges, layers) or None, enable_progress_bar=False, enable_progress_report=False)
    made = bytes(result.quantized_model)
    made = with_unread(made)
    if recipe.wide_layers:
        made = with_detours(made)
    if isinstance(recipe.tflite, TfliteStatic) and recipe.tflite.inputs_outputs == "uint8":
        made = with_uint8(made)
    return made


def _configure(tool: Any, recipe: Recipe, layers: Sequence[Layer]) -> None:
    from litert_quantizer import algorithm_manager, qtyping  # noqa: PLC0415 - only in the child

    every, dense = qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.TFLOperationName.FULLY_CONNECTED
    untouched = algorithm_manager.AlgorithmName.NO_QUANTIZE
    options = recipe.tflite
    if isinstance(options, TfliteFloat16):
        tool.add_weight_only_config(".*", every, 16, algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING)
    elif isinstance(options, TfliteDynamic):
        for operation, granularity in ((every, options.weights), (dense, options.dense_weights)):
            tool.add_dynamic_config(".*", operation, 8, qtyping.QuantGranularity[granularity])
    elif isinstance(options, TfliteWeights):
        tool.add_weight_only_config(".*", every, 8, qtyping.QuantGranularity.CHANNELWISE)
    elif isinstance(options, TfliteStatic):
        _integers(tool, options, recipe, layers)
    for scope in _named(layers, recipe.float_layers, "float_layers"):
        tool.update_quantization_recipe(scope, every, algorithm_key=untouched)


def _integers(tool: Any, options: TfliteStatic, recipe: Recipe, layers: Sequence[Layer]) -> None:
    from litert_quantizer import algorithm_manager, qtyping  # noqa: PLC0415 - only in the child

    for scope in [".*"] if options.operators == "all" else _core(layers, recipe):
        _static(tool, scope, options, BITS[options.activations])
    for scope in _named(layers, recipe.wide_layers, "wide_layers"):
        _static(tool, scope, options, 16)
    if options.inputs_outputs == "float32":
        for operation in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            tool.update_quantization_recipe(".*", operation, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)


def _static(tool: Any, scope: str, options: TfliteStatic, bits: int) -> None:
    from litert_quantizer import qtyping  # noqa: PLC0415 - only in the child

    every, dense = qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.TFLOperationName.FULLY_CONNECTED
    for operation, granularity in ((every, options.weights), (dense, options.dense_weights)):
        tool.add_static_config(scope, operation, bits, 8, weight_granularity=qtyping.QuantGranularity[granularity])


def _core(layers: Sequence[Layer], recipe: Recipe) -> list[str]:
    """Return the scopes of the core, without what stays in float and what moves its values."""
    return [layer.pattern for layer in core([each for each in layers if not _left(each, recipe)])]


def _left(layer: Layer, recipe: Recipe) -> bool:
    return names_layer(recipe.float_layers, *layer.outputs)


def _named(layers: Sequence[Layer], patterns: tuple[str, ...], what: str) -> Iterator[str]:
    """Yield the scopes of the layers that are meant, as patterns that match nothing else."""
    names = [name for layer in layers for name in layer.outputs]
    check_patterns(patterns, names, what, "TFLite")
    for layer in layers:
        if names_layer(patterns, *layer.outputs):
            yield layer.pattern


def ranges_of(recipe: Recipe, values: Path) -> Ranges:
    """Return the range of every tensor by the rule of a recipe with static options, from what `observe` wrote."""
    options = recipe.tflite
    assert isinstance(options, TfliteStatic)
    ranges = {}
    for name, seen in read_values(values).items():
        wide = options.activations == "int16" or names_layer(recipe.wide_layers, name)
        bits = 16 if wide else 8
        ranges[name] = choose(seen, recipe.calibration_range, percentile=recipe.percentile, bits=bits, symmetric=wide)
    return ranges


def _statistics(ranges: Ranges, layers: Sequence[Layer]) -> Statistics:
    """Return ranges as the tool wants them: arrays of the tensor's rank and one element."""
    ranks = {name: rank for layer in layers for name, rank in layer.outputs.items()}
    return {
        name: {"min": np.full([1] * ranks[name], low, np.float32), "max": np.full([1] * ranks[name], high, np.float32)}
        for name, (low, high) in ranges.items()
        if name in ranks
    }


def _check_changed(before: bytes, after: bytes) -> None:
    """Refuse an artifact whose weights are as they were.

    Raises:
        ReleaseError: ``conversion-failed``.
    """
    if len(after) > 0 and _types(before) == _types(after):
        raise ReleaseError("conversion-failed", "litert-quantizer quantized nothing: no operator is supported")


def _types(content: bytes) -> list[int]:
    return sorted({int(tensor.type) for graph in parse(content).subgraphs for tensor in graph.tensors})
