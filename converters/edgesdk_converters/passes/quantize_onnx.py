"""Float ONNX to static QDQ, by onnxruntime's quantizer with our ranges.

Traps: onnxruntime's Entropy calibration equals MinMax, Distribution gives garbage, and all of them hold everything in
memory; so it gets finished ranges. Files are pinned to the target's IR, as onnx writes its newest by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgesdk.errors import ReleaseError
from edgesdk_converters.passes.layer_names import check_patterns
from edgesdk_converters.passes.observe import read_values
from edgesdk_converters.passes.ranges import choose
from edgesdk_converters.passes.round_onnx import take
from edgesdk_converters.recipes import OnnxDynamic, OnnxStatic, OnnxWeights, Recipe, names_layer
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.onnx import check_opset, drop_unused_domains, opset_of, pin_ir

if TYPE_CHECKING:
    import onnx

TOOLS = ("onnxruntime", "onnx", "numpy")
BITS = {"int8": 8, "uint8": 8, "int16": 16, "uint16": 16}
WIDE = {"int8": "int16", "uint8": "uint16"}
DYNAMIC_OPSET = 11
CAST_OPSET = 9
PER_CHANNEL_OPSET = 13
WIDE_OPSET = 21

CORE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose int8 kernels are what makes an artifact fast."""
MOVERS = frozenset(
    {"Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split"}
)
"""Operators that only clip or move values: between two of the core they cost no accuracy, and float would cost time."""

Ranges = dict[str, tuple[float, float]]
Overrides = dict[str, list[dict[str, Any]]]


