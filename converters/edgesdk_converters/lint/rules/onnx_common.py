"""Checks that several ONNX rule sets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgesdk.targets.profiles import ProfileRuntime
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.rules.rule import GraphRule
from edgesdk_converters.lint.tensor import Tensor

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
Check = Callable[[Node], str | None]


def stored(node: Node) -> Tensor | None:
    """Return the integer side of QuantizeLinear or DequantizeLinear."""
    return node.outputs[0] if node.op == "QuantizeLinear" and node.outputs else node.input(0)


def open_dimension(node: Node) -> str | None:
    """Say which tensor of a node has an open dimension or an unknown shape."""
    for tensor in (*node.present, *node.outputs):
        if tensor.dtype != "unknown" and not tensor.static and not tensor.constant:
            shape = "an unknown shape" if tensor.shape is None else "x".join(str(size or "?") for size in tensor.shape)
            return f"{tensor.name} has {shape}" if tensor.shape is None else f"{tensor.name} is {shape}"
    return None


def rank_above(most: int) -> Check:
    """Return a check for tensors with more dimensions than that."""

    def check(node: Node) -> str | None:
        for tensor in (*node.present, *node.outputs):
            if len(tensor.shape or ()) > most:
                return f"{tensor.name} has {len(tensor.shape or ())} dimensions"
        return None

    return check


def constant_input(index: int, what: str) -> Check:
    """Return a check that an input, if it is given, is a constant."""

    def check(node: Node) -> str | None:
        given = node.input(index)
        return None if given is None or given.constant else f"{what} is computed"

    return check


def attribute(name: str, *allowed: object, default: object) -> Check:
    """Return a check that an attribute has one of some values."""

    def check(node: Node) -> str | None:
        value = node.attributes.get(name, default)
        return None if value in allowed else f"{name} is {value}"

    return check


def dtypes(*refused: str) -> Check:
    """Return a check for values of certain types that are computed with, not only quantized."""

    def check(node: Node) -> str | None:
        if node.op in QDQ or node.op in {"Cast", "Constant"}:
            return None
        for tensor in (*node.present, *node.outputs):
            if tensor.dtype in refused:
                return f"{tensor.name} is {tensor.dtype}"
        return None

    return check


def ceilings(runtime: ProfileRuntime, who: str) -> tuple[GraphRule, ...]:
    """Return the rules about operator set and IR version that a target's oldest runtime or parser reads."""

    def opset(graph: Graph) -> Iterator[tuple[Node | None, str]]:
        version = graph.opsets.get("", 0)
        if runtime.max_opset is not None and version > runtime.max_opset:
            yield None, f"opset {version}"
        if runtime.min_opset is not None and 0 < version < runtime.min_opset:
            yield None, f"opset {version}"

    def ir(graph: Graph) -> Iterator[tuple[Node | None, str]]:
        if runtime.max_ir is not None and (graph.ir_version or 0) > runtime.max_ir:
            yield None, f"IR version {graph.ir_version}"

    rules: list[GraphRule] = []
    if runtime.max_opset is not None:
        lowest = f"{runtime.min_opset} to " if runtime.min_opset is not None else "at most "
        rules.append(
            GraphRule(
                name="opset",
                limit=f"the operator set is {lowest}{runtime.max_opset}",
                check=opset,
                why=f"The oldest {who} of this target reads no other.",
                rewrite=f"Export with an opset_version of {lowest}{runtime.max_opset}.",
                effect="refused",
            )
        )
    if runtime.max_ir is not None:
        rules.append(
            GraphRule(
                name="ir-version",
                limit=f"the IR version is at most {runtime.max_ir}",
                check=ir,
                why=f"The oldest {who} of this target reads no newer one.",
                rewrite="Convert with `edge convert`, which pins the IR version, or set ir_version in the file.",
                effect="slow",
            )
        )
    return tuple(rules)
