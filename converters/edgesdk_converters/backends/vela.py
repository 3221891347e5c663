"""Arm Vela: an int8 TFLite file becomes command streams for an Ethos-U, and what the NPU does not take stays as it was.

Vela ends with success when nothing at all went to the NPU, and its printed percentage counts operators after lowering
(one softmax becomes about thirty). So placement is counted from the two flatbuffers: what is left of the portable
file's operators in the compiled one runs on the CPU.
"""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import ReleaseError, TargetError
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.explain import explained
from edgesdk_converters.backends.placement import Fallback, Placement
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.tensor import Tensor
from edgesdk_converters.running.environments import ToolRun, ensure, run_tool
from edgesdk_converters.running.isolation import Call

NPU = "ethos-u"
"""The custom operator that stands for everything that runs on the NPU."""
KIB = 1024
_WARNING = re.compile(r"operator: (?P<op>\S+), ofm: '(?P<name>.*)'\nReason: (?P<why>.*)(?:\n(?P<more>\S.*))?")
_FIGURES = {
    "inferences_per_second": "inferences_per_second",
    "cycles_total": "cycles",
    "cycles_npu": "cycles_npu",
    "nn_macs": "macs",
    "total_original_weights": "weights_bytes",
    "total_npu_encoded_weights": "weights_bytes_encoded",
}
_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")


@explained
def compile_model(call: Call) -> dict[str, Any]:
    """Child action: compile input ``artifact`` with the options of the target into ``model_vela.tflite``.

    Answers the placement, Vela's estimates (cycles, memory by area) and its table of layers.

    Raises:
        ReleaseError: ``tool-crashed``, ``tool-timeout``, or ``tool-did-nothing`` if no operator went to the NPU.
        TargetError: ``memory-too-small`` if it needs more memory than the target has.
    """
    backend = BACKENDS["vela"]
    python = ensure(backend.environment)
    options = call.params["options"]
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        work = Path(folder)
        shutil.copyfile(call.inputs["artifact"], work / "model.tflite")
        made = work / "out" / backend.file
        ran = run_tool(python, command(options), cwd=work, timeout_s=call.tool_timeout_s, expect=[made])
        source, compiled = read_graph(work / "model.tflite"), read_graph(made)
        placement = place(source, compiled, reasons(ran.stdout + ran.stderr))
        if placement.accelerator == 0:
            raise ReleaseError("tool-did-nothing", nothing(placement, ran))
        figures = read_summary(next((work / "out").glob("*_summary_*.csv"), None))
        check_memory(figures, call.params.get("memory", {}), call.params["target"])
        layers = read_layers(work / "out" / "model_per-layer.csv")
        shutil.move(made, call.out / backend.file)
    return {
        "placement": msgspec.to_builtins(placement),
        "tool": backend.environment.packages[0].replace("==", " "),
        "options": options,
        "estimate": figures,
        "layers": layers,
        "tensors": {"inputs": described(compiled.inputs), "outputs": described(compiled.outputs)},
    }


def command(options: dict[str, Any]) -> list[str]:
    """Return Vela's arguments; all three of its configurations are always said, because its defaults are a U55's."""
    return [
        "-m",
        "ethosu.vela",
        "model.tflite",
        "--output-dir",
        "out",
        "--config",
        str(options.get("config", "Arm/vela.ini")),
        "--accelerator-config",
        str(options["accelerator_config"]),
        "--system-config",
        str(options["system_config"]),
        "--memory-mode",
        str(options["memory_mode"]),
        "--optimise",
        str(options.get("optimise", "Performance")),
        "--verbose-performance",
    ]


