"""What the lint found, as plain records."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgesdk.errors import TargetError
from edgesdk_converters.lint.rules.rule import Effect

Share = Literal["ops", "macs"]
BRIDGES = frozenset({"QUANTIZE", "DEQUANTIZE"})
"""What converts between integers and float: it is there for the operator beside it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a node, or the model, breaks.

    Attributes:
        node: The node's name; empty: the model as a whole.
        op: Its operator.
        rule: The rule's name.
        effect: ``refused``: the compiler or runtime takes no file with it; ``fallback``: it runs beside the
            accelerator; ``slow``: it runs, and could be faster.
        limit: What must hold.
        found: What was found instead.
        why: The reason for the limit.
        rewrite: What to do.
        macs: Multiply-accumulate operations that it concerns.
    """

    node: str
    op: str
    rule: str
    effect: Effect
    limit: str
    found: str
    why: str
    rewrite: str
    macs: int = 0


class LintReport(msgspec.Struct, frozen=True, kw_only=True):
    """The lint of one model for one target.

    Attributes:
        target: The profile's name.
        rules: Whose rules were applied.
        source: Where they come from.
        format: Format of the linted graph.
        assumed: What was assumed where the file is not yet what the target gets, in words.
        findings: In the order of the nodes.
        ops: Operators, without constants and markers of quantization.
        ops_off: Those that will not run on the accelerator; all, if the file is refused.
        macs: Multiply-accumulate operations of one call.
        macs_off: Those of `ops_off`.
        refused: Whether the compiler or runtime will take no such file.
        notes: What a person should know of the file, the rules and the target, as sentences.
    """

    target: str
    rules: str
    source: str
    format: Literal["tflite", "onnx"]
    assumed: tuple[str, ...]
    findings: tuple[Finding, ...]
    ops: int
    ops_off: int
    macs: int
    macs_off: int
    refused: bool
    notes: tuple[str, ...] = ()

    def share(self, by: Share = "macs") -> float:
        """Return the share that is off the accelerator, 0 … 1; by MACs of a model without any: that of its ops."""
        off, whole = (self.ops_off, self.ops) if by == "ops" or not self.macs else (self.macs_off, self.macs)
        return off / whole if whole else 0.0

    def check(self, most: float, by: Share = "macs") -> None:
        """Refuse a model of which too much is off the accelerator.

        Args:
            most: The largest share that is allowed, 0 … 1.
            by: Share of what.

        Raises:
            TargetError: ``fallback-share``.
        """
        share = self.share(by)
        if not self.refused and share <= most:
            return
        worst = self._worst("refused" if self.refused else "fallback")
        where = " ".join(word for word in (worst.op, worst.node) if word) if worst else ""
        words = f"{where}: {worst.found} (must: {worst.limit})".removeprefix(": ") if worst else ""
        raise TargetError(
            "fallback-share",
            f"{self.rules} takes no file like this: {words}"
            if self.refused
            else f"for {self.target} {share:.1%} of the {by} would run beside the accelerator, at most {most:.1%} is"
            f" allowed; above all {words}",
            hint=worst.rewrite if worst else None,
        )

    def _worst(self, effect: Effect) -> Finding | None:
        """Return the finding of an effect that concerns most work; what goes with another one only if it is alone."""
        found = [each for each in self.findings if each.effect == effect]
        return max(found, key=lambda each: (each.macs, each.op not in BRIDGES), default=None)
