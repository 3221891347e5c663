"""Small TFLite files, and fakes that stand where a vendor's tool would be installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgesdk_converters.running.environments import RECORD, Environment
from edgesdk_converters.running.isolation import Call

from edgesdk.testing import Deed, fake_tool

Tool = Callable[..., Path]


def make_tflite(path: Path, kind: str = "int8") -> Path:
    """Write a convolution followed by DEQUANTIZE (int8), or a convolution alone (float32, int4 weights)."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    rng = np.random.default_rng(3)

    def tensor(name: str, shape: tuple[int, ...], dtype: int, data: Any = None, scale: float | None = 0.05) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), dtype, 0
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    types, real = schema.TensorType, kind == "float32"
    value, scale = (types.FLOAT32, None) if real else (types.INT8, 0.05)
    weights = {"float32": types.FLOAT32, "int8": types.INT8, "int4": types.INT4}[kind]
    data = rng.integers(-100, 100, (8, 3, 3, 4)).astype(np.float32 if real else np.int8)
    image = tensor("image", (1, 8, 8, 4), value, scale=scale)
    kernel = tensor("kernel", data.shape, weights, data.ravel()[:144] if kind == "int4" else data, scale)
    bias = tensor("bias", (8,), value if real else types.INT32, np.zeros(8, np.float32 if real else np.int32), scale)
    features = tensor("features", (1, 8, 8, 8), value, scale=scale)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    ops = [(schema.BuiltinOperator.CONV_2D, [image, kernel, bias], [features], options)]
    last = features
    if kind == "int8":
        last = tensor("scores", (1, 8, 8, 8), types.FLOAT32, scale=None)
        ops.append((schema.BuiltinOperator.DEQUANTIZE, [features], [last], None))
    graph.inputs, graph.outputs, graph.operators, model.operatorCodes = [image], [last], [], []
    for index, (code, inputs, outputs, builtin) in enumerate(ops):
        known, node = schema.OperatorCodeT(), schema.OperatorT()
        known.builtinCode = known.deprecatedBuiltinCode = code
        known.version = 2
        model.operatorCodes.append(known)
        node.opcodeIndex, node.inputs, node.outputs = index, inputs, outputs
        if builtin is not None:
            node.builtinOptionsType, node.builtinOptions = schema.BuiltinOptions.Conv2DOptions, builtin
        graph.operators.append(node)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.fixture
def tflite(tmp_path: Path) -> Callable[[str], Path]:
    """Make a small TFLite file of a kind."""
    return lambda kind: make_tflite(tmp_path / f"{kind}.tflite", kind)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put a fake where an environment's Python would be."""

    def place(
        environment: Environment, deed: Deed, *, says: str = "", writes: Mapping[str, bytes] | None = None
    ) -> Path:
        monkeypatch.setenv("EDGESDK_ENVIRONMENTS", str(tmp_path / "environments"))
        folder = tmp_path / "environments" / environment.key
        (folder / "bin").mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(asdict(environment)))
        return fake_tool(folder / "bin" / "python", deed=deed, says=says, writes=writes)

    return place


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., Call]:
    """What an action gets."""

    def make(inputs: dict[str, Path], *, timeout_s: float = 60.0, **params: Any) -> Call:
        out = tmp_path / "work" / "out"
        out.mkdir(parents=True)
        return Call(inputs=inputs, params=params, out=out, progress=lambda _done, _total: None, timeout_s=timeout_s)

    return make
