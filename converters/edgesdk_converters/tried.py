"""What becomes of the variants of a conversion: each is tried, whatever becomes of the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from edgesdk.errors import EdgeError
from edgesdk_converters.judge import Judged
from edgesdk_converters.repair.rungs import Point
from edgesdk_converters.request import Prepared

VERDICTS = frozenset({"accuracy-gate", "accuracy-thin", "fallback-share", "latency-gate", "repair-exhausted"})
"""What is said of one variant after work."""
FAILURES = frozenset({"tool-crashed", "tool-did-nothing", "tool-timeout", "artifact-unloadable"})
"""What a vendor's tool, or a runtime, may come to over the file of one variant."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The variants, by the names that they were asked for.

    Attributes:
        prepared: What was asked; with repair, the plan is of the rungs that were chosen.
        judged: Those with figures; of a ladder without a passing rung the best one.
        refused: Why others, or those, are none of a release.
        points: What the repair ladder tried.
    """

    prepared: Prepared
    judged: dict[str, Judged] = field(default_factory=dict)
    refused: dict[str, EdgeError] = field(default_factory=dict)
    points: dict[str, list[Point]] = field(default_factory=dict)

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Take down what refuses a variant, and go on; an error about the request ends everything as ever."""
        try:
            yield
        except EdgeError as error:
            if error.code not in VERDICTS | FAILURES:
                raise
            self.refused[name] = error
