"""Keras 3 models: exported with a static batch, each in a child that alone has TensorFlow.

Traps: `from_concrete_functions` of a Keras 3 model writes garbage silently, so TFLite goes through an `ExportArchive`;
`tf2onnx.from_keras` refuses Keras 3, so ONNX goes through `model.export`.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from typing import Any

import msgspec

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk_converters.binding import order_by_name
from edgesdk_converters.isolation import Call

TOOLS = ("keras", "tensorflow-cpu", "tensorflow", "tf2onnx", "onnx", "numpy")


def check_tensorflow() -> None:
    """Refuse early where TensorFlow is not installed; it is looked for, not imported.

    Raises:
        ConfigError: ``dependency-missing``.
    """
    if find_spec("tensorflow") is None or find_spec("keras") is None:
        raise ConfigError(
            "dependency-missing",
            "a .keras model needs TensorFlow to be converted, and it is not installed",
            hint="Install edgesdk-converters[tensorflow], or give a float .tflite and .onnx export instead.",
        )


def to_tflite(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite``, float32 with a static batch."""
    import keras  # noqa: PLC0415 - only in the child
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    model = keras.saving.load_model(call.inputs["source"], compile=False, safe_mode=True)
    signature = _signature(model, msgspec.convert(call.params["contract"], Contract))
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", lambda *inputs: _answer(model, inputs), input_signature=signature)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        (call.out / "model.tflite").write_bytes(converter.convert())
    return {"parameters": int(model.count_params())}


def to_onnx(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, float32 with a static batch, at the opset and IR version of ``params``."""
    import keras  # noqa: PLC0415 - only in the child
    import onnx  # noqa: PLC0415 - only in the child

    model = keras.saving.load_model(call.inputs["source"], compile=False, safe_mode=True)
    signature = _signature(model, msgspec.convert(call.params["contract"], Contract))
    path = call.out / "model.onnx"
    model.export(path, format="onnx", input_signature=signature, opset_version=call.params["opset"], verbose=False)
    graph = onnx.load(path)
    graph.ir_version = min(graph.ir_version, call.params["max_ir"])
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
    return {"parameters": int(model.count_params())}


def _answer(model: Any, inputs: tuple[Any, ...]) -> Any:
    return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)


def _signature(model: Any, contract: Contract) -> list[Any]:
    import tensorflow as tf  # noqa: PLC0415 - only in the child

    names = [tensor.name for tensor in model.inputs]
    ordered = order_by_name(contract.inputs, names, what="inputs")
    return [
        tf.TensorSpec(_static(tensor.shape, spec), tensor.dtype, name=spec.name)
        for tensor, spec in zip(model.inputs, ordered, strict=True)
    ]


def _static(shape: tuple[int | None, ...], spec: TensorSpec) -> list[int]:
    sizes = [1 if isinstance(size, str) else size for size in spec.shape]
    if len(shape) != len(sizes) or any(has not in {None, want} for has, want in zip(shape, sizes, strict=True)):
        raise ConfigError(
            "contract-mismatch",
            f"input {spec.name!r}: the contract expects shape {spec.shape}, the Keras model takes {shape}",
        )
    return sizes
