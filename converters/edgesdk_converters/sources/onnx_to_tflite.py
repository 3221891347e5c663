"""Float ONNX to float TFLite by onnx2tf, in its own environment; the outcome is run beside the source.

onnx2tf lays tensors out with channels last inside, as TFLite wants it. Inputs are told to keep the shape that the ONNX
file and the contract give them; outputs that come out with channels last are turned back. So the contract holds for
either format, and apps need not know which one they run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk.errors import ReleaseError
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.data.npz import encoded
from edgesdk_converters.passes.flatbuffer import pack, parse
from edgesdk_converters.passes.observe import onnx_dtype
from edgesdk_converters.planning.routes import ONNX2TF
from edgesdk_converters.running.environments import ensure, run_tool
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.agreement import check_agreement, probes
from edgesdk_converters.sources.settled import settle
from edgesdk_converters.sources.tflite import rename

TIMEOUT_S = 900.0
CURE = "onnx2tf cannot rewrite this graph: give the .keras, SavedModel or .tflite that it was exported from."
_UNTAKEN = re.compile(r"[^A-Za-z0-9_.\\/>-]")
"""What no name of an operator may have in TensorFlow."""
SCRIPT = Path(__file__).parent / "tools" / "onnx2tf_tool.py"


def convert(call: Call) -> dict[str, Any]:
    """Child action: write ``model.tflite`` from the float ONNX file ``source``.

    Raises:
        ReleaseError: ``conversion-failed`` if it does not compute the same; ``tool-crashed``, ``tool-timeout`` or
            ``tool-did-nothing`` with onnx2tf's words.
        ConfigError: ``environment-failed`` or ``dependency-missing`` if its environment cannot be made.
    """
    import onnx  # noqa: PLC0415 - only in the child

    source, work = call.inputs["source"], call.out.parent
    contract = msgspec.convert(call.params["contract"], Contract)
    model = onnx.load(source)
    model = settle(model, contract, work, whole=True) or model
    graph = model.graph
    inputs, outputs = [entry.name for entry in graph.input], [entry.name for entry in graph.output]
    for entry in [*graph.input, *graph.output]:
        _check_sizes(entry)
    _write_probes(source, contract, outputs, work / "probes.npz")
    _number(graph, inputs, outputs)
    onnx.save(model, work / "numbered.onnx")
    request = {
        "source": str(work / "numbered.onnx"),
        "out": str(work / "onnx2tf"),
        "probes": str(work / "probes.npz"),
        "inputs": [spec.name for spec in order_by_name(contract.inputs, inputs, what="inputs")],
        "outputs": [spec.name for spec in order_by_name(contract.outputs, outputs, what="outputs")],
    }
    (work / "request.json").write_text(json.dumps(request))
    made = work / "onnx2tf" / "model.tflite"
    try:
        run_tool(ensure(ONNX2TF), [str(SCRIPT), "request.json"], cwd=work, timeout_s=TIMEOUT_S, expect=[made])
    except ReleaseError as error:
        raise ReleaseError(error.code, error.message, hint=CURE) from error
    path = call.out / "model.tflite"
    written = parse(made.read_bytes())
    rename(written, contract)  # TensorFlow lists inputs in an order of its own
    path.write_bytes(pack(written))
    difference = check_agreement(source, path, contract, what="the TFLite file that onnx2tf made")
    return {"difference": difference}


def _check_sizes(entry: Any) -> None:
    if not all(size.dim_value for size in entry.type.tensor_type.shape.dim):
        message = f"{entry.name!r} has open sizes, which TFLite cannot have"
        raise ReleaseError(
            "conversion-failed",
            message,
            hint="Fix the sizes in the contract, or export with fixed ones (an If may hide them).",
        )


def _write_probes(source: Path, contract: Contract, outputs: list[str], path: Path) -> None:
    """Write one sample as the artifact takes it, and what the artifact answers."""
    import onnxruntime  # noqa: PLC0415 - only in the child

    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    tensors = {node.name: onnx_dtype(node.type, node.name) for node in session.get_inputs()}
    feed = encoded(contract, tensors, next(probes(contract)))
    arrays = {f"input_{index}": value for index, value in enumerate(feed.values())}
    arrays |= {f"output_{index}": value for index, value in enumerate(session.run(outputs, feed))}
    np.savez(path, **arrays)


def _number(graph: Any, inputs: list[str], outputs: list[str]) -> None:
    """Call inputs ``input_0`` … and outputs ``output_0`` …, and operators what TensorFlow takes for a name.

    onnx2tf changes names of inputs and outputs that TensorFlow does not take, and crashes on those of operators.
    """
    names = {name: f"input_{index}" for index, name in enumerate(inputs)}
    names |= {name: f"output_{index}" for index, name in enumerate(outputs)}
    for node in graph.node:
        node.name = _UNTAKEN.sub("_", node.name)
        node.name = node.name if node.name[:1].isalnum() else f"n{node.name}"
        for words in (node.input, node.output):
            for index, name in enumerate(words):
                words[index] = names.get(name, name)
    for entry in [*graph.input, *graph.output, *graph.value_info]:
        entry.name = names.get(entry.name, entry.name)
