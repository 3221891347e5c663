"""What a rule is: a limit in words, a pure check, the reason, and the rewrite that is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgesdk_converters.lint.graph import Graph, Node

Effect = Literal["refused", "fallback", "slow"]
"""What a broken rule comes to: the whole model does not compile or load; the op leaves the accelerator; it is slow."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A limit on single nodes.

    Attributes:
        name: Stable, for reports and for switching off.
        limit: What must hold, in words.
        check: Says what was found instead; None where the limit holds.
        why: The reason for the limit, or what happens beyond it.
        rewrite: What to do to the model.
        ops: Operators that it is about; empty: all.
        but: Operators that it is not about.
        effect: See `Effect`.
    """

    name: str
    limit: str
    check: Callable[[Node], str | None]
    why: str
    rewrite: str
    ops: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    effect: Effect = "fallback"

    def applies(self, op: str) -> bool:
        """Say whether the rule is about an operator."""
        return op not in self.but and (not self.ops or op in self.ops)


@dataclass(frozen=True, kw_only=True)
class GraphRule:
    """A limit on the model as a whole; `check` gives the node (None: the model) and what was found."""

    name: str
    limit: str
    check: Callable[[Graph], Iterator[tuple[Node | None, str]]]
    why: str
    rewrite: str
    effect: Effect = "fallback"


@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """Everything that is known of one accelerator and its compiler.

    Attributes:
        name: For people.
        format: The format that the rules read.
        ops: Operators that it runs; None: all but those of `rewrites`.
        rewrites: For operators that it does not run: what to use instead.
        rules: Of single nodes.
        graph_rules: Of the model.
        last: Of single nodes that break none of `rules`.
        fused: Operators that a fused activation stands for, judged by the same rules.
        unknown: What an operator that it does not run comes to.
        integer_only: Whether it computes with integers of at most 16 bits only.
        absorb: Gives the names of nodes that are taken together, and fit, if nodes made of them fit.
        source: Where the rules come from.
    """

    name: str
    format: Literal["tflite", "onnx"]
    ops: frozenset[str] | None
    rules: tuple[Rule, ...]
    source: str
    graph_rules: tuple[GraphRule, ...] = ()
    last: tuple[Rule, ...] = ()
    rewrites: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, str] = field(default_factory=dict)
    unknown: Effect = "fallback"
    integer_only: bool = False
    absorb: Callable[[Graph, Callable[[Node], bool]], set[str]] | None = None


def words(*ops: str) -> frozenset[str]:
    """Return operators named in one string or several, split at spaces."""
    return frozenset(" ".join(ops).split())
