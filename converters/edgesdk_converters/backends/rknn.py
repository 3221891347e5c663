"""Rockchip's rknn-toolkit2: quantizes and builds from the float ONNX, simulates the chip, says what runs where.

The only place that says which operators run on the NPU is a table in its verbose log.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk.errors import ReleaseError
from edgesdk.runtime import describe_artifact
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.explain import explained
from edgesdk_converters.backends.placement import Fallback, Placement
from edgesdk_converters.backends.remote import Served, compile_with, measure_with
from edgesdk_converters.data.npz import feeds, open_data
from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.running.isolation import Call

CALIBRATION_SAMPLES = 100
"""More make it slow, and the vendor advises 20 to 100."""
_ROW = re.compile(
    r"D RKNN: \[[\d:.]+\] \d+\s+(?P<op>\S+)\s+(?P<dtype>\S+)\s+(?P<target>NPU|CPU|GPU)\s+.*\s(?P<name>\S+:\S+)\s*$",
    re.MULTILINE,
)
_ENDS = frozenset({"InputOperator", "OutputOperator"})
_MEMORY = re.compile(r"Total (Internal|Weight) Memory Size: ([\d.]+)KB")


@explained
def compile_model(call: Call) -> dict[str, Any]:
    """Child action: build input ``artifact`` (float ONNX), quantized with ``calibration``, into ``model.rknn``.

    Raises:
        ReleaseError: ``tool-crashed``, ``tool-timeout``, or ``tool-did-nothing`` if no operator went to the NPU.
    """
    backend = BACKENDS["rknn"]
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        said, log = compile_with(backend, request_of(call, Path(folder)), work=Path(folder), call=call)
    table = [match.groupdict() for match in _ROW.finditer(log)]
    placement = place(table, read_graph(call.inputs["artifact"]))
    if placement.accelerator == 0:
        message = f"rknn-toolkit2 built with success and put none of {placement.cpu} operators on the NPU"
        raise ReleaseError("tool-did-nothing", message)
    memory = {f"{what.lower()}_bytes": round(float(size) * 1024) for what, size in _MEMORY.findall(log)}
    return {
        "placement": msgspec.to_builtins(placement),
        "tool": said["title"],
        "options": said["options"],
        "estimate": memory,
        "layers": [{"name": row["name"], "op": row["op"], "dtype": row["dtype"], "on": row["target"]} for row in table],
    }


def measure(call: Call) -> dict[str, Any]:
    """Child action: build again and run the samples in the simulator; see `measure.measure`."""
    inputs, outputs = describe_artifact(call.inputs["artifact"], "onnxruntime")

    def served(work: Path) -> Served:
        return Served(request=request_of(call, work), inputs=inputs, outputs=outputs)

    return measure_with(BACKENDS["rknn"], served, call)


def request_of(call: Call, work: Path) -> dict[str, Any]:
    """Return what the tool's script is asked; the calibration samples are written into `work`."""
    quantizes = call.params["precision"] == "int8"
    return {
        "model": str(call.inputs["artifact"]),
        "options": call.params["options"],
        "dataset": str(write_samples(call, work)) if quantizes else None,
        "ranges": call.params["ranges"],
        "used": used_inputs(read_graph(call.inputs["artifact"])),
    }


def used_inputs(source: Graph) -> list[int]:
    """Return the places of the inputs that an operator reads: the toolkit takes the others out of the model."""
    read = {tensor.name for node in source.nodes for tensor in node.present} | {each.name for each in source.outputs}
    return [place for place, tensor in enumerate(source.inputs) if tensor.name in read]


def write_samples(call: Call, work: Path) -> Path:
    """Write calibration samples as the toolkit reads them: a file per input, a line per sample."""
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["calibration"], contract, labelled=False)
    inputs, _ = describe_artifact(call.inputs["artifact"], "onnxruntime")
    used = {inputs[place].name for place in used_inputs(read_graph(call.inputs["artifact"]))}
    step = max(1, data.count // CALIBRATION_SAMPLES)
    lines: list[str] = []
    for row, sample in enumerate(feeds(data, {tensor.name: tensor.dtype for tensor in inputs})):
        if row % step or len(lines) == CALIBRATION_SAMPLES:
            continue
        arrays = [array for name, array in sample.items() if name in used]
        files = [work / f"{row}_{place}.npy" for place in range(len(arrays))]
        for file, array in zip(files, arrays, strict=True):
            np.save(file, array)
        lines.append(" ".join(str(file) for file in files))
    listing = work / "calibration.txt"
    listing.write_text("\n".join(lines) + "\n")
    return listing


def place(table: list[dict[str, str]], source: Graph) -> Placement:
    """Count the operators of the toolkit's table by where they run.

    Args:
        table: Rows of its log.
        source: The portable file, whose nodes' names the table bears after the operator's.
    """
    working = [row for row in table if row["op"] not in _ENDS]
    beside = [row for row in working if row["target"] != "NPU"]
    macs = {node.name: node.macs for node in source.nodes}
    names = {row["name"]: row["name"].partition(":")[2] for row in working}
    off = sum(macs.get(names[row["name"]], 0) for row in beside)
    return Placement(
        accelerator=len(working) - len(beside),
        cpu=len(beside),
        fallback=tuple(
            Fallback(name=names[row["name"]], op=row["op"], why=f"the toolkit puts it on the {row['target']}")
            for row in beside
        ),
        macs_share=(source.macs - off) / source.macs if source.macs else None,
    )
