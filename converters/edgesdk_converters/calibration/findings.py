"""What the doctor says, and the two bounds by which it stays silent about clean data. Pure."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

import msgspec

Severity = Literal["refuse", "warn"]
FALSE_ALARMS = 1e-3
"""Largest probability that clean data is refused by any of the statistical checks of one examination."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a data set.

    Attributes:
        code: Of `edgesdk.errors`.
        severity: Whether a conversion stops.
        what: What is wrong, in one sentence.
        where: Tensor, channel or rows.
        measure: What `evidence` counts.
        evidence: The number that was found.
        threshold: The number beyond which it is found, from the sizes of the sets.
        fix: What to do.
    """

    code: str
    severity: Severity
    what: str
    where: str
    measure: str
    evidence: float
    threshold: float
    fix: str

    def sentence(self) -> str:
        """Return everything but the fix, as a message."""
        return f"{self.where}: {self.what} ({self.measure} {self.evidence:.4g}, limit {self.threshold:.4g})"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The findings, refusals first, and what could not be looked at.

    Attributes:
        false_alarm_rate: Of all statistical checks together, for clean data of independent rows.
        checks: How many statistical checks share that rate.
        unchecked: What was not checked, with the reason.
    """

    findings: tuple[Finding, ...]
    false_alarm_rate: float
    checks: int
    unchecked: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that stop a conversion."""
        return tuple(finding for finding in self.findings if finding.severity == "refuse")


def quantile(alpha: float) -> float:
    """Return the standard normal quantile that is exceeded with probability `alpha`."""
    return NormalDist().inv_cdf(1 - alpha)


def share_error(rows: int, alpha: float) -> float:
    """Return how far a share that one row can move by 1/rows is above its expectation with probability `alpha`.

    McDiarmid's inequality ("On the method of bounded differences", 1989): ``sqrt(ln(1 / alpha) / (2 rows))``. It holds
    for the share of repeated rows too, whose terms are not independent.
    """
    return math.sqrt(math.log(1 / alpha) / (2 * rows))
