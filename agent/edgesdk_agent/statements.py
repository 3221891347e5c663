"""Statements on their way out: signed in batches by the trust worker, published as events and as retained state.

They are durable in `state.db` from the moment they became true; they leave it only when the broker has them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from edgesdk.clock import Clock
from edgesdk.errors import LinkError
from edgesdk.protocol.messages import EVENT_SCHEMA, Event, StateReport, encode
from edgesdk.protocol.topics import Up
from edgesdk_agent.identity import Identity
from edgesdk_agent.store.records import StatementDraft
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.telemetry.outbox import Outbox
from edgesdk_agent.workers.messages import Sign, Signed

logger = logging.getLogger(__name__)

BATCH = 32


class Signer(Protocol):
    """The part of `ChildWorkers` that is needed here."""

    def sign(self, request: Sign) -> Signed:
        """Sign statements."""
        ...


class Publish(Protocol):
    """`Supervisor.publish`."""

    def __call__(self, channel: Up, payload: bytes, *, retain: bool) -> Future[int]:
        """Publish on one of this device's topics; raises `LinkError` when there is no connection."""
        ...


def sign_waiting(state: StateDb, signer: Signer, identity: Identity, key: Path) -> int:
    """Sign what is not signed yet, one batch per child; returns how many were signed.

    Raises:
        EdgeError: If the worker failed; nothing is lost and it can be tried again.
    """
    signed = 0
    while drafts := state.unsigned(BATCH):
        floor = state.time_floor
        statements = tuple(
            draft.complete(device=identity.device, fleet=identity.fleet, enrolment=identity.enrolment, time_floor=floor)
            for draft in drafts
        )
        envelopes = signer.sign(Sign(statements=statements, key=str(key))).envelopes
        state.attach_envelopes({draft.counter: envelope for draft, envelope in zip(drafts, envelopes, strict=True)})
        signed += len(drafts)
    return signed


class StatementPublisher:
    """Publishes signed statements; `pump` and `connected` belong to one thread.

    Each becomes an event with a sequence number of this run; sent again within the run it keeps its number. After a
    restart it may be sent twice: the statement's own counter tells.
    """

    def __init__(
        self,
        state: StateDb,
        outbox: Outbox,
        identity: Identity,
        *,
        clock: Clock,
        publish: Publish,
        wake: Callable[[], None],
    ) -> None:
        self._state = state
        self._outbox = outbox
        self._identity = identity
        self._clock = clock
        self._publish = publish
        self._wake = wake
        self._connection = 0
        self._stale = False
        self._events: dict[int, bytes] = {}
        self._in_flight: set[int] = set()
        self._done: deque[tuple[int, int, BaseException | None]] = deque()

    def connected(self) -> None:
        """Send the retained state anew, and everything that no broker has confirmed."""
        self._connection += 1
        self._in_flight.clear()
        self._stale = True

    def signed(self) -> None:
        """Note that there are new signed statements."""
        self._stale = True

    def pump(self) -> None:
        """Settle acknowledgements, publish events in order, then the retained state. Never blocks."""
        self._settle()
        try:
            for draft, envelope in self._state.unsent(BATCH):
                if draft.counter not in self._in_flight:
                    self._send(self._event(draft, envelope), draft.counter)
            if self._stale:
                self._send_state()
        except LinkError as error:
            logger.debug("not sent now: %s", error)

    def _event(self, draft: StatementDraft, envelope: dict[str, object]) -> bytes:
        if draft.counter not in self._events:
            self._events[draft.counter] = encode(
                Event(
                    schema=EVENT_SCHEMA,
                    device=self._identity.device,
                    fleet=self._identity.fleet,
                    run=self._outbox.run,
                    seq=self._outbox.next_seq("event"),
                    ts=draft.ts,
                    mono_ms=int(self._clock.monotonic() * 1000),
                    historical=draft.run != self._outbox.run,
                    kind="state",
                    model=draft.model,
                    state=draft.state,
                    reason=draft.reason,
                    statement=envelope,
                )
            )
        return self._events[draft.counter]

    def _send(self, payload: bytes, counter: int) -> None:
        future = self._publish("event", payload, retain=False)
        connection = self._connection
        self._in_flight.add(counter)
        future.add_done_callback(lambda done: self._finished(connection, counter, done))

    def _send_state(self) -> None:
        report = StateReport(
            device=self._identity.device, fleet=self._identity.fleet, statements=self._state.latest_envelopes()
        )
        if report.statements:
            self._publish("state", encode(report), retain=True)
        self._stale = False

    def _finished(self, connection: int, counter: int, future: Future[int]) -> None:
        self._done.append((connection, counter, future.exception()))
        self._wake()

    def _settle(self) -> None:
        acknowledged = []
        while self._done:
            connection, counter, error = self._done.popleft()
            if error is None:
                acknowledged.append(counter)
                self._events.pop(counter, None)
            elif isinstance(error, LinkError) and error.code == "link-denied":
                logger.error("the broker denied statement %d; it is tried again after the next connection", counter)
                continue
            if connection == self._connection:
                self._in_flight.discard(counter)
        if acknowledged:
            self._state.mark_sent(acknowledged)
