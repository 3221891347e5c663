"""What `StateDb` stores, as types."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.protocol.messages import Reason, State, Statement


class StatementDraft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A statement without the identity of the device, as the updater makes it; fields as in `Statement`.

    `counter` is 0 until `StateDb` has given it one.
    """

    model: str
    deployment: str
    serial: int
    release: str | None
    generation: str | None
    state: State
    good: str | None
    good_release: str | None
    serving: Literal["good", "trial", "none"]
    run: str
    boot: str
    ts: str
    counter: int = 0
    reason: Reason | None = None
    evidence: dict[str, Any] = {}

    def complete(self, *, device: str, fleet: str, enrolment: str, time_floor: str) -> Statement:
        """Return the statement that is to be signed."""
        return Statement(
            device=device,
            fleet=fleet,
            enrolment=enrolment,
            time_floor=time_floor,
            evidence_sha256=sha256_hex(canonical_json(self.evidence)) if self.evidence else None,
            **{name: getattr(self, name) for name in self.__struct_fields__},
        )


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A generation that failed here, and why."""

    generation: str
    model: str
    release: str
    reason: Reason
    at: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The desired document in force: what `VerifyDesired` wants to know of it next time."""

    envelope: dict[str, Any]
    serial: int
    payload_sha256: str
    keys_epoch: int
    time_floor: str


class Floors(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`floors.json`: what may not go back even when `state.db` is lost.

    Attributes:
        statement: Above every statement counter that was ever used.
        serial: Of the last accepted desired document.
        time: The trusted-time floor.
        quarantine: By generation.
    """

    statement: int = 0
    serial: int = 0
    time: str = ""
    quarantine: dict[str, Quarantined] = {}
