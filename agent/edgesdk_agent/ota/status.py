"""What `edge-agent status` says of a model, and how a statement is made of it (pure)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgesdk.generation import Slots, TrialPolicy
from edgesdk.protocol.messages import Reason, State
from edgesdk_agent.ota.journal import Journal
from edgesdk_agent.store.records import StatementDraft


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model on this device, as the updater sees it.

    Attributes:
        release: The release that the deployment is about.
        generation: The generation that it is about.
        serving: Which slot apps are served from.
        retry_in_s: Seconds until a transient failure is tried again; None if nothing waits.
        trial_evidence: The figures of a running trial.
        policy: How it is tried.
    """

    model: str
    state: State
    deployment: str
    serial: int
    release: str | None
    generation: str | None
    good: str | None
    good_release: str | None
    previous: str | None
    trial: str | None
    serving: Literal["good", "trial", "none"]
    reason: Reason | None = None
    attempts: int = 0
    retry_in_s: float | None = None
    paused: bool = False
    trial_evidence: dict[str, Any] = {}
    policy: TrialPolicy | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Which run of the agent in which boot speaks, and when."""

    run: str
    boot: str
    ts: str


def draft(
    journal: Journal, slots: Slots, good_release: str | None, origin: Origin, evidence: dict[str, Any]
) -> StatementDraft:
    """Return the statement about a model: its state, and what is served while this is said."""
    return StatementDraft(
        model=journal.model,
        deployment=journal.deployment,
        serial=journal.serial,
        release=journal.wanted.release if journal.wanted else None,
        generation=journal.generation,
        state=journal.state,
        good=slots.good,
        good_release=good_release,
        serving=slots.serve,
        run=origin.run,
        boot=origin.boot,
        ts=origin.ts,
        reason=journal.reason,
        evidence=evidence,
    )


def status(
    journal: Journal,
    slots: Slots,
    good_release: str | None,
    *,
    retry_in_s: float | None,
    paused: bool,
    trial_evidence: dict[str, Any],
) -> ModelStatus:
    """Return how a model stands."""
    return ModelStatus(
        model=journal.model,
        state=journal.state,
        deployment=journal.deployment,
        serial=journal.serial,
        release=journal.wanted.release if journal.wanted else None,
        generation=journal.generation,
        good=slots.good,
        good_release=good_release,
        previous=slots.previous,
        trial=slots.trial,
        serving=slots.serve,
        reason=journal.reason,
        attempts=journal.attempts,
        retry_in_s=retry_in_s,
        paused=paused,
        trial_evidence=trial_evidence,
        policy=journal.wanted.policy if journal.wanted else None,
    )
