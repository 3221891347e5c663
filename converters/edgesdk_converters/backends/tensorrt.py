"""TensorRT: the ONNX file is the artifact, and the device builds its engine. Where a profile asks, a parser is asked.

TensorRT-RTX is another product than JetPack's TensorRT, but its parser is the same, and it needs no GPU: it says which
operators are taken. Ask it with ``compiler.options.parser = "tensorrt-rtx"`` in a profile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.explain import explained
from edgesdk_converters.backends.placement import Fallback, Placement
from edgesdk_converters.backends.remote import compile_with
from edgesdk_converters.lint.check import MARKERS
from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.running.isolation import Call


@explained
def compile_model(call: Call) -> dict[str, Any]:
    """Child action: ask the parser about input ``artifact``, which becomes ``model.onnx`` as it is.

    Raises:
        ReleaseError: ``tool-crashed``, ``tool-timeout`` or ``tool-did-nothing``.
    """
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        request = {"model": str(call.inputs["artifact"])}
        said, _ = compile_with(BACKENDS["tensorrt"], request, work=Path(folder), call=call)
    placement = place(said, read_graph(call.inputs["artifact"]))
    return {
        "placement": msgspec.to_builtins(placement),
        "tool": f"the parser of {said['title']}",
        "options": call.params["options"],
        "whole": said["whole"],
    }


def place(said: dict[str, Any], source: Graph) -> Placement:
    """Count the nodes that the parser takes.

    Args:
        said: What the script answered: the places of the nodes that it takes, and errors by node.
        source: The file.
    """
    taken, why = set(said["taken"]), {each["name"]: each["why"] for each in said["errors"]}
    beside = [] if said["whole"] else [node for node in source.nodes if id(node) not in _taken(source, taken)]
    left = {id(node) for node in beside}
    # Marks of quantization are folded into the operators around them; one that is not taken stops those.
    working = [node for node in source.nodes if id(node) not in left and node.op not in MARKERS]
    off = sum(node.macs for node in beside)
    fallback = tuple(Fallback(name=node.name, op=node.op, why=why.get(node.name, "")) for node in beside)
    return Placement(
        accelerator=len(working),
        cpu=len(beside),
        fallback=fallback,
        macs_share=(source.macs - off) / source.macs if source.macs else None,
    )


def _taken(source: Graph, places: set[int]) -> set[int]:
    """Return the nodes, by identity, at these places of the outer graph; the branches of an If are not told of."""
    found: set[int] = set()
    last = -1
    for node in source.nodes:
        if node.index <= last:
            break  # the nodes of inner graphs follow, counted anew
        last = node.index
        if node.index in places:
            found.add(id(node))
    return found
