"""Small TFLite files written directly, without TensorFlow: what a converter would refuse to make can be made too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

DTYPES = {name.lower(): number for name, number in vars(schema.TensorType).items() if name.isupper()}
NUMPY = {"int4": "int8", "resource": "int32", "string": "uint8"}
OPTIONS = {
    "ARG_MAX": "ArgMaxOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "PADV2": "PadV2Options",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "LSTM": "LSTMOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "BATCH_TO_SPACE_ND": "BatchToSpaceNDOptions",
    "SPACE_TO_BATCH_ND": "SpaceToBatchNDOptions",
    "TOPK_V2": "TopKV2Options",
    "L2_NORMALIZATION": "L2NormOptions",
    "CUMSUM": "CumsumOptions",
}
WITHOUT_OPTIONS = {
    "CEIL", "ELU", "FLOOR", "LOG", "LOGISTIC", "PRELU", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND",
    "RSQRT", "SIN", "SQRT", "TANH",
}  # fmt: skip
Shape = Sequence[int]


class _Aligned(schema.BufferT):  # type: ignore[misc] # the schema has no types
    """A constant at a multiple of 16 bytes, as the schema asks and the generated writer does not do."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated name
        raw = np.asarray(self.data, np.uint8).tobytes()
        builder.StartVector(1, len(raw), 16)
        builder.head -= len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class Builder:
    """Collects tensors and operators of one graph; the methods return tensor indices."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.operatorCodes = []
        self._model.buffers = [schema.BufferT()]
        self._graph = schema.SubGraphT()
        self._graph.name = b"main"
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._model.subgraphs = [self._graph]

    def tensor(
        self,
        shape: Shape | None,
        dtype: str = "int8",
        *,
        data: Any = None,
        scale: float | Sequence[float] | None = 0.05,
        zero_point: int | Sequence[int] | None = 0,
        axis: int = 0,
        signature: Shape | None = None,
        variable: bool = False,
    ) -> int:
        """Add a tensor; without `data` it is computed at run time."""
        tensor = schema.TensorT()
        tensor.name = f"t{len(self._graph.tensors)}".encode()
        tensor.type = DTYPES[dtype]
        tensor.shape = None if shape is None else list(shape)
        tensor.shapeSignature = None if signature is None else list(signature)
        tensor.isVariable = variable
        if data is not None:
            buffer = _Aligned()
            buffer.data = (
                np.ascontiguousarray(np.asarray(data, dtype=NUMPY.get(dtype, dtype))).view(np.uint8).reshape(-1)
            )
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization.scale = scales
            if zero_point is not None:
                points = np.atleast_1d(np.asarray(zero_point, np.int64))
                tensor.quantization.zeroPoint = np.broadcast_to(points, scales.shape).copy()
            tensor.quantization.quantizedDimension = axis
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def input(self, shape: Shape, dtype: str = "int8", **words: Any) -> int:
        """Add a tensor that the caller gives."""
        index = self.tensor(shape, dtype, **words)
        self._graph.inputs.append(index)
        return index

    def ints(self, values: Any, dtype: str = "int32", shape: Shape | None = None) -> int:
        """Add a constant of indices, axes or sizes."""
        array = np.asarray(values)
        return self.tensor(array.shape if shape is None else shape, dtype, data=array, scale=None)

    def op(self, op: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """Add an operator; `options` are fields of its options table, in camel case."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(op)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.intermediates = options.pop("intermediates", None)
        name = OPTIONS.get(op) or "".join(word.capitalize() for word in op.split("_")) + "Options"
        if op not in WITHOUT_OPTIONS and hasattr(schema, name + "T"):
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, name + "T")()
            for key, value in options.items():
                if not hasattr(operator.builtinOptions, key):
                    raise KeyError(f"{name} has no {key}")
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)

    def bytes(self, outputs: Sequence[int]) -> bytes:
        """Return the file; `outputs` is what the caller gets."""
        self._graph.outputs = list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _code(self, op: str) -> int:
        number = getattr(schema.BuiltinOperator, op)
        for index, code in enumerate(self._model.operatorCodes):
            if code.builtinCode == number:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1
