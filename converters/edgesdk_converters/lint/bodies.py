"""Operators inside others (bodies of loops, branches, calls): they are off wherever their caller is. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.report import Finding

LOOPS = frozenset({"WHILE", "STABLEHLO_WHILE", "Loop", "Scan"})
ONCE = "they are counted once, as the number of rounds is not in the file"
UNROLL = "Unroll it: build recurrent layers with unroll=True (Keras) and export them with a fixed number of steps."
Bodies = Mapping[str, tuple[Node, ...]]
"""By the name of an operator: the nodes inside it, those of bodies within bodies too."""


def bodies(graph: Graph, off: set[str]) -> Bodies:
    """Return what the operators of `off` take off the accelerator with them, each node under its outermost caller."""
    held: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for caller in node.callers:
            held.setdefault(caller, []).append(node)
    found = {caller: _inside(caller, held) for caller in held if caller in off}
    nested = {node.name for nodes in found.values() for node in nodes}
    return {caller: nodes for caller, nodes in found.items() if caller not in nested}


def gathered(findings: tuple[Finding, ...], inside: Bodies, idle: frozenset[str]) -> tuple[Finding, ...]:
    """Return the findings with one for a caller and all inside it; those that stop the whole file stay.

    Args:
        findings: Of the whole graph.
        inside: See `bodies`.
        idle: Operators that are not counted.
    """
    within = {node.name for nodes in inside.values() for node in nodes}
    named: set[str] = set()
    kept = []
    for finding in findings:
        if finding.node in within and finding.effect != "refused":
            continue
        if finding.node in inside and finding.effect != "slow" and finding.node not in named:
            named.add(finding.node)
            finding = _told(finding, inside[finding.node], idle)  # noqa: PLW2901 - in its place
        kept.append(finding)
    return tuple(kept)


def _inside(caller: str, held: Mapping[str, list[Node]]) -> tuple[Node, ...]:
    seen: dict[str, Node] = {}
    ahead = [caller]
    while ahead:
        for node in held.get(ahead.pop(), ()):
            if node.name not in seen:
                seen[node.name] = node
                ahead.append(node.name)
    return tuple(seen.values())


def _told(finding: Finding, nodes: tuple[Node, ...], idle: frozenset[str]) -> Finding:
    counted = [node for node in nodes if node.op not in idle]
    loop = finding.op in LOOPS
    words = f"{finding.found}; the operators inside it are off with it: {len(counted)}"
    return msgspec.structs.replace(
        finding,
        found=f"{words}; {ONCE}" if loop else words,
        rewrite=UNROLL if loop else finding.rewrite,
        macs=finding.macs + sum(node.macs for node in counted),
    )
