"""What a model takes and gives, read from its file: names, sizes and types, without a contract."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import ConfigError
from edgesdk_converters.drafting import keras_config
from edgesdk_converters.planning.routes import TENSORFLOW_TOOLS
from edgesdk_converters.running.cache import StepCache, default_cache_dir
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.running.steps import Runner, Silent, Step
from edgesdk_converters.sources import SourceFormat, open_source
from edgesdk_converters.sources.keras import check_tensorflow
from edgesdk_converters.sources.onnx import INTEGER

TIMEOUT_S = 120.0
WAIT = "reading {}: TensorFlow takes some seconds to load; the answer is kept"
Told = Callable[[str], None]
"""Is told what takes long, before it does."""
_PROGRAM = re.compile(r"(^|/)(models/[^/]+|serialized_exported_program)\.json$")
_TORCH = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 12: "bool"}
"""``torch._export.serde.schema.ScalarType``."""


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output.

    Attributes:
        name: As the model's author called it, where the format keeps that.
        shape: None for a size that is open.
        dtype: In the words of numpy.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """All of a model.

    Attributes:
        format: The model's.
        inputs: In its own order.
        outputs: In its own order.
        quantized: Whether its numbers are integers already, so that `edge convert` refuses it.
    """

    format: SourceFormat
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    quantized: bool = False


def read_ports(path: Path, told: Told | None = None) -> Ports:
    """Read what a model takes and gives; TensorFlow, where the file alone does not tell, runs in a child, once.

    Raises:
        ConfigError: ``file-missing``, ``model-format``, or ``dependency-missing`` without TensorFlow.
        ReleaseError: ``conversion-failed`` or ``conversion-timeout`` of that child.
    """
    kind = open_source(path).format
    found = keras_config.described(path) if kind == "keras" else None
    if found is None:
        reader = _READERS.get(kind)
        found = reader(path) if reader is not None else _in_child(path, kind, told)
    return msgspec.convert({"format": kind, **found}, Ports)


def _tflite(path: Path) -> dict[str, Any]:
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - heavy

    from edgesdk_converters.passes.flatbuffer import parse  # noqa: PLC0415 - heavy

    types = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    model = parse(path.read_bytes())
    graph = model.subgraphs[0]
    [signature] = model.signatureDefs[:1] if model.signatureDefs else [None]
    called = {} if signature is None else {each.tensorIndex: each.name for each in _entries(signature)}

    def port(index: int) -> dict[str, Any]:
        tensor = graph.tensors[index]
        shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        sizes = [] if shape is None else [int(size) for size in shape]
        name = called.get(index, tensor.name).decode()
        return {"name": name, "shape": _sizes(sizes), "dtype": types[tensor.type]}

    integers = {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16}
    return {
        "inputs": [port(each) for each in graph.inputs],
        "outputs": [port(each) for each in graph.outputs],
        "quantized": any(each.type in integers and _scaled(each) for each in graph.tensors),
    }


def _scaled(tensor: Any) -> bool:
    return tensor.quantization is not None and tensor.quantization.scale is not None


def _entries(signature: Any) -> list[Any]:
    return [*(signature.inputs or []), *(signature.outputs or [])]


def _onnx(path: Path) -> dict[str, Any]:
    import onnx  # noqa: PLC0415 - heavy

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:
        raise ConfigError("model-format", f"{path.name} is no valid ONNX file: {error}") from error
    stored = {tensor.name for tensor in graph.initializer}

    def port(entry: Any) -> dict[str, Any]:
        tensor = entry.type.tensor_type
        sizes = [dimension.dim_value for dimension in tensor.shape.dim]
        return {"name": entry.name, "shape": _sizes(sizes), "dtype": _onnx_type(tensor.elem_type)}

    return {
        "inputs": [port(entry) for entry in graph.input if entry.name not in stored],
        "outputs": [port(entry) for entry in graph.output],
        "quantized": any(node.op_type in INTEGER for node in graph.node),
    }


def _onnx_type(kind: int) -> str:
    import onnx  # noqa: PLC0415 - heavy

    if kind == onnx.TensorProto.STRING:
        return "string"
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind)) if kind else "unknown"


def _pt2(path: Path) -> dict[str, Any]:
    """Read the JSON in a program; PyTorch itself is not needed for that."""
    try:
        with zipfile.ZipFile(path) as archive:
            [name, *_] = [each for each in archive.namelist() if _PROGRAM.search(each)]
            module = json.loads(archive.read(name))["graph_module"]
        values, signature = module["graph"]["tensor_values"], module["signature"]
        inputs = [each["user_input"]["arg"] for each in signature["input_specs"] if "user_input" in each]
        outputs = [each["user_output"]["arg"] for each in signature["output_specs"] if "user_output" in each]
        return {
            "inputs": [_torch_port(each["as_tensor"]["name"], values) for each in inputs],
            "outputs": [_torch_port(each["as_tensor"]["name"], values) for each in outputs],
        }
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError("model-format", f"{path.name}: its inputs and outputs cannot be read ({error!r})") from error


def _torch_port(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = values[name]
    sizes = [size.get("as_int", 0) for size in found["sizes"]]
    return {"name": name, "shape": _sizes(sizes), "dtype": _TORCH.get(found["dtype"], "unknown")}


def _in_child(path: Path, kind: str, told: Told | None) -> dict[str, Any]:
    check_tensorflow()
    step = Step(
        name=f"read {kind}",
        action=f"{__name__}:describe_{kind}",
        inputs={"source": path.absolute()},
        tools=TENSORFLOW_TOOLS,
    )
    runner = Runner(StepCache(default_cache_dir()), timeout_s=TIMEOUT_S)
    if told is not None and not runner.cached([step]):
        told(WAIT.format(path.name))
    found: dict[str, Any] = runner.run([step], Silent())[step.name].result
    return found


def describe_keras(call: Call) -> dict[str, Any]:
    """Child action: say what a Keras model takes and gives."""
    from edgesdk_converters.sources.keras import load, output_names  # noqa: PLC0415 - only in the child

    model = load(call.inputs["source"])

    def port(name: str, tensor: Any) -> dict[str, Any]:
        return {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype)}

    return {
        "inputs": [port(tensor.name, tensor) for tensor in model.inputs],
        "outputs": [port(name, tensor) for name, tensor in zip(output_names(model), model.outputs, strict=True)],
    }


def describe_savedmodel(call: Call) -> dict[str, Any]:
    """Child action: say what the one signature of a SavedModel takes and gives."""
    from edgesdk_converters.sources.savedmodel import load, numbered  # noqa: PLC0415 - only in the child

    _loaded, function = load(call.inputs["source"])

    def ports(tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, "shape": tensor.shape.as_list(), "dtype": tensor.dtype.name}
            for name, tensor in numbered(dict(tensors)).items()
        ]

    return {"inputs": ports(function.structured_input_signature[1]), "outputs": ports(function.structured_outputs)}


def _sizes(sizes: list[int]) -> list[int | None]:
    return [size if size > 0 else None for size in sizes]


_READERS: dict[SourceFormat, Callable[[Path], dict[str, Any]]] = {
    "tflite": _tflite,
    "onnx": _onnx,
    "pt2": _pt2,
}
"""Of the formats that need no framework."""
