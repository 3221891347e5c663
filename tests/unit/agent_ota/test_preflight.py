"""Whether work may begin: each condition, its reason and its hint."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from edgesdk_agent.ota.preflight import ASK_AGAIN_S, Conditions, Limits, Needs, check
from edgesdk_agent.ota.windows import parse_window

from edgesdk.errors import CODES

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WELL = Conditions(now=NOON, clock_proven=True, celsius=40.0, memory_free=1000, disk_free=1000)
SOON, LATE = parse_window("* 12:10-13:00"), parse_window("* 22:00-23:00")
LIMITS = Limits(max_celsius=80, memory_reserve=100, disk_reserve=100)


@pytest.mark.parametrize(
    ("limits", "conditions", "needs", "code", "seconds"),
    [
        (Limits(), WELL, Needs(), None, None),
        (LIMITS, WELL, Needs(memory=900, disk=900), None, None),
        (LIMITS, replace(WELL, celsius=80.1), Needs(), "too-hot", None),
        (LIMITS, replace(WELL, celsius=None), Needs(), None, None),
        (Limits(max_celsius=0), replace(WELL, celsius=200.0), Needs(), None, None),
        (LIMITS, WELL, Needs(memory=901), "memory-low", None),
        (LIMITS, replace(WELL, memory_free=None), Needs(memory=10**12), None, None),
        (LIMITS, WELL, Needs(disk=901), "disk-full", None),
        (LIMITS, replace(WELL, disk_free=None), Needs(disk=10**12), None, None),
        (replace(LIMITS, windows=(SOON,)), WELL, Needs(), "maintenance-window", 600.0),
        (replace(LIMITS, windows=(LATE,)), WELL, Needs(), "maintenance-window", ASK_AGAIN_S),
        (replace(LIMITS, windows=(LATE, parse_window("Mon 11:00-13:00"))), WELL, Needs(), None, None),
        (replace(LIMITS, windows=(SOON,)), replace(WELL, clock_proven=False), Needs(), "maintenance-window", None),
        (
            replace(LIMITS, windows=(SOON,), unproven_clock="allow"),
            replace(WELL, clock_proven=False),
            Needs(),
            None,
            None,
        ),
    ],
)
def test_each_condition(
    limits: Limits, conditions: Conditions, needs: Needs, code: str | None, seconds: float | None
) -> None:
    """What is known and beyond its limit waits, transiently and with a hint; what cannot be read is not judged."""
    found = check(limits, conditions, needs)
    assert (found.reason.code if found else None) == code
    if found:
        assert found.seconds == seconds
        assert not found.reason.permanent
        assert found.reason.hint
        assert found.reason.code in CODES
