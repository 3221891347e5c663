"""What devices send, on its way into the registry: nothing is believed before its signature, address and counter are.

A message that is refused is counted by device and error code, and changes nothing else. Statements travel twice (the
retained state and the events), in any order and more than once; a device's counter decides what is newest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.errors import EdgeError, LinkError, TrustError
from edgesdk.fleet import rotations
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.tables import CapabilitiesRow, Device, Latest, ProblemRow, StatementRow
from edgesdk.protocol import topics
from edgesdk.protocol.messages import STATEMENT_TYPE, Event, Presence, Reason, Reply, Statement, StateReport, decode
from edgesdk.targets.matching import Capabilities
from edgesdk.trust.dsse import verify_document
from edgesdk.trust.keys import public_key

log = logging.getLogger(__name__)
LARGEST = 2**63 - 1
"""Counters and serials beyond this do not fit a database column."""
MAX_CAPABILITIES = 16_384
MAX_PROBLEM = 4096


class Inbox:
    """Checks and stores messages.

    Args:
        registry: Where they go.
        fleet: The fleet of this hub; messages of others are dropped.
        on_reply: Called with each answer to a command; it may raise `EdgeError`, which rejects it.
    """

    def __init__(self, registry: Registry, *, fleet: str, on_reply: Callable[[Reply], None] = lambda _: None) -> None:
        self._registry = registry
        self._fleet = fleet
        self._on_reply = on_reply

    def receive(self, topic: str, payload: bytes) -> bool:
        """Take one MQTT message in; returns whether it changed the registry."""
        parsed = topics.parse(topic)
        if parsed is None or parsed.direction != "up" or parsed.fleet != self._fleet:
            self._registry.reject("", "audience")
            return False
        device = self._device(parsed.device)
        try:
            if device is None or device.revoked_at is not None or device.fleet != parsed.fleet:
                raise TrustError("device-unknown", f"{parsed.device} is not enrolled in {self._fleet}, or is revoked")
            return self._dispatch(parsed, payload, device)
        except EdgeError as error:
            log.warning("a message on %s was rejected: %s", topic, error)
            self._registry.reject(device.id if device else "", error.code)
            return False

    def _dispatch(self, topic: topics.Topic, payload: bytes, device: Device) -> bool:
        match topic.channel:
            case "presence":
                return self._presence(decode(payload, Presence), topic)
            case "state":
                report = decode(payload, StateReport)
                _require_sender(report.device, report.fleet, topic)
                return self._statements(device, topic, list(report.statements.items()))
            case "event":
                event = decode(payload, Event)
                _require_sender(event.device, event.fleet, topic)
                return event.statement is not None and self._statements(device, topic, [(event.model, event.statement)])
            case "reply":
                reply = decode(payload, Reply)
                _require_sender(reply.device, reply.fleet, topic)
                self._on_reply(reply)
                return False
            case _:
                return False

    def _device(self, device: str) -> Device | None:
        with self._registry.reading() as session:
            return session.get(Device, device)

    def _presence(self, presence: Presence, topic: topics.Topic) -> bool:
        _require_sender(presence.device, presence.fleet, topic)
        with self._registry.writing() as session:
            row = session.get_one(Device, topic.device, with_for_update=True)
            if presence.online or row.online or row.presence_at is None:  # offline stays so since it went
                row.presence_at = self._registry.now()
            row.online = presence.online
            row.run, row.agent = presence.run[:64], presence.agent[:64]
            if presence.capabilities is not None:
                _note_capabilities(session, row.id, presence.capabilities, self._registry.now())
            if presence.online:  # the last will knows of no problem, and of no cure
                _note_problem(session, row.id, presence.problem, self._registry.now())
        return True

    def _statements(
        self, device: Device, topic: topics.Topic, envelopes: Iterable[tuple[str | None, Mapping[str, Any]]]
    ) -> bool:
        # Each statement stands for itself: one that is refused does not take the others of its report with it.
        changed, refused = False, None
        for model, envelope in envelopes:
            try:
                statement = self._read(envelope, topic, device)
                if model is not None and statement.model != model:
                    raise TrustError("audience", f"a statement about {statement.model} was sent as one about {model}")
                if statement.counter <= device.counter and self._is_known(statement):
                    continue
                with self._registry.writing() as session:
                    changed |= _store(session, statement, envelope, self._registry.now())
            except EdgeError as error:
                refused = error
        if refused is not None:
            raise refused
        return changed

    def _read(self, envelope: Mapping[str, Any], topic: topics.Topic, device: Device) -> Statement:
        """Read a statement; the first one signed by a key that the device rotated to makes that its key."""
        try:
            return read_statement(envelope, topic, device)
        except TrustError as error:
            fresh = rotations.pending_key(self._registry, device)
            if fresh is None or error.code not in {"signature-invalid", "signature-missing"}:
                raise
            statement = read_statement(envelope, topic, device, public=fresh)
            rotations.promote(self._registry, device.id, fresh)
            device.statement_public = fresh
            return statement

    def _is_known(self, statement: Statement) -> bool:
        """Tell without a write whether this very statement is kept already: most come twice."""
        with self._registry.reading() as session:
            known = session.scalars(_same(statement)).one_or_none()
        return known is not None and known.document == canonical_json(statement).decode()


def _note_capabilities(session: Session, device: str, found: Capabilities, now: int) -> None:
    document = msgspec.json.encode(found).decode()
    if len(document) > MAX_CAPABILITIES:
        raise LinkError("message-too-large", f"{device} tells its capabilities in {len(document)} bytes")
    session.merge(CapabilitiesRow(device=device, at=now, document=document))


def _note_problem(session: Session, device: str, problem: Reason | None, now: int) -> None:
    if problem is None:
        session.execute(delete(ProblemRow).where(ProblemRow.device == device))
        return
    document = msgspec.json.encode(problem).decode()
    if len(document) > MAX_PROBLEM:
        raise LinkError("message-too-large", f"{device} tells its problem in {len(document)} bytes")
    session.merge(ProblemRow(device=device, at=now, document=document))


def read_statement(
    envelope: Mapping[str, Any], topic: topics.Topic, device: Device, *, public: str | None = None
) -> Statement:
    """Verify one statement: signed by the device's registered key, about itself, in its current enrolment.

    `public` takes the place of the registered key.

    Raises:
        TrustError: ``signature-…``, ``payload-type``, ``audience`` or ``device-unknown`` (an older enrolment).
        LinkError: ``message-invalid``.
    """
    payload = verify_document(envelope, STATEMENT_TYPE, [public_key(public or device.statement_public)])
    statement = decode(payload, Statement)
    _require_sender(statement.device, statement.fleet, topic)
    if statement.enrolment != device.enrolment:
        raise TrustError("device-unknown", f"{device.id} speaks in enrolment {statement.enrolment[:64]!r}, which ended")
    if statement.counter > LARGEST or statement.serial > LARGEST:
        raise LinkError("message-invalid", f"a counter or serial of {device.id} is beyond {LARGEST}")
    if statement.evidence_sha256 not in {None, sha256_hex(canonical_json(statement.evidence))}:
        raise LinkError("message-invalid", f"the evidence of {device.id} differs from its digest")
    return statement


def _require_sender(device: str, fleet: str, topic: topics.Topic) -> None:
    if (device, fleet) != (topic.device, topic.fleet):
        raise TrustError("audience", f"{fleet}/{device} was named on the topic of {topic.fleet}/{topic.device}")


def _store(session: Session, statement: Statement, envelope: Mapping[str, Any], now: int) -> bool:
    """Store a verified statement once; returns whether it is new."""
    document = canonical_json(statement).decode()
    device = session.get_one(Device, statement.device, with_for_update=True)
    newest = statement.counter > device.counter  # then it cannot be there already
    if not newest and (known := session.scalars(_same(statement)).one_or_none()) is not None:
        if known.document != document:
            raise TrustError("counter-contradicted", f"{device.id} signed two different statements {statement.counter}")
        return False
    row = StatementRow(
        device=device.id,
        enrolment=statement.enrolment,
        model=statement.model,
        counter=statement.counter,
        deployment=statement.deployment,
        state=statement.state,
        received_at=now,
        document=document,
        envelope=msgspec.json.encode(envelope).decode(),
    )
    session.add(row)
    session.flush()
    if newest:
        device.counter, device.reported_serial = statement.counter, statement.serial
    _note_latest(session, row, newest=newest)
    return True


def _same(statement: Statement) -> Select[StatementRow]:
    return select(StatementRow).where(
        StatementRow.device == statement.device,
        StatementRow.enrolment == statement.enrolment,
        StatementRow.counter == statement.counter,
    )


def _note_latest(session: Session, row: StatementRow, *, newest: bool) -> None:
    latest = session.get(Latest, (row.device, row.model))
    if latest is None:
        session.add(Latest(device=row.device, model=row.model, statement=row.id))
    elif newest or _is_later(row, session.get_one(StatementRow, latest.statement)):
        latest.statement = row.id


def _is_later(row: StatementRow, before: StatementRow) -> bool:
    return before.enrolment != row.enrolment or before.counter < row.counter