def place(source: Graph, compiled: Graph, why: dict[str, str]) -> Placement:
    """Count where the operators of `source` went.

    Args:
        source: The portable file.
        compiled: What Vela made of it.
        why: Vela's reasons by the name of an operator's output.
    """
    left = {tensor.name for node in compiled.nodes if node.op != NPU for tensor in node.outputs}
    beside = [node for node in source.nodes if _outputs(node) & left] if _reached(compiled) else list(source.nodes)
    known = {name for node in source.nodes for name in _outputs(node)}
    added = [node for node in compiled.nodes if node.op != NPU and not _outputs(node) & known]
    macs, off = source.macs, sum(node.macs for node in beside)
    fallback = [Fallback(name=node.name, op=node.op, why=why.get(node.name, "")) for node in beside]
    fallback += [Fallback(name=node.name, op=node.op, why="added by Vela") for node in added]
    return Placement(
        accelerator=len(source.nodes) - len(beside),
        cpu=len(fallback),
        fallback=tuple(fallback),
        macs_share=(macs - off) / macs if macs else None,
    )


def _reached(compiled: Graph) -> bool:
    return any(node.op == NPU for node in compiled.nodes)


def _outputs(node: Node) -> set[str]:
    return {tensor.name for tensor in node.outputs}


def reasons(said: str) -> dict[str, str]:
    """Return what Vela said of each operator that it left to the CPU, by the name of its output."""
    found: dict[str, str] = {}
    for match in _WARNING.finditer(said):
        words = match["why"] if match["more"] is None else f"{match['why']}; {match['more']}"
        found.setdefault(match["name"], words)
    return found


def nothing(placement: Placement, ran: ToolRun) -> str:
    """Return the message for a file of which nothing went to the NPU."""
    words = next((each.why for each in placement.fallback if each.why), "")
    counts = re.search(r"CPU operators = .*", ran.stdout)
    said = "; ".join(part for part in (counts.group().strip() if counts else "", words) if part)
    return f"Vela ended with success and put none of {placement.cpu} operators on the NPU; its words: {said}"


def read_summary(path: Path | None) -> dict[str, float]:
    """Return Vela's estimates: cycles and calls per second, and memory in bytes by area.

    Raises:
        ReleaseError: ``tool-did-nothing`` if it wrote none.
    """
    rows = list(_rows(path)) if path is not None else []
    if not rows:
        raise ReleaseError("tool-did-nothing", "Vela ended with success and wrote no summary")
    row = rows[-1]
    figures = {ours: _number(row[theirs]) for theirs, ours in _FIGURES.items() if row.get(theirs)}
    used = {f"{area}_bytes": _number(row.get(f"{area}_memory_used", "0")) * KIB for area in _MEMORIES}
    return {**figures, **{name: round(size) for name, size in used.items() if size}}


def read_layers(path: Path) -> list[dict[str, Any]]:
    """Return Vela's table, its rows of one operator of the portable file added up."""
    layers: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _rows(path):
        name = re.sub(r"_(intermediate|act|softmax_\d+)$", "", row["Name"])
        key = (name, row["Original Operator"])
        layer = layers.setdefault(
            key, {"name": name, "op": key[1], "on": row["Target"], "cycles": 0, "macs": 0, "share": 0.0}
        )
        layer["cycles"] += int(float(row["Op Cycles"]))
        layer["macs"] += int(float(row["MAC Count"]))
        layer["share"] = round(layer["share"] + float(row["Network% (cycles)"]) / 100, 6)
    return list(layers.values())


def check_memory(figures: dict[str, float], memory: dict[str, int | None], target: str) -> None:
    """Refuse a model that needs more memory than the profile says the target has.

    Raises:
        TargetError: ``memory-too-small``.
    """
    storage = sum(figures.get(f"{area}_bytes", 0) for area in _MEMORIES if area != "sram")
    for what, needed in (("sram_bytes", figures.get("sram_bytes", 0)), ("storage_bytes", storage)):
        has = memory.get(what)
        if has is not None and needed > has:
            kind = what.removesuffix("_bytes")
            raise TargetError("memory-too-small", f"{target} has {has:,} bytes of {kind}, Vela needs {needed:,.0f}")


def described(tensors: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """Return inputs or outputs as a runtime describes them; the index is the place among them."""
    return [
        {
            "name": tensor.name,
            "index": place,
            "dtype": tensor.dtype,
            "shape": list(tensor.dims),
            "scale": tensor.quantization.scales[0] if tensor.quantization else None,
            "zero_point": tensor.quantization.zero_points[0] if tensor.quantization else None,
        }
        for place, tensor in enumerate(tensors)
    ]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.is_file():
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
