"""Who may do what at the hub's HTTP API, and the one-time tokens by which devices come in."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgesdk.canonical import sha256_hex
from edgesdk.errors import ConfigError, TrustError
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.tables import ApiToken, EnrolmentToken

Role = Literal["viewer", "operator", "publisher", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
GRANTS: dict[str, frozenset[str]] = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "publisher": frozenset({"viewer", "publisher"}),
    "admin": frozenset(ROLES),
}
TOKEN_PREFIX = "edgehub_"  # noqa: S105 - lets secret scanners find a leaked token
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the id and role of an API token."""

    id: str
    name: str
    role: str

    def may(self, role: Role) -> bool:
        """Tell whether the caller's role includes `role`."""
        return role in GRANTS[self.role]


def create_api_token(registry: Registry, name: str, role: Role, *, actor: str) -> tuple[str, str]:
    """Make an API token and return its id and text; the text is shown once and stored only as a hash."""
    text, token_id = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES), secrets.token_hex(8)
    with registry.writing() as session:
        session.add(
            ApiToken(id=token_id, name=name, sha256=sha256_hex(text.encode()), role=role, created_at=registry.now())
        )
        registry.audit(session, actor, "api-token.create", token_id, name=name, role=role)
    return token_id, text


def adopt_first_token(registry: Registry, text: str) -> None:
    """Let the folder's first token open a database that knows no token yet, for example a new PostgreSQL one."""
    with registry.writing() as session:
        if session.scalars(select(ApiToken.id).limit(1)).first() is None:
            row = ApiToken(
                id=secrets.token_hex(8),
                name="admin",
                sha256=sha256_hex(text.encode()),
                role="admin",
                created_at=registry.now(),
            )
            session.add(row)
            registry.audit(session, "edge hub start", "api-token.adopt", row.id, role="admin")


def revoke_api_token(registry: Registry, token_id: str, *, actor: str) -> None:
    """Take an API token's rights away.

    Raises:
        ConfigError: ``argument-invalid`` if there is none of this id.
    """
    with registry.writing() as session:
        row = session.get(ApiToken, token_id)
        if row is None:
            raise ConfigError("argument-invalid", f"there is no API token {token_id!r}")
        row.revoked_at = row.revoked_at or registry.now()
        registry.audit(session, actor, "api-token.revoke", token_id)


def authenticate(registry: Registry, text: str) -> Caller | None:
    """Return whose token this is, or None.

    Only hashes are compared: the look-up is by SHA-256 (its timing tells nothing of the token), then in constant time.
    """
    digest = sha256_hex(text.encode(errors="replace"))
    with registry.reading() as session:
        row = session.scalars(select(ApiToken).where(ApiToken.sha256 == digest)).one_or_none()
    if row is None or row.revoked_at is not None or not hmac.compare_digest(row.sha256, digest):
        return None
    return Caller(row.id, row.name, row.role)


def add_enrolment_token(registry: Registry, token_id: str, *, fleet: str, expires_at: int, actor: str) -> None:
    """Remember a one-time token by its id, the hash of its secret; `expires_at` in Unix milliseconds."""
    with registry.writing() as session:
        session.add(EnrolmentToken(id=token_id, fleet=fleet, created_at=registry.now(), expires_at=expires_at))
        registry.audit(session, actor, "enrolment-token.create", token_id, expires_at=expires_at)


def use_enrolment_token(registry: Registry, session: Session, token_id: str, *, fleet: str) -> EnrolmentToken:
    """Use a token up, in the transaction that enrols the device.

    Raises:
        TrustError: ``token-invalid`` if it is unknown, expired, used, or another fleet's.
    """
    row = session.get(EnrolmentToken, token_id, with_for_update=True)
    if row is None or row.fleet != fleet:
        raise TrustError("token-invalid", "the enrolment token is not one of this hub's")
    if row.used_at is not None:
        raise TrustError("token-invalid", "the enrolment token was used before; each enrols one device once")
    if row.expires_at <= registry.now():
        raise TrustError("token-invalid", "the enrolment token has expired")
    row.used_at = registry.now()
    return row
