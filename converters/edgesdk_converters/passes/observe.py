"""Run a float model on calibration data and write down what the values of its activations were.

Traps: litert-quantizer's own calibration is a *moving average* of ranges, which depends on the order of samples and
clips; onnxruntime's holds every activation of every sample in memory, and its ``CalibMaxIntermediateOutputs`` *drops*
all samples but the last few. Here every sample counts, and memory is that of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract, DType
from edgesdk.errors import ReleaseError
from edgesdk.runtime.backend import known_dtype
from edgesdk_converters.data.npz import DataSet, feeds, open_data
from edgesdk_converters.passes.flatbuffer import parse
from edgesdk_converters.passes.ranges import Values, gather
from edgesdk_converters.passes.tflite_unread import unread
from edgesdk_converters.recipes import Recipe
from edgesdk_converters.running.isolation import Call, Progress

TFLITE_TOOLS = ("ai-edge-litert", "numpy")
ONNX_TOOLS = ("onnxruntime", "onnx", "numpy")
VALUES = "values.json"
REPORT_EVERY = 16

Feed = dict[str, NDArray[Any]]
Tensors = dict[str, NDArray[Any]]
Run = Callable[[Feed], Tensors]


def observe_tflite(call: Call) -> dict[str, Any]:
    """Child action: write `VALUES` for the float TFLite file ``source`` on ``calibration``.

    Raises:
        ReleaseError: ``conversion-failed`` for a graph that computes in a loop: its values cannot be seen from outside.
    """
    content = call.inputs["source"].read_bytes()
    _check_loops(parse(content))
    return _observe(call, *open_tflite(content))


def _check_loops(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    loops = {schema.BuiltinOperator.WHILE: "WHILE", schema.BuiltinOperator.IF: "IF"}
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    for operator in model.subgraphs[0].operators:
        kind = loops.get(kinds[operator.opcodeIndex])
        if kind is not None:
            name = model.subgraphs[0].tensors[operator.outputs[0]].name.decode()
            message = f"{name} computes in a {kind}, and what is inside cannot be calibrated for full int8 or int16x8"
            hint = "Build Keras LSTM, GRU and RNN layers with unroll=True; or take recipe int8-dynamic or float16."
            raise ReleaseError("conversion-failed", message, hint=hint)


def observe_onnx(call: Call) -> dict[str, Any]:
    """Child action: write `VALUES` for the float ONNX file ``source`` on ``calibration``."""
    return _observe(call, *open_onnx(call.inputs["source"]))


def needs_counts(recipes: Sequence[Recipe]) -> bool:
    """Say whether one of the recipes needs more than minima and maxima."""
    return any(recipe.calibration_range != "minmax" for recipe in recipes)


def read_values(path: Path) -> dict[str, Values]:
    """Read what was written by name of the tensor."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Values])


def _observe(call: Call, run: Run, inputs: dict[str, DType]) -> dict[str, Any]:
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["calibration"], contract, labelled=False)
    count: bool = call.params["count"]
    walks = iter(range(2))

    def walk() -> Iterator[Tensors]:
        return _walk(run, data, inputs, _part(call.progress, next(walks), 1 + count))

    values = gather(walk, count=count)
    (call.out / VALUES).write_bytes(msgspec.json.encode(values))
    return {"tensors": len(values), "samples": data.count}


def _walk(run: Run, data: DataSet, inputs: dict[str, DType], progress: Progress) -> Iterator[Tensors]:
    for done, feed in enumerate(feeds(data, inputs)):
        if done % REPORT_EVERY == 0:
            progress(done, data.count)
        yield {name: array for name, array in run(feed).items() if array.dtype == np.float32}


def _part(progress: Progress, part: int, parts: int) -> Progress:
    return lambda done, total: progress(part * total + done, parts * total)


def open_tflite(content: bytes) -> tuple[Run, dict[str, DType]]:
    """Return what runs a TFLite file and gives all tensors of its main graph, and its inputs' dtypes by name."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only in the child

    # One thread: sums in another order would change the ranges, and with them the bytes.
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    details = {str(detail["name"]): detail for detail in interpreter.get_input_details()}
    graph = parse(content).subgraphs[0]
    # What nobody reads has no memory: a part of a split that an unrolled LSTM does not need.
    written = [index for operator in graph.operators for index in operator.outputs if index not in unread(graph)]
    indices = {graph.tensors[index].name.decode(): int(index) for index in [*graph.inputs, *written]}

    def run(feed: Feed) -> Tensors:
        for name, value in feed.items():
            interpreter.set_tensor(details[name]["index"], value)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in indices.items()}

    return run, {name: known_dtype(np.dtype(detail["dtype"]).name, name) for name, detail in details.items()}


def open_onnx(path: Path) -> tuple[Run, dict[str, DType]]:
    """Return what runs an ONNX file and gives all tensors of its main graph, and its inputs' dtypes by name."""
    import onnx  # noqa: PLC0415 - only in the child
    import onnxruntime  # noqa: PLC0415 - only in the child

    model = onnx.load(path)
    given = {output.name for output in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name and name not in given]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    inputs = {node.name: onnx_dtype(node.type, node.name) for node in session.get_inputs()}

    def run(feed: Feed) -> Tensors:
        values = zip(names, session.run(names, feed), strict=True)
        return feed | {name: value for name, value in values if isinstance(value, np.ndarray)}

    return run, inputs


def onnx_dtype(kind: str, where: str) -> DType:
    """Return the dtype of onnxruntime's ``tensor(float)``."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return known_dtype({"float": "float32", "double": "float64"}.get(name, name), where)
