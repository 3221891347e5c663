"""Applies the rules of a target to a graph. Pure: nothing is read or run."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgesdk.targets.profiles import Profile
from edgesdk_converters.lint.assume import as_target_sees
from edgesdk_converters.lint.bodies import bodies, gathered
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.left_float import explained
from edgesdk_converters.lint.report import Finding, LintReport
from edgesdk_converters.lint.rules import find_rules
from edgesdk_converters.lint.rules.rule import GraphRule, Rule, RuleSet

MARKERS = frozenset({"Constant", "QuantizeLinear", "DequantizeLinear", "Identity"})
"""Of ONNX: no work of their own; they are folded or fused wherever they are understood at all."""
UNKNOWN_OP = "supported-op"


def check(graph: Graph, profile: Profile) -> LintReport:
    """Lint a model for a target: every operator that will not run on its accelerator, why, and the rewrite.

    Raises:
        TargetError: ``runtime-missing`` if no rules are known for the target and the format.
    """
    rules = find_rules(profile, graph.format)
    seen = as_target_sees(graph, rules)
    findings = tuple(find(seen, rules))
    if rules.integer_only:
        findings = _with_cures(findings, seen)
    refused = any(finding.effect == "refused" for finding in findings)
    off = off_nodes(seen, findings)
    inside = bodies(seen, off)
    findings = gathered(findings, inside, MARKERS)
    off |= {node.name for nodes in inside.values() for node in nodes}
    counted = [node for node in seen.nodes if node.op not in MARKERS]
    return LintReport(
        target=profile.name,
        rules=rules.name,
        source=rules.source,
        format=seen.format,
        assumed=seen.assumed,
        findings=findings,
        ops=len(counted),
        ops_off=len(counted) if refused else sum(node.name in off for node in counted),
        macs=seen.macs,
        macs_off=seen.macs if refused else sum(node.macs for node in counted if node.name in off),
        refused=refused,
    )


def notes(graph: Graph, profile: Profile, *, made: bool = False) -> tuple[str, ...]:
    """Return what a person should know who lints a file: it counts in no figure.

    Args:
        graph: The file.
        profile: The target.
        made: Whether a recipe made it; else it is a file of that person's own.
    """
    quantized = "the model is quantized already and linted as it is; `edge convert` takes its float original"
    rules = find_rules(profile, graph.format)
    forecast = f"a forecast by rules from {rules.source}; the vendor's tool has the last word"
    return tuple(
        text
        for text, holds in (
            (quantized, graph.quantized and not made),
            (forecast, profile.accelerator is not None),
            (profile.notes.removesuffix("."), profile.status != "deployable" and profile.notes),
        )
        if holds
    )


def _with_cures(findings: tuple[Finding, ...], graph: Graph) -> tuple[Finding, ...]:
    nodes = {node.name: node for node in graph.nodes}
    return tuple(each if each.node not in nodes else explained(each, nodes[each.node], graph) for each in findings)


def off_nodes(graph: Graph, findings: tuple[Finding, ...]) -> set[str]:
    """Return the names of the nodes that run beside the accelerator by a finding of their own."""
    named = {node.name for node in graph.nodes}
    return {finding.node for finding in findings if finding.effect != "slow" and finding.node in named}


def find(graph: Graph, rules: RuleSet) -> Iterator[Finding]:
    """Give what each rule finds, first of the model, then of its nodes."""
    for rule in rules.graph_rules:
        for node, found in rule.check(graph):
            yield _finding(rule, node, found)
    taken = rules.absorb(graph, lambda node: not any(_of_node(node, rules))) if rules.absorb is not None else set()
    for node in graph.nodes:
        if node.name not in taken:
            yield from _of_node(node, rules)


def _of_node(node: Node, rules: RuleSet) -> Iterator[Finding]:
    fused = rules.fused.get(str(node.attributes.get("fused_activation_function", "none")))
    parts = [node]
    if fused is not None and _knows(node, rules):  # an operator of its own between the output and itself
        parts.append(Node(name=node.name, op=fused, inputs=node.outputs, outputs=node.outputs, index=node.index))
    first: list[Finding] = []
    for part in parts:
        broken = list(_broken(part, rules.rules))
        if not _knows(part, rules):  # what else it breaks matters only where it stops the whole file
            broken = [*(each for each in broken if each.effect == "refused"), _unknown(part, rules)]
        first += [_of(part, node, finding) for finding in broken]
    yield from first
    if all(finding.effect == "slow" for finding in first):
        yield from (_of(part, node, finding) for part in parts for finding in _broken(part, rules.last))


def _knows(node: Node, rules: RuleSet) -> bool:
    if node.op in MARKERS and not node.domain:
        return True
    return node.op not in rules.rewrites if rules.ops is None else node.op in rules.ops


def _broken(node: Node, rules: tuple[Rule, ...]) -> Iterator[Finding]:
    for rule in rules:
        if rule.applies(node.op) and (found := rule.check(node)) is not None:
            yield _finding(rule, node, found)


def _of(part: Node, node: Node, finding: Finding) -> Finding:
    """Put a finding about a fused activation on the operator that it is fused into."""
    if part is node:
        return finding
    return msgspec.structs.replace(finding, op=node.op, found=f"its fused {part.op}: {finding.found}", macs=node.macs)


def _unknown(node: Node, rules: RuleSet) -> Finding:
    return Finding(
        node=node.name,
        op=node.op,
        rule=UNKNOWN_OP,
        effect=rules.unknown,
        limit=f"an operator of {rules.name}",
        found=f"{node.op} is none",
        why=f"{rules.name} has no such operator.",
        rewrite=rules.rewrites.get(node.op, "Use another operator, or move it to the start or the end of the model."),
        macs=node.macs,
    )


def _finding(rule: Rule | GraphRule, node: Node | None, found: str) -> Finding:
    return Finding(
        node=node.name if node is not None else "",
        op=node.op if node is not None else "",
        rule=rule.name,
        effect=rule.effect,
        limit=rule.limit,
        found=found,
        why=rule.why,
        rewrite=rule.rewrite,
        macs=node.macs if node is not None else 0,
    )
