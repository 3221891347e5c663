"""Float TFLite files: checked, and their inputs and outputs named as the contract names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk_converters.passes.flatbuffer import pack, parse
from edgesdk_converters.running.isolation import Call

_SHOWN = 6


def read(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite``, the source with tensors of the contract's names.

    A TFLite file knows its inputs and outputs by two names: those of its signature, which people chose, and those of
    its tensors, by which runtimes list them in an order of their own. Where the former are the contract's, the latter
    become so, and nothing has to be matched by position.

    Raises:
        ConfigError: ``model-format`` if it is damaged, has several signatures, is quantized already, or stores weights
            sparsely.
    """
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only in the child

    source = call.inputs["source"]
    content = source.read_bytes()
    contract = msgspec.convert(call.params["contract"], Contract)
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise ConfigError("model-format", f"{source.name} is no valid TFLite file: {error}") from error
    _check_signatures(interpreter, source.name)
    model = parse(content)
    _check_dense(model, source.name)
    _check_float(model, source.name)
    renamed = rename(model, contract)
    (call.out / "model.tflite").write_bytes(pack(model) if renamed else content)
    graph = model.subgraphs[0]
    return {"operators": len(graph.operators), "renamed": renamed}


def _check_signatures(interpreter: Any, name: str) -> None:
    signatures = interpreter.get_signature_list()
    if len(signatures) > 1:
        message = f"{name} has {len(signatures)} signatures ({', '.join(signatures)}), expected at most 1"
        hint = "Export it again with one signature (TensorFlow's `from_saved_model` with `signature_keys`)."
        raise ConfigError("model-format", message, hint=hint)


def _check_dense(model: Any, name: str) -> None:
    """Refuse weights that are stored sparsely: no tool quantizes them, and `get_tensor_details` has crashed on them."""
    sparse = [tensor.name.decode() for tensor in model.subgraphs[0].tensors if tensor.sparsity is not None]
    if sparse:
        message = f"{name} stores weights sparsely: {', '.join(sparse[:_SHOWN])}"
        hint = "Export it again without Optimize.EXPERIMENTAL_SPARSITY; zeros compress well in a download as they are."
        raise ConfigError("model-format", message, hint=hint)


def refuse_quantized(path: Path) -> None:
    """Refuse a file of integers before anything is planned.

    Raises:
        ConfigError: ``model-format``.
    """
    try:
        model = parse(path.read_bytes())
    except Exception:  # noqa: BLE001 - what is damaged is told by the step that reads it
        return
    _check_float(model, path.name)


def _check_float(model: Any, name: str) -> None:
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - a fifth of a second

    integers = {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16}
    quantized = [
        tensor.name.decode()
        for tensor in model.subgraphs[0].tensors
        if tensor.type in integers and tensor.quantization is not None and tensor.quantization.scale is not None
    ]
    if quantized:
        shown = ", ".join(quantized[:_SHOWN])
        message = f"{name} is quantized already: {shown}"
        raise ConfigError("model-format", message, hint="Give the float model that it was made from.")


def rename(model: Any, contract: Contract) -> bool:
    """Give inputs and outputs the contract's names if its signature uses them; say whether anything changed."""
    graph = model.subgraphs[0]
    [signature] = model.signatureDefs or [None]
    if signature is None:
        return False
    names = {tensor.name for tensor in graph.tensors}
    changed = False
    for specs, entries in ((contract.inputs, signature.inputs or []), (contract.outputs, signature.outputs or [])):
        for tensor, wanted in _pairs(graph, specs, entries):
            if tensor.name != wanted and wanted not in names:
                names.add(wanted)
                tensor.name = wanted
                changed = True
    return changed


def _pairs(graph: Any, specs: tuple[TensorSpec, ...], entries: list[Any]) -> list[tuple[Any, bytes]]:
    if {entry.name.decode() for entry in entries} != {spec.name for spec in specs}:
        return []
    return [(graph.tensors[entry.tensorIndex], entry.name) for entry in entries]
