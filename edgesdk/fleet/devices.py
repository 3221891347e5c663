"""The fleet's devices: how they come in, what is known of them, how they are put out."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgesdk.clock import rfc3339
from edgesdk.errors import ConfigError, TrustError
from edgesdk.fleet import certificates
from edgesdk.fleet.access import add_enrolment_token, use_enrolment_token
from edgesdk.fleet.desired import clear, read_desired
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.releases import RepositoryView
from edgesdk.fleet.tables import CapabilitiesRow, DesiredRow, Device, Latest, ProblemRow, RolloutRow, StatementRow
from edgesdk.protocol.messages import Statement
from edgesdk.trust.ca import Authority
from edgesdk.trust.enrolment import EnrolRequest, EnrolResponse, Token, check_request

SECRET_BYTES = 24
MAX_HISTORY = 200
WHERE_IDS = "Ids are in `edge fleet devices`; a new device comes in with `edge fleet token`."


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where devices find the hub, the broker and the repository (URLs)."""

    hub: str
    broker: str
    repository: str


class Enrolment:
    """Lets devices in.

    Args:
        registry: Holds tokens and devices.
        authority: Certifies their TLS keys.
        repository: Its first root is what devices pin.
        addresses: What they are told.
        fleet: The name of the fleet.
    """

    def __init__(
        self, registry: Registry, authority: Authority, repository: RepositoryView, addresses: Addresses, *, fleet: str
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._repository = repository
        self._addresses = addresses
        self._fleet = fleet

    def create_token(self, *, valid: timedelta, actor: str) -> Token:
        """Make a one-time token; the hub keeps only the hash of its secret.

        Raises:
            TrustError: ``repository-swapped`` if devices could not verify what the repository's folder now holds.
        """
        self._repository.root_bytes()
        expires = self._registry.clock.now() + valid
        token = Token(
            hub=self._addresses.hub,
            fleet=self._fleet,
            ca_sha256=self._authority.sha256,
            root_sha256=self._repository.root_sha256,
            secret=secrets.token_urlsafe(SECRET_BYTES),
            expires_at=rfc3339(expires),
        )
        add_enrolment_token(
            self._registry, token.id, fleet=self._fleet, expires_at=int(expires.timestamp() * 1000), actor=actor
        )
        return token

    def enrol(self, request: EnrolRequest) -> EnrolResponse:
        """Make a device of whoever holds an unused token and proves both keys.

        A device that comes back with the same statement key keeps its id and starts a new enrolment.

        Raises:
            TrustError: ``possession``, ``token-invalid``, or ``device-unknown`` if the key was revoked.
        """
        checked = check_request(request)
        public = checked.statement_key.public_hex
        with self._registry.writing() as session:
            known = session.scalars(select(Device).where(Device.statement_public == public)).one_or_none()
            if known is not None and known.revoked_at is not None:
                raise TrustError("device-unknown", "this statement key was revoked", hint="Make new keys and enrol.")
            device_id = known.id if known else _new_id(session, checked.name)
            token = use_enrolment_token(self._registry, session, checked.token_id, fleet=self._fleet)
            certificate = self._authority.issue_device(checked.csr_pem, device_id)
            enrolment = secrets.token_hex(8)
            device = known or Device(id=device_id, fleet=self._fleet, statement_public=public)
            device.name, device.enrolment, device.enrolled_at = checked.name, enrolment, self._registry.now()
            device.certificate_serial = certificates.record(self._registry, session, certificate, device_id)
            device.counter = device.reported_serial = 0
            session.add(device)
            session.flush()
            token.used_by = device_id
            self._registry.audit(session, f"token {token.id[:12]}", "device.enrol", device_id, name=checked.name)
        return EnrolResponse(
            device=device_id,
            fleet=self._fleet,
            enrolment=enrolment,
            certificate_pem=certificate.decode(),
            ca_pem=self._authority.certificate_pem.decode(),
            broker_url=self._addresses.broker,
            repository_url=self._addresses.repository,
            root_json=self._repository.root_bytes().decode(),
        )


def _new_id(session: Session, name: str) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "device"
    while True:
        device_id = f"{stem}-{secrets.token_hex(3)}"
        if session.get(Device, device_id) is None:
            return device_id


def revoke(registry: Registry, device_id: str, *, actor: str) -> None:
    """Believe nothing that a device says from now on, revoke its certificates, and ask it for nothing any more.

    Raises:
        TrustError: ``device-unknown``.
    """
    with registry.writing() as session:
        device = session.get(Device, device_id)
        if device is None:
            raise TrustError("device-unknown", f"there is no device {device_id[:80]!r}", hint=WHERE_IDS)
        device.revoked_at, device.online = device.revoked_at or registry.now(), False
        certificates.revoke_all(registry, session, device_id)
        row = session.get(DesiredRow, device_id, with_for_update=True)
        if row is not None:
            clear(row)
        registry.audit(session, actor, "device.revoke", device_id)


def describe_all(registry: Registry) -> list[dict[str, Any]]:
    """Describe every device, by id: presence, what it was asked to run, what it last said and how old that is."""
    with registry.reading() as session:
        rows = session.scalars(select(Device).order_by(Device.id)).all()
        asked = {row.device: row for row in session.scalars(select(DesiredRow))}
        able = {row.device: row for row in session.scalars(select(CapabilitiesRow))}
        wrong = {row.device: row for row in session.scalars(select(ProblemRow))}
        query = select(StatementRow).join(Latest, Latest.statement == StatementRow.id)
        ends = _rollout_states(session)
        said: dict[str, list[StatementRow]] = {}
        for statement in session.scalars(query):
            said.setdefault(statement.device, []).append(statement)
    now = registry.now()
    return [
        _describe(row, asked.get(row.id), able.get(row.id), wrong.get(row.id), said.get(row.id, []), ends, now)
        for row in rows
    ]


def describe(registry: Registry, device_id: str) -> dict[str, Any]:
    """Describe one device, with its newest statements (`MAX_HISTORY` at most).

    Raises:
        TrustError: ``device-unknown``.
    """
    with registry.reading() as session:
        row = session.get(Device, device_id)
        if row is None:
            raise TrustError("device-unknown", f"there is no device {device_id[:80]!r}", hint=WHERE_IDS)
        desired = session.get(DesiredRow, device_id)
        able, wrong = session.get(CapabilitiesRow, device_id), session.get(ProblemRow, device_id)
        newest = select(StatementRow).where(StatementRow.device == device_id)
        latest = session.scalars(newest.join(Latest, Latest.statement == StatementRow.id)).all()
        history = session.scalars(newest.order_by(StatementRow.id.desc()).limit(MAX_HISTORY)).all()
        ends = _rollout_states(session)
    found = _describe(row, desired, able, wrong, latest, ends, registry.now())
    found["history"] = [_said(statement, row, registry.now()) for statement in history]
    return found


def desired_envelope(registry: Registry, device_id: str) -> dict[str, Any]:
    """Return the signed document of what a device should run.

    Raises:
        TrustError: ``device-unknown`` if there is no such device, or it is revoked.
        ConfigError: ``argument-invalid`` if nothing was asked of it yet.
    """
    with registry.reading() as session:
        device, row = session.get(Device, device_id), session.get(DesiredRow, device_id)
    if device is None or device.revoked_at is not None:
        raise TrustError("device-unknown", f"there is no device {device_id[:80]!r}, or it is revoked")
    if row is None or not row.envelope:
        raise ConfigError(
            "argument-invalid",
            f"nothing was asked of {device_id} yet",
            hint=f"Deploy first: edge fleet deploy MODEL RELEASE --devices {device_id}.",
        )
    found: dict[str, Any] = json.loads(row.envelope)
    return found


def _describe(  # noqa: PLR0917 - one row of each table
    row: Device,
    desired: DesiredRow | None,
    able: CapabilitiesRow | None,
    wrong: ProblemRow | None,
    said: Any,
    ends: Mapping[str, str],
    now: int,
) -> dict[str, Any]:
    asked = read_desired(desired) if desired else None
    models = asked.models if asked else {}
    return {
        "id": row.id,
        "name": row.name,
        "fleet": row.fleet,
        "enrolment": row.enrolment,
        "enrolled_at": row.enrolled_at,
        "revoked": row.revoked_at is not None,
        "online": row.online,
        "presence_at": row.presence_at,
        "agent": row.agent,
        "run": row.run,
        "capabilities": json.loads(able.document) if able else None,
        "capabilities_at": able.at if able else None,
        "problem": json.loads(wrong.document) if wrong else None,
        "problem_at": wrong.at if wrong else None,
        "models": {statement.model: _said(statement, row, now) for statement in said},
        # A document outlives its rollout: whether that goes on, was done, or was halted is said beside it.
        "desired": {
            name: {**msgspec.to_builtins(model), "rollout": ends.get(model.deployment, "")}
            for name, model in models.items()
        },
        "serial": asked.serial if asked else 0,
        "published": desired is not None and desired.published_serial == desired.serial,
        "reported_serial": row.reported_serial,
        # It obeys a later document than this database knows: the database is a backup, see docs/operators.md.
        "ahead": row.reported_serial > (asked.serial if asked else 0),
    }


def _rollout_states(session: Session) -> dict[str, str]:
    """Return how each rollout stands, by id."""
    return {row.id: row.state for row in session.execute(select(RolloutRow.id, RolloutRow.state))}


def _said(row: StatementRow, device: Device, now: int) -> dict[str, Any]:
    statement = msgspec.json.decode(row.document, type=Statement)
    return {
        "state": statement.state,
        "model": statement.model,
        "release": statement.release,
        "good_release": statement.good_release,
        "serving": statement.serving,
        "generation": statement.generation,
        "deployment": statement.deployment,
        "counter": statement.counter,
        "serial": statement.serial,
        "reason": msgspec.to_builtins(statement.reason),
        "evidence": statement.evidence,
        "ts": statement.ts,
        "received_at": row.received_at,
        "age_seconds": max(0.0, (now - row.received_at) / 1000),
        "current_enrolment": row.enrolment == device.enrolment,
    }