def quantize(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` from inputs ``source`` and ``values``; answer the ranges by tensor.

    Weights are taken from input ``rounded`` if there is one.
    """
    import onnx  # noqa: PLC0415 - only in the child

    recipe = msgspec.convert(call.params["recipe"], Recipe)
    source = call.inputs["source"]
    ranges = ranges_of(recipe, call.inputs["values"], onnx.load(source))
    made = quantized(start(call.inputs, recipe), recipe, ranges, call.out.parent)
    count = sum(node.op_type == "QuantizeLinear" for node in made.graph.node)
    if not count:
        raise ReleaseError("conversion-failed", "onnxruntime quantized nothing: no operator of the model is supported")
    finish(made, call)
    return {"quantize_nodes": count, "nodes": len(made.graph.node), "ranges": ranges}


def start(inputs: Mapping[str, Path], recipe: Recipe) -> onnx.ModelProto:
    """Return the float file ``source`` with the weights of ``rounded``, but for the layers that a recipe leaves."""
    import onnx  # noqa: PLC0415 - only in the child

    model = onnx.load(inputs["source"])
    if "rounded" in inputs:
        take(model, onnx.load(inputs["rounded"]), set(excluded(model, recipe.float_layers, "float_layers")))
    return model


def quantized(model: onnx.ModelProto, recipe: Recipe, ranges: Ranges, scratch: Path) -> onnx.ModelProto:
    """Return a float model quantized by a recipe with static options.

    Args:
        model: See `start`.
        recipe: With static options for ONNX.
        ranges: Of every tensor.
        scratch: A folder for files that are no result.
    """
    import onnx  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization import quantize_static  # noqa: PLC0415

    cache, path = scratch / "ranges.json", scratch / "quantized.onnx"
    _write_cache(ranges, cache)
    settings = _settings(recipe, model)
    quantize_static(model, path, **settings, calibration_cache_path=cache)
    return onnx.load(path)


def finish(model: onnx.ModelProto, call: Call) -> None:
    """Compare with the target's ceiling, pin to it, and write ``model.onnx``.

    Raises:
        TargetError: ``opset-ceiling``.
    """
    import onnx  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization.onnx_model import ONNXModel  # noqa: PLC0415 - only in the child

    ONNXModel(model).topological_sort()  # tools append nodes, which onnxruntime forgives and onnx does not
    drop_unused_domains(model)
    opsets = {item.domain: item.version for item in model.opset_import}
    check_opset(opsets, call.params["max_opset"], "the artifact")
    model.ir_version = max(model.ir_version, _ir_of(opset_of(model)))
    pin_ir(model, call.params["max_ir"])
    onnx.save(model, call.out / "model.onnx")


def _ir_of(opset: int) -> int:
    import onnx  # noqa: PLC0415 - only in the child

    return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True))


def min_opset(recipe: Recipe) -> int:
    """Return the operator set that a recipe's ONNX artifacts need: of QuantizeLinear per channel and in 16 bits."""
    if isinstance(recipe.onnx, OnnxStatic):
        wide = recipe.precision == "int16x8" or recipe.wide_layers
        return WIDE_OPSET if wide else PER_CHANNEL_OPSET
    if isinstance(recipe.onnx, OnnxWeights):
        return CAST_OPSET
    return DYNAMIC_OPSET if isinstance(recipe.onnx, OnnxDynamic) else 0


def excluded(model: onnx.ModelProto, patterns: tuple[str, ...], what: str) -> list[str]:
    """Return the names of the nodes that patterns mean, by their own names or what they write.

    Raises:
        ConfigError: ``argument-invalid`` if a pattern means none.
    """
    names = [name for node in model.graph.node for name in (node.name, *node.output) if name]
    check_patterns(patterns, names, what, "ONNX")
    return [node.name for node in model.graph.node if names_layer(patterns, node.name, *node.output)]


def ranges_of(recipe: Recipe, values: Path, model: onnx.ModelProto) -> Ranges:
    """Return the range of every tensor by the recipe's rule, from what `observe` wrote."""
    options = _static(recipe)
    bits = BITS[options.activations]
    wide = set(_written(model, excluded(model, recipe.wide_layers, "wide_layers")))
    return {
        name: choose(
            seen,
            recipe.calibration_range,
            percentile=recipe.percentile,
            bits=16 if name in wide else bits,
            symmetric=options.symmetric_activations,
        )
        for name, seen in read_values(values).items()
    }


def _written(model: onnx.ModelProto, nodes: Sequence[str]) -> list[str]:
    return [name for node in model.graph.node if node.name in nodes for name in node.output]


def _write_cache(ranges: Ranges, path: Path) -> None:
    from onnxruntime.quantization.calibrate import (  # noqa: PLC0415 - only in the child
        CalibrationMethod,
        TensorsData,
        save_tensors_data,
    )

    spans: dict[str, Any] = {
        name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()
    }
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, spans), path)


def _static(recipe: Recipe) -> OnnxStatic:
    assert isinstance(recipe.onnx, OnnxStatic)
    return recipe.onnx


def _settings(recipe: Recipe, model: onnx.ModelProto) -> dict[str, Any]:
    from onnxruntime.quantization import QuantFormat, QuantType  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config  # noqa: PLC0415

    options = _static(recipe)
    kinds = {"int8": "QInt8", "uint8": "QUInt8", "int16": "QInt16", "uint16": "QUInt16"}
    activation, weight = QuantType[kinds[options.activations]], QuantType[kinds[options.weights]]
    left = excluded(model, recipe.float_layers, "float_layers")
    overrides = _wide(recipe, options, model)
    settings: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "activation_type": activation,
        "weight_type": weight,
        "per_channel": options.per_channel,
        "reduce_range": options.reduce_range,
        "nodes_to_exclude": left,
    }
    if options.operators == "core":
        settings["op_types_to_quantize"] = sorted(CORE | MOVERS)
    extra = {"ActivationSymmetric": options.symmetric_activations, "QuantizeBias": options.quantized_bias}
    if not options.qualcomm:
        return {**settings, "extra_options": {**extra, "TensorQuantOverrides": overrides}}
    qualcomm = get_qnn_qdq_config(
        model,
        None,
        activation_type=activation,
        weight_type=weight,
        per_channel=options.per_channel,
        init_overrides=overrides,
        activation_symmetric=options.symmetric_activations,
        nodes_to_exclude=left,
    )
    settings["op_types_to_quantize"] = sorted(qualcomm.op_types_to_quantize)
    # 16 bits get opset 21, whose own QuantizeLinear knows them.
    # A Reshape at the input would stay float if its input were asked for being quantized first.
    fixed = {"UseQDQContribOps": False, "ForceQuantizeNoInputCheck": True}
    return {**settings, "extra_options": {**extra, **qualcomm.extra_options, **fixed}}


def _wide(recipe: Recipe, options: OnnxStatic, model: onnx.ModelProto) -> Overrides:
    """Return 16-bit types for what wide layers write, and the conversions that their neighbours then need."""
    from onnxruntime.quantization import QuantType  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization.execution_providers.qnn.mixed_precision_overrides_utils import (  # noqa: PLC0415
        MixedPrecisionTensorQuantOverridesFixer,
    )
    from onnxruntime.quantization.tensor_quant_overrides import TensorQuantOverridesHelper  # noqa: PLC0415

    if not recipe.wide_layers or options.activations not in WIDE:
        return {}
    wide = {"int8": QuantType.QInt16, "uint8": QuantType.QUInt16}[options.activations]
    narrow = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[options.activations]
    names = _written(model, excluded(model, recipe.wide_layers, "wide_layers"))
    helper = TensorQuantOverridesHelper({name: [{"quant_type": wide}] for name in names})
    fixer = MixedPrecisionTensorQuantOverridesFixer.create_from_model(helper, model, narrow)
    fixer.apply(narrow, options.symmetric_activations)
    found: Overrides = helper.get_dict()
    return found
