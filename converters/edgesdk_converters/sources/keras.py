"""Keras models (``.keras``, ``.h5``): exported with a static batch, each in a child that alone has TensorFlow.

Traps: `from_concrete_functions` of a Keras 3 model writes garbage silently, so TFLite goes through an `ExportArchive`;
`tf2onnx.from_keras` refuses Keras 3, so ONNX goes through `model.export`.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.contract import Contract
from edgesdk.errors import ConfigError
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.passes.gelu_onnx import write_erfcs
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.savedmodel import convert_frozen, name_outputs, static_shape


def check_tensorflow() -> None:
    """Refuse early where TensorFlow is not installed; it is looked for, not imported.

    Raises:
        ConfigError: ``dependency-missing``.
    """
    if find_spec("tensorflow") is None or find_spec("keras") is None:
        raise ConfigError(
            "dependency-missing",
            "this conversion needs TensorFlow, and it is not installed",
            hint="Install edgesdk-converters[tensorflow], or give a float .tflite and .onnx export instead.",
        )


def to_tflite(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite``, float32 with a static batch; its signature has the contract's names."""
    import keras  # noqa: PLC0415 - only in the child
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    contract = msgspec.convert(call.params["contract"], Contract)
    model = load(call.inputs["source"])
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        signature = _signature(model, contract)
        archive.add_endpoint("serve", lambda *inputs: _named_answer(model, contract, inputs), input_signature=signature)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        (call.out / "model.tflite").write_bytes(converter.convert())
    return {"parameters": int(model.count_params())}


def to_onnx(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, float32 with a static batch, in the operator set of ``params``."""
    import onnx  # noqa: PLC0415 - only in the child

    contract = msgspec.convert(call.params["contract"], Contract)
    model = load(call.inputs["source"])
    signature = _signature(model, contract)
    path = call.out / "model.onnx"
    given = signature if len(signature) == 1 else [signature]  # several inputs are one argument, a list
    model.export(path, format="onnx", input_signature=given, opset_version=call.params["opset"], verbose=False)
    made = onnx.load(path)
    ordered = order_by_name(contract.outputs, output_names(model), what="outputs")
    name_outputs(made, [spec.name for spec in ordered])
    if len(made.graph.input) > len(signature):  # constants that its layers captured, as Normalization's mean
        made = convert_frozen(_named(model, contract, signature), signature, call.params["opset"])
    write_erfcs(made)
    onnx.save(made, path)
    return {"parameters": int(model.count_params())}


def load(path: Path) -> Any:
    """Load a Keras model from a ``.keras`` or ``.h5`` file, without running code that it brings.

    Raises:
        ConfigError: ``model-format`` if it holds no whole model.
    """
    import keras  # noqa: PLC0415 - only in the child

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, AttributeError) as error:
        hint = "Save the whole model: model.save('model.keras')."
        raise ConfigError("model-format", f"{path.name} holds no whole Keras model: {error}", hint=hint) from error


def output_names(model: Any) -> list[str]:
    """Return the names of a model's outputs; a `Sequential` has none."""
    return list(getattr(model, "output_names", None) or [f"output_{index}" for index in range(len(model.outputs))])


def _named_answer(model: Any, contract: Contract, inputs: tuple[Any, ...]) -> dict[str, Any]:
    answers = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
    flat = list(answers.values()) if isinstance(answers, dict) else answers
    flat = list(flat) if isinstance(flat, list | tuple) else [flat]
    names = list(answers) if isinstance(answers, dict) else output_names(model)
    ordered = order_by_name(contract.outputs, names, what="outputs")
    return {spec.name: tensor for spec, tensor in zip(ordered, flat, strict=True)}


def _named(model: Any, contract: Contract, signature: list[Any]) -> Any:
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    return tf.function(lambda *inputs: _named_answer(model, contract, inputs), input_signature=signature)


def _signature(model: Any, contract: Contract) -> list[Any]:
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    names = [tensor.name for tensor in model.inputs]
    ordered = order_by_name(contract.inputs, names, what="inputs")
    return [
        tf.TensorSpec(static_shape(tensor.shape, spec), tensor.dtype, name=spec.name)
        for tensor, spec in zip(model.inputs, ordered, strict=True)
    ]
