"""From int8 to int16 by way of float: tflite-runtime 2.14 has no QUANTIZE that does it at once.

An int8 value is exact in float32, so the detour loses nothing; it is rounded once, as before.
"""

from __future__ import annotations

from typing import Any

from edgesdk_converters.passes.flatbuffer import pack, parse

DEQUANTIZE_INT8_VERSION = 2


def with_detours(content: bytes) -> bytes:
    """Return the file with each QUANTIZE from int8 to int16 made a DEQUANTIZE and a QUANTIZE; else unchanged."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    model = parse(content)
    graph = model.subgraphs[0]
    widening = [operator for operator in graph.operators if _widens(model, graph, operator, schema)]
    if not widening:
        return content
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = DEQUANTIZE_INT8_VERSION
    model.operatorCodes.append(code)
    operators = []
    for operator in graph.operators:
        if any(operator is each for each in widening):
            operators.append(_dequantize(graph, operator, len(model.operatorCodes) - 1, schema))
        operators.append(operator)
    graph.operators = operators
    return pack(model)


def _widens(model: Any, graph: Any, operator: Any, schema: Any) -> bool:
    if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.QUANTIZE:
        return False
    source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    return bool(source.type == schema.TensorType.INT8 and target.type == schema.TensorType.INT16)


def _dequantize(graph: Any, operator: Any, code: int, schema: Any) -> Any:
    """Add a float tensor from which `operator` now reads; return what writes it."""
    source = int(operator.inputs[0])
    tensor = schema.TensorT()
    tensor.name = graph.tensors[operator.outputs[0]].name + b"/float"
    tensor.shape, tensor.shapeSignature = graph.tensors[source].shape, graph.tensors[source].shapeSignature
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
    graph.tensors.append(tensor)
    operator.inputs = [len(graph.tensors) - 1]
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, [source], [len(graph.tensors) - 1]
    made.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    made.builtinOptions = schema.DequantizeOptionsT()
    return made
