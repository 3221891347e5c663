"""TensorFlow SavedModels: one signature, given the contract's sizes, in a child that alone has TensorFlow.

The signature is wrapped and saved anew with static sizes: TFLite has no other, and converting the loaded function
itself would keep the batch open.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.passes.gelu_onnx import write_erfcs
from edgesdk_converters.running.isolation import Call

DEFAULT = "serving_default"
ALIASES = frozenset({DEFAULT, "serve"})
"""Keras writes its one endpoint under both names."""


def to_tflite(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite``, float32 with static sizes and the contract's names."""
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    contract = msgspec.convert(call.params["contract"], Contract)
    loaded, function = load(call.inputs["source"])
    wrapped = tf.function(_caller(function, contract), input_signature=_sizes(function, contract))
    loaded.edgesdk = wrapped  # what is saved must be reachable from what is saved
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        tf.saved_model.save(loaded, folder, signatures={DEFAULT: wrapped.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[DEFAULT])
        (call.out / "model.tflite").write_bytes(converter.convert())
    return {"signature": str(function.name)}


def to_onnx(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, float32 with static sizes and the contract's names."""
    import onnx  # noqa: PLC0415 - only in the child
    import tensorflow as tf  # noqa: PLC0415 - only in the child
    import tf2onnx  # noqa: PLC0415 - only in the child

    contract = msgspec.convert(call.params["contract"], Contract)
    _loaded, function = load(call.inputs["source"])
    signature = _sizes(function, contract)
    wrapped = tf.function(_caller(function, contract), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(wrapped, input_signature=signature, opset=call.params["opset"])
    # TensorFlow flattens a dict in the order of its sorted keys.
    name_outputs(model, sorted(wrapped.get_concrete_function().structured_outputs))
    if len(model.graph.input) > len(signature):
        model = convert_frozen(wrapped, signature, call.params["opset"])
    write_erfcs(model)
    onnx.save(model, call.out / "model.onnx")
    return {"signature": str(function.name)}


def convert_frozen(function: Any, signature: list[Any], opset: int) -> Any:
    """Return the ONNX model of a function whose constants are frozen into it before tf2onnx sees it.

    tf2onnx makes inputs of the tensors that a function has captured, such as the mean and variance of an adapted
    ``keras.layers.Normalization``; variables it freezes itself.

    Args:
        function: A `tf.function` that returns a dict; its keys become the names of the outputs.
        signature: The inputs of `function`, one by one.
        opset: The operator set.
    """
    import tensorflow as tf  # noqa: PLC0415 - only in the child
    import tf2onnx  # noqa: PLC0415 - only in the child
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - only in the child
        convert_variables_to_constants_v2,
    )

    concrete = function.get_concrete_function(*signature)
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    flat = tf.function(lambda *inputs: tf.nest.flatten(frozen(*inputs)), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(flat, input_signature=signature, opset=opset)
    name_outputs(model, sorted(concrete.structured_outputs))
    return model


def load(folder: Path) -> tuple[Any, Any]:
    """Return the loaded model and its one signature.

    Raises:
        ConfigError: ``model-format`` if it cannot be loaded, or has none or several.
    """
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    try:
        loaded = tf.saved_model.load(folder)
    except Exception as error:
        raise ConfigError("model-format", f"{folder.name} cannot be loaded as a SavedModel: {error}") from error
    signatures = dict(loaded.signatures)
    if len(signatures) != 1 and not (DEFAULT in signatures and set(signatures) <= ALIASES):
        listed = f" ({', '.join(sorted(signatures))})" if signatures else ""
        raise ConfigError(
            "model-format",
            f"{folder.name} has {len(signatures)} signatures{listed}, expected 1",
            hint="Save it again with one: tf.saved_model.save(model, folder, signatures={'serving_default': f}).",
        )
    return loaded, signatures.get(DEFAULT) or next(iter(signatures.values()))


def _sizes(function: Any, contract: Contract) -> list[Any]:
    """Return the signature's inputs with the contract's sizes and names, in the signature's order."""
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    tensors = _inputs(function)
    ordered = order_by_name(contract.inputs, list(tensors), what="inputs")
    return [
        tf.TensorSpec(static_shape(tensor.shape.as_list(), spec), tensor.dtype, name=spec.name)
        for tensor, spec in zip(tensors.values(), ordered, strict=True)
    ]


def static_shape(shape: list[int | None] | tuple[int | None, ...], spec: TensorSpec) -> list[int]:
    """Return the sizes of one input: the contract's, and 1 for a symbol at its head.

    Raises:
        ConfigError: ``contract-mismatch`` if the model has other sizes, or a size that neither of them fixes.
    """
    sizes = [1 if isinstance(size, str) else size for size in spec.shape]
    fits = len(shape) == len(sizes) and all(have in {None, want} for have, want in zip(shape, sizes, strict=True))
    if not fits:
        message = f"input {spec.name!r}: the contract expects shape {spec.shape}, the model takes {tuple(shape)}"
        raise ConfigError("contract-mismatch", message)
    still_open = [size for axis, size in enumerate(spec.shape) if axis and isinstance(size, str)]
    if still_open:
        message = f"input {spec.name!r}: the size {still_open[0]!r} is open; only the batch may be"
        raise ConfigError("contract-mismatch", message, hint="Fix the size in the contract.")
    return sizes


def _inputs(function: Any) -> dict[str, Any]:
    return numbered(function.structured_input_signature[1])


def numbered(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return tensors in the order of their numbers (``output_0``, ``output_1``): a signature is a map without order."""
    return dict(sorted(tensors.items(), key=lambda item: (_number(item[0]), item[0])))


def _caller(function: Any, contract: Contract) -> Any:
    names = list(_inputs(function))

    def call(*inputs: Any) -> dict[str, Any]:
        answers = numbered(function(**dict(zip(names, inputs, strict=True))))
        ordered = order_by_name(contract.outputs, list(answers), what="outputs")
        return {spec.name: answers[name] for name, spec in zip(answers, ordered, strict=True)}

    return call


def name_outputs(model: Any, names: list[str]) -> None:
    """Call the outputs of an ONNX model by these names, in TensorFlow's order.

    tf2onnx calls them ``Identity:0``, ``Identity_1:0`` and so on, and lists them in any order.
    """
    found = sorted((output.name for output in model.graph.output), key=_number)
    renamed = dict(zip(found, names, strict=True))
    taken = {entry.name for entry in model.graph.input} | set(renamed)
    if taken & set(names):
        return  # they have names of the model's own
    for node in model.graph.node:
        for words in (node.input, node.output):
            for index, name in enumerate(words):
                words[index] = renamed.get(name, name)
    for output in model.graph.output:
        output.name = renamed[output.name]


def _number(name: str) -> int:
    """Return the number in a name that TensorFlow gave: 0 for ``Identity:0``, 1 for ``Identity_1:0``, ``output_1``."""
    found = re.search(r"_(\d+)(?::\d+)?$", name)
    return int(found[1]) if found else 0
