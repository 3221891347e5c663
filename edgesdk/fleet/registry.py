"""The hub's database: what every other room of the hub reads and writes; no state lives in a process beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from edgesdk.clock import Clock, SystemClock
from edgesdk.errors import ConfigError
from edgesdk.fleet.tables import SCHEMA_VERSION, Audit, Base, Meta, Rejection

BUSY_MS = 30_000
_TABLES_LOCK = 0x65646765  # "edge": the advisory lock's number


def unix_ms(clock: Clock) -> int:
    """Return the wall time in Unix milliseconds."""
    return int(clock.now().timestamp() * 1000)


class Registry:
    """The database behind two kinds of transactions.

    Args:
        url: A path (SQLite) or an SQLAlchemy URL, for example ``postgresql+psycopg://…``.
        clock: Stamps rows.

    Raises:
        ConfigError: ``config-invalid`` if the database cannot be opened or was written by a later version.
    """

    def __init__(self, url: str | Path, *, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        address = f"sqlite:///{url}" if isinstance(url, Path) else url
        try:
            self._engine = create_engine(address, pool_pre_ping=True)
            if make_url(address).get_backend_name() == "sqlite":
                event.listen(self._engine, "connect", _prepare_sqlite)
                event.listen(self._engine, "begin", _begin_sqlite)
            self._make_tables()
        except SQLAlchemyError as error:
            shown = make_url(address).render_as_string(hide_password=True)
            raise ConfigError("config-invalid", f"the hub's database {shown} cannot be opened: {error}") from error
        self._writer = self._engine.execution_options(edge_writes=True)
        self._check_version()

    def now(self) -> int:
        """Return the wall time in Unix milliseconds."""
        return unix_ms(self.clock)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session on one consistent snapshot."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction: committed at the end, rolled back by any exception; SQLite's are one at a time."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def meta(self, key: str) -> str | None:
        """Return a fact about the database."""
        with self.reading() as session:
            row = session.get(Meta, key)
            return row.value if row else None

    def set_meta(self, key: str, value: str) -> None:
        """Set a fact about the database."""
        with self.writing() as session:
            session.merge(Meta(key=key, value=value))

    def audit(self, session: Session, actor: str, action: str, subject: str, **details: Any) -> None:
        """Add an entry to the audit log, in the transaction of what it tells about."""
        session.add(
            Audit(
                at=self.now(), actor=actor, action=action, subject=subject, details=json.dumps(details, sort_keys=True)
            )
        )

    def reject(self, device: str, code: str) -> None:
        """Count a rejected message; `device` must be one of ours or empty, so that strangers cannot fill the table."""
        try:
            self._count(device, code)
        except IntegrityError:  # another hub counted the first one at the same time; now there is a row to lock
            self._count(device, code)

    def _count(self, device: str, code: str) -> None:
        with self.writing() as session:
            row = session.get(Rejection, (device, code), with_for_update=True)
            if row is None:
                session.add(Rejection(device=device, code=code, count=1, last_at=self.now()))
            else:
                row.count += 1
                row.last_at = self.now()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _make_tables(self) -> None:
        """Make what is missing; hubs that start together on one PostgreSQL do it one after the other."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TABLES_LOCK})")
            Base.metadata.create_all(connection)
            if connection.scalar(select(Meta.value).where(Meta.key == "schema")) is None:
                connection.execute(insert(Meta).values(key="schema", value=str(SCHEMA_VERSION)))

    def _check_version(self) -> None:
        found = self.meta("schema") or "0"
        if int(found) > SCHEMA_VERSION:
            raise ConfigError(
                "config-invalid",
                f"the hub's database has schema {found}, this version knows {SCHEMA_VERSION}",
                hint="Update edgesdk on the hub.",
            )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, see `_begin_sqlite`
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the write lock before it reads: a deferred one could fail to upgrade.
    writes = connection.get_execution_options().get("edge_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
