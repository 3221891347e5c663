"""What the demo saw, in one value: the table and the HTML page are rendered from it and from nothing else."""

from __future__ import annotations

from typing import Any

import msgspec


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One converted variant and what was measured on it.

    Attributes:
        size: Bytes of the bundle, `source_size`: bytes of the float source.
        difference: Accuracy of the artifact minus that of its float source, with its paired `interval`.
        details: Per-class figures and the confusion matrix, as the converter reports them.
    """

    release: str
    variant: str
    target: str
    precision: str
    size: int
    source_size: int
    accuracy: float
    source_accuracy: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    samples: int
    runtime: str
    on_target: bool
    details: dict[str, Any] = {}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was refused, in its own words."""

    what: str
    code: str
    message: str
    hint: str


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A device entered a state, `at` seconds after the demo's first deployment."""

    at: float
    device: str
    release: str
    state: str
    code: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout from the operator's command to its end."""

    release: str
    title: str
    outcome: str
    started: float
    ended: float
    moments: tuple[Moment, ...]
    bytes_moved: int
    reason: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the app.

    Attributes:
        at: Seconds after the first deployment.
        release: Release that answered.
        served: Release that `serve` named at that time; it differs where the good generation answered for the trial.
        ms: How long the call took, in milliseconds.
        failed: Code of the error that the app saw, or empty.
    """

    at: float
    device: str
    release: str
    served: str
    label: str
    truth: str
    ms: float
    failed: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demo saw.

    Attributes:
        devices: The runtime of each device.
        moments: Every change of state of every device.
        slow_ms: What counted as a slow call from 2.0.0 on, in milliseconds.
        slow_calls: Calls slower than that, by release, as telemetry told.
        telemetry_releases: Calls by release, as telemetry told.
        explore: Commands that explore what was left.
    """

    edgesdk: str
    machine: str
    started: str
    seconds: float
    devices: dict[str, str]
    variants: tuple[Variant, ...]
    refusal: Refusal | None
    rollouts: tuple[Rollout, ...]
    moments: tuple[Moment, ...]
    calls: tuple[Call, ...]
    slow_ms: float
    slow_calls: dict[str, int]
    telemetry_records: int
    telemetry_releases: dict[str, int]
    explore: tuple[str, ...] = ()
