"""Where the operators of a compiled model run: counted from what the tool wrote, not from what it says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from edgesdk.errors import TargetError

MOST_NAMED = 3
Share = Literal["ops", "macs"]


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """An operator that runs beside the accelerator.

    Attributes:
        name: Its name in the portable file.
        op: What it is.
        why: In the tool's words; empty where it has none.
    """

    name: str
    op: str
    why: str = ""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where the operators of the portable file run.

    Attributes:
        accelerator: How many on the accelerator.
        cpu: How many beside it.
        fallback: Those beside it.
        macs_share: Share of multiply-accumulate operations on the accelerator, 0 … 1; None: not known, or there are
            none.
    """

    accelerator: int
    cpu: int
    fallback: tuple[Fallback, ...] = ()
    macs_share: float | None = None

    def share_off(self, by: Share = "macs") -> float:
        """Return the share beside the accelerator, 0 … 1; where MACs are not known: of operators."""
        if by == "macs" and self.macs_share is not None:
            return 1 - self.macs_share
        whole = self.accelerator + self.cpu
        return self.cpu / whole if whole else 0.0

    def check(self, most: float, *, variant: str, by: Share = "macs") -> None:
        """Refuse a compiled model of which too much runs beside the accelerator.

        Args:
            most: The largest share that is allowed, 0 … 1.
            variant: Whose it is.
            by: Share of what.

        Raises:
            TargetError: ``fallback-share``.
        """
        share = self.share_off(by)
        if share <= most:
            return
        named = "; ".join(_words(each) for each in self.fallback[:MOST_NAMED])
        more = len(self.fallback) - MOST_NAMED
        rest = f"; and {more} more" if more > 0 else ""
        raise TargetError(
            "fallback-share",
            f"{variant}: {share:.1%} of its {by if self.macs_share is not None else 'ops'} run beside the accelerator, "
            f"at most {most:.1%} is allowed: {named}{rest}",
            hint="`edge lint` names a rewrite for each of them; or allow more with --fail-on-fallback.",
        )


def lines(variants: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Give a line for people about each compiled variant of a report."""
    for variant in variants:
        if variant.get("placement") is None:
            continue
        placement = msgspec.convert(variant["placement"], Placement)
        macs = "" if placement.macs_share is None else f" ({placement.macs_share:.1%} of MACs)"
        whole = placement.accelerator + placement.cpu
        beside = ", ".join(f"{op} x{n}" for op, n in Counter(each.op for each in placement.fallback).most_common())
        rest = f"; beside it: {beside}" if beside else ""
        yield f"{variant['variant']}: {placement.accelerator} of {whole} operators on the accelerator{macs}{rest}"


def _words(fallback: Fallback) -> str:
    return f"{fallback.op} {fallback.name}{f' ({fallback.why})' if fallback.why else ''}"
