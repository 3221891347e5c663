"""What each layer of a TFLite file costs when it alone is quantized; as `alone` finds it out for ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk.runtime.backend import known_dtype
from edgesdk_converters.data.npz import some_feeds
from edgesdk_converters.evaluate.alone import SAMPLES, Alone
from edgesdk_converters.evaluate.differences import worst_noise
from edgesdk_converters.passes.quantize_tflite import quantized, ranges_of, start
from edgesdk_converters.passes.tflite_core import CORE, Layer, read_layers
from edgesdk_converters.recipes import Recipe, names_layer
from edgesdk_converters.running.isolation import Call

Array = NDArray[Any]


def rank(call: Call) -> dict[str, Any]:
    """Child action: quantize the layers of ``source`` one by one; answer ``{"layers": [Alone], "samples": n}``."""
    recipe = msgspec.convert(call.params["recipe"], Recipe)
    content = call.inputs["source"].read_bytes()
    ranges = ranges_of(recipe, call.inputs["values"]) if recipe.calibrates("tflite") else {}
    layers = read_layers(content)
    groups = shared(layers, recipe)
    rows = list(_rows(call, content))
    expected = _answers(content, rows)
    found = []
    for done, names in enumerate(groups):
        call.progress(done, len(groups))
        others = tuple(name for each in groups for name in each if each != names)
        only = msgspec.structs.replace(recipe, float_layers=(*recipe.float_layers, *others))
        answers = _answers(quantized(start(call.inputs, only), only, ranges, layers), rows)
        found.append(Alone(names=names, noise=worst_noise(expected, answers)))
    return {"layers": msgspec.to_builtins(found), "samples": len(rows)}


def shared(layers: Sequence[Layer], recipe: Recipe) -> list[tuple[str, ...]]:
    """Return what the layers of the core write by the weight that they share, but for those that stay in float."""
    found: dict[int | str, list[str]] = {}
    for layer in layers:
        if layer.op in CORE and not names_layer(recipe.float_layers, *layer.outputs):
            [name, *_] = layer.outputs
            found.setdefault(layer.weight or name, []).append(name)
    return [tuple(names) for names in found.values()]


def _rows(call: Call, content: bytes) -> Iterator[list[Array]]:
    contract = msgspec.convert(call.params["contract"], Contract)
    dtypes = {
        str(each["name"]): known_dtype(np.dtype(each["dtype"]).name, str(each["name"]))
        for each in _opened(content).get_input_details()
    }
    return (list(row.values()) for row in some_feeds(call.inputs["samples"], contract, dtypes, SAMPLES))


def _answers(content: bytes, rows: Sequence[list[Array]]) -> list[list[Array]]:
    """Return the outputs of each row, in the file's order, which quantizing keeps."""
    interpreter = _opened(content)
    found = []
    for row in rows:
        for each, values in zip(interpreter.get_input_details(), row, strict=True):
            interpreter.set_tensor(each["index"], values)
        interpreter.invoke()
        found.append([interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()])
    return found


def _opened(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only in the child

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter
