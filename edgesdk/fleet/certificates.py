"""Which certificates the fleet's authority gave out, for whom, and which of them count no more."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from edgesdk.durable import make_folder, write_atomic
from edgesdk.errors import ConfigError
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.tables import Certificate, Device
from edgesdk.trust.ca import ROLES, Authority, Issued, Role, load_certificate

_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")


def record(registry: Registry, session: Session, certificate_pem: bytes, subject: str) -> str:
    """Note a new certificate, in the transaction that gives it out; returns its serial number in hexadecimal."""
    serial = f"{load_certificate(certificate_pem).serial_number:x}"
    session.add(Certificate(serial=serial, subject=subject, issued_at=registry.now()))
    return serial


def revoke_all(registry: Registry, session: Session, subject: str) -> None:
    """Revoke every certificate of a device or role."""
    valid = update(Certificate).where(Certificate.subject == subject, Certificate.revoked_at.is_(None))
    session.execute(valid.values(revoked_at=registry.now()))


def revoked(registry: Registry) -> dict[int, datetime]:
    """Return the serial numbers that count no more, and since when."""
    with registry.reading() as session:
        rows = session.execute(
            select(Certificate.serial, Certificate.revoked_at).where(Certificate.revoked_at.is_not(None))
        ).all()
        # Devices that enrolled before certificates were noted have theirs in their own row only.
        devices = session.execute(
            select(Device.certificate_serial, Device.revoked_at).where(
                Device.revoked_at.is_not(None), Device.certificate_serial != ""
            )
        ).all()
    return {int(serial, 16): datetime.fromtimestamp(at / 1000, UTC) for serial, at in (*devices, *rows) if at}


def issue_role(registry: Registry, authority: Authority, role: Role, *, name: str, days: int, actor: str) -> Issued:
    """Make a key and certificate for the broker's role `role`, or `role.name`; one process at a time can use each.

    Raises:
        ConfigError: ``argument-invalid`` for another role or a name that the broker's access list cannot hold.
    """
    if name and not _NAME.fullmatch(name):
        raise ConfigError("argument-invalid", f"a name is [A-Za-z0-9_-]{{1,48}}, got {name[:80]!r}")
    subject = f"{role}.{name}" if name else role
    issued = authority.issue_client(role, name=name, days=days)
    with registry.writing() as session:
        serial = record(registry, session, issued.certificate_pem, subject)
        registry.audit(session, actor, "certificate.issue", subject, serial=serial, days=days)
    return issued


def revoke_role(registry: Registry, subject: str, *, actor: str) -> int:
    """Revoke the certificates of one name of a role; returns how many there were.

    Raises:
        ConfigError: ``argument-invalid`` if none that is valid was made for this name, or it is a device's.
    """
    with registry.writing() as session:
        mine = select(Certificate).where(Certificate.subject == subject, Certificate.revoked_at.is_(None))
        count = len(session.scalars(mine).all())
        if not count or subject.partition(".")[0] not in ROLES:
            raise ConfigError("argument-invalid", f"no valid certificate was made for the role {subject[:80]!r}")
        revoke_all(registry, session, subject)
        registry.audit(session, actor, "certificate.revoke", subject, count=count)
    return count


def roles_of(registry: Registry, serials: Iterable[int]) -> tuple[str, ...]:
    """Return the names of roles (no devices) among the holders of these certificates."""
    wanted = {f"{serial:x}" for serial in serials}
    if not wanted:
        return ()
    with registry.reading() as session:
        gone = session.execute(
            select(Certificate.serial, Certificate.subject).where(Certificate.revoked_at.is_not(None))
        ).all()
    return tuple(
        sorted({subject for serial, subject in gone if serial in wanted and subject.partition(".")[0] in ROLES})
    )


def parse_role(text: str) -> Role:
    """Return the role of this name.

    Raises:
        ConfigError: ``argument-invalid``.
    """
    for role in ROLES:
        if role == text:
            return role
    raise ConfigError("argument-invalid", f"there is no role {text[:40]!r}; expected one of {', '.join(ROLES)}")


def write_issued(folder: Path, name: str, issued: Issued, ca_pem: bytes) -> dict[str, Path]:
    """Write authority, certificate and key (0600) for a client; returns the paths by ``ca``, ``cert`` and ``key``."""
    make_folder(folder)
    files = {"ca": folder / "ca.pem", "cert": folder / f"{name}.pem", "key": folder / f"{name}.key"}
    write_atomic(files["key"], issued.key_pem, mode=0o600)
    write_atomic(files["cert"], issued.certificate_pem)
    write_atomic(files["ca"], ca_pem)
    return files


def role_names(registry: Registry, role: Role) -> tuple[str, ...]:
    """Return the names that the broker's access list has to know for a role."""
    with registry.reading() as session:
        found = session.scalars(select(Certificate.subject).where(Certificate.revoked_at.is_(None)).distinct()).all()
    return (role, *sorted(subject for subject in found if subject.startswith(f"{role}.")))
