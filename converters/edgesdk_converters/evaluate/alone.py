"""What each layer costs when it alone is quantized: the noise that reaches the outputs, on calibration data.

Noise of small errors adds up: the sum over the layers of what each costs alone is near the cost of all together
(within a factor of three on the models of the benchmark). So the fewest layers that must stay in float for a wanted
signal-to-noise ratio are found without trying combinations: the dearest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk_converters.data.npz import some_feeds
from edgesdk_converters.evaluate.differences import worst_noise
from edgesdk_converters.passes.observe import onnx_dtype
from edgesdk_converters.passes.quantize_onnx import CORE, Ranges, excluded, quantized, ranges_of, start
from edgesdk_converters.passes.weights_onnx import store_weights
from edgesdk_converters.recipes import Format, OnnxStatic, Recipe, names_layer
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.running.steps import Ref, Step

if TYPE_CHECKING:
    import onnx

SAMPLES = 16
ACTIONS: dict[Format, tuple[str, tuple[str, ...]]] = {
    "onnx": ("edgesdk_converters.evaluate.alone:rank", ("onnxruntime", "onnx", "numpy")),
    "tflite": ("edgesdk_converters.evaluate.alone_tflite:rank", ("litert-quantizer", "ai-edge-litert", "numpy")),
}


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """One layer: the nodes that share one weight, which is stored once.

    Attributes:
        names: The nodes'.
        noise: Power of the noise at the output that suffers most, as a part of that of its signal.
    """

    names: tuple[str, ...]
    noise: float


def alone_step(
    word: str, artifact_format: Format, recipe: Recipe, inputs: Mapping[str, Path | Ref], contract: dict[str, Any]
) -> Step:
    """Return the step that asks every layer of the core.

    Args:
        word: For the name.
        artifact_format: Of the file that is asked.
        recipe: With options for it, static or without calibration.
        inputs: ``source``, a float file; ``samples``; ``values`` of `observe` for static options; ``rounded``, if any.
        contract: The contract as plain data.
    """
    params = {"recipe": msgspec.to_builtins(recipe), "contract": contract}
    action, tools = ACTIONS[artifact_format]
    name = f"quantize each layer of {word} alone"
    return Step(name=name, action=action, inputs=inputs, params=params, tools=tools, optional=True)


def rank(call: Call) -> dict[str, Any]:
    """Child action: quantize the layers of ``source`` one by one; answer ``{"layers": [Alone], "samples": n}``."""
    import onnx  # noqa: PLC0415 - only in the child

    recipe = msgspec.convert(call.params["recipe"], Recipe)
    source = call.inputs["source"]
    model = onnx.load(source)
    ranges = ranges_of(recipe, call.inputs["values"], model) if isinstance(recipe.onnx, OnnxStatic) else {}
    layers = shared(model, recipe)
    rows = list(_rows(call, model))
    expected = _answers(model, rows)
    found = []
    for done, names in enumerate(layers):
        call.progress(done, len(layers))
        others = tuple(name for each in layers for name in each if each != names)
        made = _only(call, recipe, (*recipe.float_layers, *others), ranges)
        found.append(Alone(names=names, noise=worst_noise(expected, _answers(made, rows))))
    return {"layers": msgspec.to_builtins(found), "samples": len(rows)}


def shared(model: onnx.ModelProto, recipe: Recipe) -> list[tuple[str, ...]]:
    """Return the nodes of the core by the weight that they share, but for those that the recipe leaves in float."""
    stored = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in CORE and node.name and not names_layer(recipe.float_layers, node.name, *node.output):
            weight = next((name for name in reversed(node.input) if name in stored), node.name)
            found.setdefault(weight, []).append(node.name)
    return [tuple(names) for names in found.values()]


def fewest(layers: Sequence[Alone], wanted_db: float) -> list[Alone]:
    """Return the fewest layers that must stay in float for a signal-to-noise ratio at the outputs, dearest first.

    Args:
        layers: What each costs alone.
        wanted_db: The ratio in dB.
    """
    dearest = sorted(layers, key=lambda each: (-each.noise, each.names))
    most = float(10 ** (-wanted_db / 10))
    left = [sum(each.noise for each in dearest[count:]) for count in range(len(dearest) + 1)]
    count = next(count for count, noise in enumerate(left) if noise <= most)
    return dearest[:count]


def _only(call: Call, recipe: Recipe, others: tuple[str, ...], ranges: Ranges) -> onnx.ModelProto:
    left = msgspec.structs.replace(recipe, float_layers=others)
    model = start(call.inputs, left)
    if isinstance(recipe.onnx, OnnxStatic):
        return quantized(model, left, ranges, call.out.parent)
    store_weights(model, set(excluded(model, others, "float_layers")))
    return model


def _rows(call: Call, model: onnx.ModelProto) -> Iterator[dict[str, NDArray[Any]]]:
    contract = msgspec.convert(call.params["contract"], Contract)
    dtypes = {node.name: onnx_dtype(node.type, node.name) for node in _session(model).get_inputs()}
    return some_feeds(call.inputs["samples"], contract, dtypes, SAMPLES)


def _answers(model: onnx.ModelProto, rows: Sequence[dict[str, NDArray[Any]]]) -> list[list[NDArray[Any]]]:
    session = _session(model)
    return [session.run(None, row) for row in rows]


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime  # noqa: PLC0415 - only in the child

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    settings.add_session_config_entry("session.x64quantprecision", "1")  # what saturates is found elsewhere
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
