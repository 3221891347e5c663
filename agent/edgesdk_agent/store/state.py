"""`state.db`: the journal of every model, statements, the accepted desired document, floors. SQLite in WAL mode.

A state and the statement about it are written in one transaction. The slots files remain the truth of what serves: if
`state.db` is lost or damaged it is moved aside, and the updater rebuilds the journal from them. What must not be
forgotten even then (counters that may not go back, quarantine) is also kept in `floors.json`, written *before* the
transaction.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.clock import parse_rfc3339
from edgesdk.errors import DeploymentError
from edgesdk_agent.store.atomic import write_atomic
from edgesdk_agent.store.records import Accepted, Floors, Quarantined, StatementDraft

log = logging.getLogger(__name__)

COUNTER_BLOCK = 256
SCHEMA_VERSION = 1
_Write = tuple[str, tuple[Any, ...]]  # an SQL statement and its arguments
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (model TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE statement (
  counter INTEGER PRIMARY KEY, model TEXT NOT NULL, draft BLOB NOT NULL, envelope BLOB, sent INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE quarantine (generation TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE command (id TEXT PRIMARY KEY, expires_at TEXT NOT NULL) WITHOUT ROWID;
"""


class StateDb:
    """The agent's durable memory; safe to use from several threads.

    Args:
        path: `state.db`; created when missing. `floors.json` lies beside it.
        on_full: Called when the disk is full; True says that space was freed and the write is tried once more
            (`Reserve.give_up`).

    Attributes:
        rebuilt: The file was missing or damaged: the journal is empty and is to be rebuilt from the slots.
    """

    def __init__(self, path: Path, *, on_full: Callable[[], bool] = lambda: False) -> None:
        self._path = path
        self._floors_path = path.with_name("floors.json")
        self._on_full = on_full
        self._lock = threading.RLock()
        self.rebuilt = False
        try:
            self._db = self._open()
        except sqlite3.OperationalError as error:  # the disk, not the file: perhaps it was only once
            self._db = self._open_again(error)
        except sqlite3.DatabaseError as error:
            self._db = self._replace_damaged(error)
        self._floors = self._read_floors()
        self._restore_floors()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # ---- journal and statements ---------------------------------------------------------------------------------

    def journals(self) -> dict[str, bytes]:
        """Return the journal of every model, as the updater encoded it."""
        with self._lock:
            return dict(self._db.execute("SELECT model, body FROM journal ORDER BY model").fetchall())

    def record(
        self,
        model: str,
        journal: bytes,
        *,
        statement: StatementDraft | None = None,
        quarantine: Quarantined | None = None,
    ) -> StatementDraft | None:
        """Write a model's journal, and with it, in the same transaction, a statement and a quarantine.

        Returns:
            The statement with its counter, which is durable now; None if there was none.

        Raises:
            DeploymentError: ``disk-full``; nothing was written.
        """
        with self._lock:
            if quarantine:
                kept = {**self._floors.quarantine, quarantine.generation: quarantine}
                self._keep(msgspec.structs.replace(self._floors, quarantine=kept))
            stated = statement and msgspec.structs.replace(statement, counter=self._next_counter())
            writes = [("INSERT OR REPLACE INTO journal VALUES (?, ?)", (model, journal))]
            writes += _quarantine_rows((quarantine,) if quarantine else ())
            writes += _statement_rows(stated) if stated else []
            self._write(writes)
            return stated

    def append_statement(self, draft: StatementDraft) -> StatementDraft:
        """Store a statement that changes no journal; return it with its counter."""
        with self._lock:
            stated = msgspec.structs.replace(draft, counter=self._next_counter())
            self._write(_statement_rows(stated))
            return stated

    def unsigned(self, limit: int = 64) -> list[StatementDraft]:
        """Return the oldest statements that are not signed yet."""
        rows = self._rows("SELECT draft FROM statement WHERE envelope IS NULL ORDER BY counter LIMIT ?", limit)
        return [msgspec.json.decode(row[0], type=StatementDraft) for row in rows]

    def attach_envelopes(self, envelopes: Mapping[int, Mapping[str, Any]]) -> None:
        """Store the signed envelopes, by counter."""
        update = "UPDATE statement SET envelope = ? WHERE counter = ?"
        self._write([(update, (msgspec.json.encode(envelope), counter)) for counter, envelope in envelopes.items()])

    def forget_envelopes(self) -> None:
        """Have every statement that is kept signed again: the statement key has changed."""
        self._write([("UPDATE statement SET envelope = NULL", ())])

    def unsent(self, limit: int = 64) -> list[tuple[StatementDraft, dict[str, Any]]]:
        """Return the oldest signed statements that no broker has confirmed, with their envelopes."""
        query = "SELECT draft, envelope FROM statement WHERE envelope NOT NULL AND sent = 0 ORDER BY counter LIMIT ?"
        rows = self._rows(query, limit)
        return [(msgspec.json.decode(row[0], type=StatementDraft), msgspec.json.decode(row[1])) for row in rows]

    def mark_sent(self, counters: Iterable[int]) -> None:
        """Note that the broker has these; of the sent ones only the latest of each model is kept."""
        latest = "(SELECT max(counter) FROM statement WHERE sent = 1 GROUP BY model)"
        writes: list[_Write] = [("UPDATE statement SET sent = 1 WHERE counter = ?", (each,)) for each in counters]
        self._write([*writes, (f"DELETE FROM statement WHERE sent = 1 AND counter NOT IN {latest}", ())])  # noqa: S608 - a constant

    def latest_drafts(self) -> dict[str, StatementDraft]:
        """Return the latest statement of every model, signed or not."""
        rows = self._rows("SELECT model, draft, max(counter) FROM statement GROUP BY model")
        return {model: msgspec.json.decode(draft, type=StatementDraft) for model, draft, _ in rows}

    def latest_envelopes(self) -> dict[str, dict[str, Any]]:
        """Return the latest *signed* statement of every model, for `up/state`."""
        rows = self._rows("SELECT model, envelope, max(counter) FROM statement WHERE envelope NOT NULL GROUP BY model")
        return {model: msgspec.json.decode(envelope) for model, envelope, _ in rows}

    # ---- quarantine ---------------------------------------------------------------------------------------------

    def quarantined(self) -> dict[str, Quarantined]:
        """Return the quarantined generations by their id."""
        rows = self._rows("SELECT generation, body FROM quarantine")
        return {generation: msgspec.json.decode(body, type=Quarantined) for generation, body in rows}

    # ---- the accepted desired document, and floors --------------------------------------------------------------

    def accept(self, accepted: Accepted) -> None:
        """Store the desired document that is in force, and advance the floors."""
        with self._lock:
            time = later(self._floors.time, accepted.time_floor)
            self._keep(msgspec.structs.replace(self._floors, serial=accepted.serial, time=time))
            self._write([_meta("accepted", msgspec.json.encode(accepted).decode()), _meta("time_floor", time)])

    def accepted(self) -> Accepted | None:
        """Return the desired document in force; None if none was accepted, or it was lost (see `serial_floor`)."""
        text = self.get("accepted")
        return msgspec.json.decode(text, type=Accepted) if text else None

    @property
    def serial_floor(self) -> int:
        """Serial of the last accepted desired document; survives the loss of `state.db`."""
        with self._lock:
            return self._floors.serial

    @property
    def time_floor(self) -> str:
        """The trusted-time floor (RFC 3339); "" if there is none yet."""
        with self._lock:
            return self._floors.time

    def raise_time_floor(self, moment: str) -> None:
        """Advance the trusted-time floor; an earlier moment changes nothing."""
        with self._lock:
            time = later(self._floors.time, moment)
            if time != self._floors.time:
                self._keep(msgspec.structs.replace(self._floors, time=time))
                self._write([_meta("time_floor", time)])

    # ---- small things -------------------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """Return a value of the key-value table."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def set(self, key: str, value: str) -> None:
        """Store a value in the key-value table."""
        self._write([_meta(key, value)])

    def first_sight(self, command: str, *, expires_at: str, now: str) -> bool:
        """Remember a command's id until it expires; False if it was seen before (a replay)."""
        with self._lock:
            if self._rows("SELECT 1 FROM command WHERE id = ?", command):
                return False
            forget: _Write = ("DELETE FROM command WHERE expires_at < ?", (now,))
            self._write([forget, ("INSERT INTO command VALUES (?, ?)", (command, expires_at))])
            return True

    def begin_enrolment(self) -> None:
        """Forget what belongs to an earlier enrolment: statements and their counter, desired, serial, commands.

        The journal, the quarantine and the time floor stay: they are facts about this device.
        """
        with self._lock:
            self._keep(msgspec.structs.replace(self._floors, statement=0, serial=0))
            forgotten = ("statement", "command", "meta WHERE key IN ('accepted', 'counter')")
            self._write([(f"DELETE FROM {what}", ()) for what in forgotten])  # noqa: S608 - constants

    # ---- inside -------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """Open the file. One without tables is a lost one: new, or emptied by a power cut that took its first page."""
        db = _open(self._path)
        try:
            self.rebuilt |= _make_tables(db, self._path)
        except BaseException:
            db.close()
            raise
        return db

    def _open_again(self, error: sqlite3.OperationalError) -> sqlite3.Connection:
        if _is_full(error):
            self._on_full()
        try:
            return self._open()
        except sqlite3.OperationalError as again:
            if again.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR:  # it cannot be read: as good as damaged
                return self._replace_damaged(again)
            raise DeploymentError("disk-error", f"{self._path} cannot be opened for writing: {again}") from again
        except sqlite3.DatabaseError as again:
            return self._replace_damaged(again)

    def _replace_damaged(self, error: Exception) -> sqlite3.Connection:
        """Move a damaged file aside (the last one is kept for a post-mortem) and start a new one."""
        log.error("%s is damaged (%s); the journal is rebuilt from the slots", self._path, error)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._path.replace(self._path.with_name(self._path.name + ".damaged"))
        return self._open()

    def _rows(self, query: str, *arguments: object) -> list[Any]:
        with self._lock:
            return self._db.execute(query, arguments).fetchall()

    def _write(self, writes: Sequence[_Write]) -> None:
        """Do the writes in one durable transaction; on a full disk once more if space could be freed."""
        with self._lock:
            try:
                self._write_once(writes)
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise
                if not self._on_full():
                    raise DeploymentError("disk-full", f"no space left while writing {self._path}") from error
                self._write_once(writes)

    def _write_once(self, writes: Sequence[_Write]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for statement, arguments in writes:
                self._db.execute(statement, arguments)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # after SQLITE_FULL it may have been rolled back already
                self._db.execute("ROLLBACK")
            raise

    def _next_counter(self) -> int:
        """Return the next counter; `floors.json` always names a number above every counter ever used."""
        counter = int(self.get("counter") or 0) + 1
        if counter >= self._floors.statement:
            self._keep(msgspec.structs.replace(self._floors, statement=counter + COUNTER_BLOCK))
        return counter

    def _keep(self, floors: Floors) -> None:
        data = msgspec.json.encode(floors)
        try:
            write_atomic(self._floors_path, data, mode=0o600)
        except DeploymentError:
            if not self._on_full():
                raise
            write_atomic(self._floors_path, data, mode=0o600)
        except OSError as error:
            raise DeploymentError("disk-error", f"{self._floors_path} could not be written: {error}") from error
        self._floors = floors

    def _read_floors(self) -> Floors:
        try:
            return msgspec.json.decode(self._floors_path.read_bytes(), type=Floors)
        except FileNotFoundError:
            return Floors()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            log.exception("%s is damaged; starting from what state.db knows", self._floors_path)
            return Floors()

    def _restore_floors(self) -> None:
        """After a loss take the floors over, so that no counter is used twice and no quarantine is forgotten."""
        accepted = self.accepted()
        known = Floors(
            statement=max(self._floors.statement, int(self.get("counter") or 0) + 1 if self.get("counter") else 0),
            serial=self._floors.serial or (accepted.serial if accepted else 0),
            time=later(self._floors.time, self.get("time_floor") or ""),
            quarantine={**self.quarantined(), **self._floors.quarantine},
        )
        if known != self._floors:
            self._keep(known)
        writes = [_meta("counter", str(known.statement))] if self.rebuilt else []
        self._write([*writes, *_quarantine_rows(known.quarantine.values())])


def later(one: str, other: str) -> str:
    """Return the later of two RFC 3339 times; "" is before all."""
    if not one or not other:
        return one or other
    return max(one, other, key=parse_rfc3339)


def _meta(key: str, value: str) -> _Write:
    return ("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _statement_rows(stated: StatementDraft) -> list[_Write]:
    insert = "INSERT INTO statement (counter, model, draft) VALUES (?, ?, ?)"
    return [
        (insert, (stated.counter, stated.model, msgspec.json.encode(stated))),
        _meta("counter", str(stated.counter)),
    ]


def _quarantine_rows(entries: Iterable[Quarantined]) -> list[_Write]:
    insert = "INSERT OR REPLACE INTO quarantine VALUES (?, ?)"
    return [(insert, (entry.generation, msgspec.json.encode(entry))) for entry in entries]


def _is_full(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        path.chmod(0o600)
        # EXTRA is FULL in WAL mode. Where an error kept SQLite out of that mode, it makes the end of a transaction (the
        # journal's name going) durable too.
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("PRAGMA journal_mode = WAL")
        _check_whole(db)
        _check_writable(db)
    except BaseException:
        db.close()
        raise
    return db


def _check_whole(db: sqlite3.Connection) -> None:
    if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(found)


def _check_writable(db: sqlite3.Connection) -> None:
    """Write something and take it back: where opening for writing failed, SQLite silently falls back to reading."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"PRAGMA user_version = {version + 1}")
    db.execute("ROLLBACK")


def _make_tables(db: sqlite3.Connection, path: Path) -> bool:
    """Create the tables where there are none; return whether that was so."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, SCHEMA_VERSION}:
        raise DeploymentError("store-corrupt", f"{path} has schema {version}, expected {SCHEMA_VERSION}")
    if version == 0:
        db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    return bool(version == 0)
