"""Qualcomm's HTP through onnxruntime-qnn: a context binary, proof of what runs where, and answers of the HTP itself.

The x86 wheel computes as the NPU does, so what was compiled is what is judged: the context binary, on this machine.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import ReleaseError
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.explain import explained
from edgesdk_converters.backends.placement import Fallback, Placement
from edgesdk_converters.backends.remote import Served, compile_with, measure_with
from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.running.isolation import Call

MARKERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""They say how numbers are meant; the compiler folds them into the operators around them."""
EP = "QNNExecutionProvider"


@explained
def compile_model(call: Call) -> dict[str, Any]:
    """Child action: compile input ``artifact`` (QDQ ONNX) into ``model_ctx.onnx``, context binary and all.

    Answers the placement; ``whole`` is the runtime's own proof: a session that may not fall back to the CPU.

    Raises:
        ReleaseError: ``tool-crashed``, ``tool-timeout``, or ``tool-did-nothing`` if no operator went to the NPU.
    """
    backend, options = BACKENDS["qnn"], call.params["options"]
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        request = {"model": str(call.inputs["artifact"]), "options": provider_options(options)}
        said, _ = compile_with(backend, request, work=Path(folder), call=call)
    placement = place(said["nodes"], read_graph(call.inputs["artifact"]))
    if placement.accelerator == 0:
        message = f"onnxruntime-qnn compiled with success and put none of {placement.cpu} operators on the NPU"
        raise ReleaseError("tool-did-nothing", message)
    return {
        "placement": msgspec.to_builtins(placement),
        "tool": said["title"],
        "options": options,
        "whole": said["whole"],
        "tensors": {name: said[name] for name in ("inputs", "outputs")},
    }


def measure(call: Call) -> dict[str, Any]:
    """Child action: run input ``artifact``, a compiled file, on the HTP back end; see `measure.measure`."""
    options = provider_options(call.params["options"])
    request = {"model": str(call.inputs["artifact"]), "options": options}
    return measure_with(BACKENDS["qnn"], lambda _work: Served(request=request), call)


def provider_options(options: dict[str, Any]) -> dict[str, str]:
    """Return a target's options as the plug-in takes them."""
    return {name: str(value) for name, value in options.items()}


def place(nodes: list[dict[str, str]], source: Graph) -> Placement:
    """Count operators by where the runtime put them; those it made of one of ours bear its name and a suffix.

    Args:
        nodes: Execution provider, operator and name of each node, after the runtime's own graph passes.
        source: The portable file.
    """
    working = [node for node in nodes if node["op"] not in MARKERS]
    beside = [node for node in working if node["ep"] != EP]
    macs = {node.name: node.macs for node in source.nodes}
    off = sum(macs.get(re.sub(r"_token_\d+$", "", node["name"]), 0) for node in beside)
    return Placement(
        accelerator=len(working) - len(beside),
        cpu=len(beside),
        fallback=tuple(Fallback(name=node["name"], op=node["op"], why=f"runs in {node['ep']}") for node in beside),
        macs_share=(source.macs - off) / source.macs if source.macs else None,
    )
