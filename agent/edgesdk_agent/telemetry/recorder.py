"""Turns intervals into telemetry records in the outbox, within the day's cap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from edgesdk.clock import Clock, rfc3339
from edgesdk.errors import LinkError
from edgesdk.protocol.messages import (
    EVENT_SCHEMA,
    TELEMETRY_SCHEMA,
    DeviceTelemetry,
    Event,
    Lost,
    ModelTelemetry,
    Reason,
    Record,
    encode,
)
from edgesdk_agent.identity import Identity
from edgesdk_agent.telemetry.outbox import Outbox

DAY_S = 86_400.0


class Recorder:
    """Makes records; belongs to one thread.

    Args:
        outbox: Where they go.
        identity: Whose they are.
        clock: Time.
        bytes_per_day: Cap; 0: none. A record beyond it is counted as lost and not stored.
        version: Of the agent.
    """

    def __init__(self, outbox: Outbox, identity: Identity, *, clock: Clock, bytes_per_day: int, version: str) -> None:
        self._outbox = outbox
        self._identity = identity
        self._clock = clock
        self._cap = bytes_per_day
        self._version = version
        self._day_began = clock.monotonic()
        self._spent = 0
        self._began = rfc3339(clock.now())

    def record(self, models: Sequence[ModelTelemetry], host: DeviceTelemetry, mark: bytes) -> None:
        """Store the record of the interval that ends now.

        Args:
            models: What apps did.
            host: What the device measures of itself.
            mark: What the next run must know of what was told (`Updater.reported`).
        """
        begin, self._began = self._began, rfc3339(self._clock.now())
        if self._over_cap():
            self._outbox.skip("telemetry")
            return

        def make(seq: int, lost: tuple[Lost, ...]) -> bytes:
            payload = _fitting(self._record(seq, begin, models, host, lost))
            self._spent += len(payload)
            return payload

        self._outbox.append("telemetry", make, mark=mark)

    def error(self, reason: Reason, *, model: str | None = None) -> None:
        """Store an event about something that was refused or failed."""

        def make(seq: int, lost: tuple[Lost, ...]) -> bytes:
            return encode(
                Event(
                    schema=EVENT_SCHEMA,
                    device=self._identity.device,
                    fleet=self._identity.fleet,
                    run=self._outbox.run,
                    seq=seq,
                    ts=rfc3339(self._clock.now()),
                    mono_ms=int(self._clock.monotonic() * 1000),
                    kind="error",
                    model=model,
                    reason=reason,
                    lost=lost,
                )
            )

        self._outbox.append("event", make)

    def _record(
        self, seq: int, begin: str, models: Sequence[ModelTelemetry], host: DeviceTelemetry, lost: tuple[Lost, ...]
    ) -> Record:
        return Record(
            schema=TELEMETRY_SCHEMA,
            device=self._identity.device,
            fleet=self._identity.fleet,
            run=self._outbox.run,
            seq=seq,
            ts=self._began,
            mono_ms=int(self._clock.monotonic() * 1000),
            start=begin,
            end=self._began,
            agent=self._version,
            models=tuple(models),
            host=host,
            lost=lost,
        )

    def _over_cap(self) -> bool:
        if self._clock.monotonic() - self._day_began >= DAY_S:
            self._day_began, self._spent = self._clock.monotonic(), 0
        return bool(self._cap) and self._spent >= self._cap


def _fitting(record: Record) -> bytes:
    """Encode a record; one that is too large loses its sketches, then its models (the counters of all apps remain)."""
    slimmer: tuple[Callable[[ModelTelemetry], ModelTelemetry], ...] = (
        lambda model: model,
        lambda model: msgspec.structs.replace(model, latency_ms={}, confidence=None),
        lambda model: msgspec.structs.replace(model, latency_ms={}, confidence=None, classes={}, errors={}),
    )
    for slim in slimmer:
        try:
            return encode(msgspec.structs.replace(record, models=tuple(slim(model) for model in record.models)))
        except LinkError:
            continue
    return encode(msgspec.structs.replace(record, models=()))
