"""An int8 TFLite file that takes and gives uint8: QUANTIZE operators at its ends, which only move the zero point.

``real = scale * (q - zero_point)`` stays the same when 128 is added to both, so nothing is lost.
"""

from __future__ import annotations

import copy
from typing import Any

from edgesdk.errors import ReleaseError
from edgesdk_converters.passes.flatbuffer import pack, parse

OFFSET = 128


def with_uint8(content: bytes) -> bytes:
    """Return the file with every int8 input and output replaced by a uint8 one of the same name and meaning.

    Raises:
        ReleaseError: ``conversion-failed`` if it has no int8 input or output.
    """
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    model = parse(content)
    graph = model.subgraphs[0]
    outer = {int(index): None for index in [*graph.inputs, *graph.outputs] if _is_int8(graph.tensors[index], schema)}
    if not outer:
        raise ReleaseError("conversion-failed", "the int8 model has no int8 input or output to give as uint8")
    code = _operator_code(model, schema)
    before, after = [], []
    for inner in outer:
        outside = _add_outside(graph, inner)
        if inner in graph.inputs:
            before.append(_requantize(code, outside, inner, schema))
        if inner in graph.outputs:
            after.append(_requantize(code, inner, outside, schema))
        _replace(graph, model.signatureDefs or [], inner, outside)
    graph.operators = [*before, *graph.operators, *after]
    return pack(model)


def _is_int8(tensor: Any, schema: Any) -> bool:
    return bool(tensor.type == schema.TensorType.INT8)


def _operator_code(model: Any, schema: Any) -> int:
    quantize = schema.BuiltinOperator.QUANTIZE
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == quantize:
            return index
    added = schema.OperatorCodeT()
    added.deprecatedBuiltinCode = added.builtinCode = quantize
    added.version = 1
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1


def _add_outside(graph: Any, inner: int) -> int:
    """Add the uint8 tensor; it takes the name, and the inner one gets another."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    tensor = copy.deepcopy(graph.tensors[inner])
    tensor.type = schema.TensorType.UINT8
    tensor.quantization.zeroPoint = [int(point) + OFFSET for point in tensor.quantization.zeroPoint]
    graph.tensors[inner].name = tensor.name + b"_int8"
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _requantize(code: int, source: int, target: int, schema: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = [source], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator


def _replace(graph: Any, signatures: list[Any], inner: int, outside: int) -> None:
    graph.inputs = [outside if index == inner else int(index) for index in graph.inputs]
    graph.outputs = [outside if index == inner else int(index) for index in graph.outputs]
    for signature in signatures:
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            if entry.tensorIndex == inner:
                entry.tensorIndex = outside
