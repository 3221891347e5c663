"""May it begin now? Windows, heat, memory and disk before a download, a test or a trial (pure).

A no is never a verdict on the release: it waits, and the reason says for what.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from edgesdk.errors import DeploymentError
from edgesdk.protocol.messages import Reason
from edgesdk_agent.ota.windows import Window, any_open, seconds_to_opening

ASK_AGAIN_S = 3600.0
"""Longest wait for a window before the clock is looked at again: it may have been set meanwhile."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the device is now; None where it cannot be read, and then it is not judged.

    Attributes:
        now: The time to judge by.
        clock_proven: Whether that is the system's clock, and believed.
        celsius: The hottest zone.
        memory_free: Bytes that could be had without swapping.
        disk_free: Bytes that the agent may still write.
    """

    now: datetime
    clock_proven: bool
    celsius: float | None = None
    memory_free: int | None = None
    disk_free: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What local policy wants.

    Attributes:
        windows: When it may begin; empty: always.
        unproven_clock: What a closed or open window means while the clock is not proven.
        max_celsius: Hotter than this it waits; 0: no limit.
        memory_reserve: Bytes that must stay free beside what the release needs.
        disk_reserve: The same for the disk.
    """

    windows: tuple[Window, ...] = ()
    unproven_clock: Literal["wait", "allow"] = "wait"
    max_celsius: float = 0.0
    memory_reserve: int = 0
    disk_reserve: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What the next step takes, in bytes."""

    memory: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class NotNow:
    """Why it must wait; `seconds` until it is worth asking again, None: back off."""

    reason: Reason
    seconds: float | None = None


def check(limits: Limits, conditions: Conditions, needs: Needs) -> NotNow | None:
    """Return why the next step must wait; None if it may begin."""
    return _window(limits, conditions) or _heat(limits, conditions) or _room(limits, conditions, needs)


def _window(limits: Limits, conditions: Conditions) -> NotNow | None:
    if not limits.windows:
        return None
    if not conditions.clock_proven:
        if limits.unproven_clock == "allow":
            return None
        error = DeploymentError(
            "maintenance-window",
            "the clock is not proven, so nobody knows whether a maintenance window is open",
            hint="Give the device a time source, or set maintenance.unproven_clock to allow.",
        )
        return NotNow(_reason(error))
    if any_open(limits.windows, conditions.now):
        return None
    seconds = seconds_to_opening(limits.windows, conditions.now)
    windows = "; ".join(window.text for window in limits.windows)
    error = DeploymentError(
        "maintenance-window", f"it is {conditions.now:%Y-%m-%d %H:%M %Z}, the maintenance windows are {windows}"
    )
    return NotNow(_reason(error), min(seconds, ASK_AGAIN_S))


def _heat(limits: Limits, conditions: Conditions) -> NotNow | None:
    celsius = conditions.celsius
    if not limits.max_celsius or celsius is None or celsius <= limits.max_celsius:
        return None
    words = f"the hottest zone has {celsius:.1f} degrees Celsius; {limits.max_celsius:g} is the most"
    return NotNow(_reason(DeploymentError("too-hot", words)))


def _room(limits: Limits, conditions: Conditions, needs: Needs) -> NotNow | None:
    memory, disk = limits.memory_reserve + needs.memory, limits.disk_reserve + needs.disk
    if conditions.memory_free is not None and conditions.memory_free < memory:
        words = f"{memory} bytes of memory are needed, {conditions.memory_free} are free"
        return NotNow(_reason(DeploymentError("memory-low", words)))
    if conditions.disk_free is not None and conditions.disk_free < disk:
        words = f"{disk} bytes of disk are needed with the reserve, {conditions.disk_free} are free"
        return NotNow(_reason(DeploymentError("disk-full", words)))
    return None


def _reason(error: DeploymentError) -> Reason:
    return Reason(code=error.code, message=error.message, hint=error.hint)
