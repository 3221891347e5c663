"""Float TFLite to full int8: inputs, outputs, weights and activations, ranges by minimum and maximum.

Traps: litert-quantizer's own calibration is a *moving average* of ranges, which depends on the order of samples and
clips; here every range is the true one. It also turns a data set into a list, so samples are handed over in batches and
memory does not grow with their number.
"""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract, DType
from edgesdk.errors import ConfigError, ReleaseError
from edgesdk.runtime.backend import known_dtype
from edgesdk_converters.data import BATCH, feeds, open_data
from edgesdk_converters.isolation import Call
from edgesdk_converters.recipes import Recipe, TfliteStatic

TOOLS = ("litert-quantizer", "ai-edge-litert", "numpy")


def quantize(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite`` from inputs ``source`` and ``calibration``; answer the ranges by tensor."""
    from litert_quantizer import quantizer  # noqa: PLC0415 - only in the child

    content = call.inputs["source"].read_bytes()
    tool = quantizer.Quantizer(content)
    for operation, granularity in _granularities(_options(call)):
        tool.add_static_config(".*", operation, 8, 8, weight_granularity=granularity)
    statistics = _calibrate(call, content, tool.get_quantization_recipe())
    result = tool.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    (call.out / "model.tflite").write_bytes(result.quantized_model)
    return {"ranges": {name: _span(stats) for name, stats in statistics.items() if stats}}


def _options(call: Call) -> TfliteStatic:
    options = msgspec.convert(call.params["recipe"], Recipe).tflite
    assert isinstance(options, TfliteStatic)
    return options


def _granularities(recipe: TfliteStatic) -> list[tuple[Any, Any]]:
    from litert_quantizer import qtyping  # noqa: PLC0415 - only in the child

    return [
        (qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.QuantGranularity[recipe.weights]),
        (qtyping.TFLOperationName.FULLY_CONNECTED, qtyping.QuantGranularity[recipe.dense_weights]),
    ]


def _calibrate(call: Call, content: bytes, recipe: Any) -> dict[str, dict[str, NDArray[Any]]]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only in the child
    from litert_quantizer import calibrator, recipe_manager  # noqa: PLC0415 - only in the child
    from litert_quantizer.utils import qsv_utils  # noqa: PLC0415 - only in the child

    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["calibration"], contract, labelled=False)
    key, tensors = _signature(Interpreter(model_content=content))
    samples = feeds(data, tensors)
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    # One thread: sums in another order would change the ranges, and with them the bytes.
    tool = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    done = 0
    while batch := list(itertools.islice(samples, BATCH)):
        tool.calibrate({key: batch}, manager)
        done += len(batch)
        call.progress(done, data.count)
    statistics: dict[str, dict[str, NDArray[Any]]] = tool.get_model_qsvs()
    return statistics


def _signature(interpreter: Any) -> tuple[str, dict[str, DType]]:
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ConfigError(
            "model-format",
            f"the .tflite has {len(signatures)} signatures, expected 1",
            hint="Export it again with one signature (TensorFlow's `from_saved_model` writes it).",
        )
    key = next(iter(signatures))
    details = interpreter.get_signature_runner(key).get_input_details()
    return key, {name: known_dtype(np.dtype(details[name]["dtype"]).name, name) for name in signatures[key]["inputs"]}


def _span(stats: dict[str, NDArray[Any]]) -> list[float]:
    low, high = float(np.min(stats["min"])), float(np.max(stats["max"]))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ReleaseError("conversion-failed", "the float model gives NaN or infinity on the calibration data")
    return [low, high]
