"""The hub's tables. Only portable types: SQLite is the default, PostgreSQL works by its URL.

All times are Unix milliseconds. Secrets are stored as SHA-256 only.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 1


class Base(DeclarativeBase):
    """All tables."""


class Meta(Base):
    """Facts about the database itself: its schema version and its fleet."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(256))


class Device(Base):
    """One enrolled device and its latest enrolment."""

    __tablename__ = "devices"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    fleet: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(128), default="")
    enrolment: Mapped[str] = mapped_column(String(64), unique=True)
    statement_public: Mapped[str] = mapped_column(String(64), unique=True)
    certificate_serial: Mapped[str] = mapped_column(String(64), default="")
    enrolled_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    online: Mapped[bool] = mapped_column(default=False)
    presence_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    run: Mapped[str] = mapped_column(String(64), default="")
    agent: Mapped[str] = mapped_column(String(64), default="")
    counter: Mapped[int] = mapped_column(BigInteger, default=0)
    reported_serial: Mapped[int] = mapped_column(BigInteger, default=0)


class Certificate(Base):
    """One certificate of the fleet's authority; `subject` is a device's id, or a role's name."""

    __tablename__ = "certificates"
    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject: Mapped[str] = mapped_column(String(64), index=True)
    issued_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger, default=None)


class PendingKey(Base):
    """The last rotation of a device's keys; until `seen` in use the new key counts beside the old one."""

    __tablename__ = "pending_keys"
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    enrolment: Mapped[str] = mapped_column(String(64))
    number: Mapped[int] = mapped_column(BigInteger)
    statement_public: Mapped[str] = mapped_column(String(64))
    certificate_serial: Mapped[str] = mapped_column(String(64))
    seen: Mapped[bool] = mapped_column(default=False)


class CapabilitiesRow(Base):
    """What a device last said that it can do (`edgesdk.targets.matching.Capabilities`); not signed."""

    __tablename__ = "capabilities"
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str] = mapped_column(Text)


class ProblemRow(Base):
    """Why a device does not act on the newest desired document, in its words (`messages.Reason`); not signed."""

    __tablename__ = "problems"
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str] = mapped_column(Text)


class EnrolmentToken(Base):
    """A one-time right to enrol one device; `id` is the SHA-256 of its secret."""

    __tablename__ = "enrolment_tokens"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    fleet: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    used_by: Mapped[str | None] = mapped_column(ForeignKey("devices.id"), default=None)


class StatementRow(Base):
    """One verified statement, as signed; the history of the fleet."""

    __tablename__ = "statements"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"))
    enrolment: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(64))
    counter: Mapped[int] = mapped_column(BigInteger)
    deployment: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(32))
    received_at: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str] = mapped_column(Text)
    envelope: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        UniqueConstraint("device", "enrolment", "counter"),
        Index("statements_by_deployment", "deployment", "device"),
        Index("statements_by_model", "device", "model", "counter"),
    )


class Latest(Base):
    """Which statement is the latest of a device and model (by its counter, never by its time of arrival)."""

    __tablename__ = "latest_statements"
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    statement: Mapped[int] = mapped_column(ForeignKey("statements.id"))


class DesiredRow(Base):
    """What a device is asked to run: signed, and published when `published_serial` equals `serial`."""

    __tablename__ = "desired"
    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    serial: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str] = mapped_column(Text)
    envelope: Mapped[str] = mapped_column(Text)
    published_serial: Mapped[int] = mapped_column(BigInteger, default=0)


class RolloutRow(Base):
    """One rollout; `document` is `edgesdk.fleet.rollout.Rollout`, the other columns repeat what queries need."""

    __tablename__ = "rollouts"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str] = mapped_column(Text)


class Audit(Base):
    """Who did what, and when."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(128))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(128))
    details: Mapped[str] = mapped_column(Text, default="{}")


class ApiToken(Base):
    """A bearer token of the HTTP API, by its hash."""

    __tablename__ = "api_tokens"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger, default=None)


class Rejection(Base):
    """How often messages were rejected, by device (empty: not one of ours) and error code."""

    __tablename__ = "rejections"
    device: Mapped[str] = mapped_column(String(64), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[int] = mapped_column(BigInteger)
