"""The durable outbox of telemetry: what was measured waits here until the broker has acknowledged it.

SQLite in WAL mode with synchronous=NORMAL: a crash of the process loses nothing, a power cut at most the last moments,
and the flash is spared. The file is disposable: when it is corrupt it is made anew and the loss is counted. Every
message has `(run, seq)`, increasing per channel; what the disk budget drops is kept as lost ranges until a message has
told them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from edgesdk.protocol.messages import Lost

logger = logging.getLogger(__name__)

Channel = Literal["telemetry", "event"]
T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, run TEXT NOT NULL, seq INTEGER NOT NULL,
    payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS lost (
    channel TEXT NOT NULL, run TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mark (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL);
"""


class Row(NamedTuple):
    """One waiting message."""

    id: int
    channel: Channel
    run: str
    seq: int
    payload: bytes


class _LostField(msgspec.Struct):
    """The part of a dropped message that must not be lost with it."""

    lost: tuple[Lost, ...] = ()


class Outbox:
    """The outbox of one run of the agent; thread-safe.

    Args:
        path: The database file; its folder exists.
        run: Id of this run.
        budget_bytes: Payload bytes that may wait; the oldest are dropped beyond it.
    """

    def __init__(self, path: Path, *, run: str, budget_bytes: int) -> None:
        self.run = run
        self.recreated = 0
        self._path = path
        self._budget = budget_bytes
        self._lock = threading.RLock()
        self._next: dict[Channel, int] = {"telemetry": 1, "event": 1}
        self._acked: dict[Channel, int] = {"telemetry": 0, "event": 0}
        self._unwritten: list[tuple[Channel, str, int, int]] = []
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._recreate(error)

    def next_seq(self, channel: Channel) -> int:
        """Take the next sequence number of this run."""
        with self._lock:
            seq = self._next[channel]
            self._next[channel] = seq + 1
            return seq

    def append(
        self, channel: Channel, make: Callable[[int, tuple[Lost, ...]], bytes], *, mark: bytes | None = None
    ) -> int:
        """Store one message durably and return its sequence number.

        Args:
            channel: Where it goes.
            make: Makes the payload from its sequence number and the lost ranges that it is to tell.
            mark: Stored with it, in one transaction: what the next run must know of what was told (see `mark`).
        """
        with self._lock:
            seq = self.next_seq(channel)
            payload = make(seq, self.lost(channel))
            self._guarded(lambda: self._insert(channel, seq, payload, mark), seq=(channel, seq))
            return seq

    def mark(self) -> bytes | None:
        """Return the mark that was stored last; None if there is none."""
        with self._lock:
            row = self._guarded(lambda: self._db.execute("SELECT body FROM mark").fetchone())
        return bytes(row[0]) if row else None

    def skip(self, channel: Channel) -> None:
        """Count one message as lost that was not stored (the daily cap)."""
        with self._lock:
            seq = self.next_seq(channel)
            self._guarded(lambda: self._add_lost([(channel, self.run, seq, seq)]), seq=(channel, seq))

    def waiting(self, *, after: int, limit: int) -> list[Row]:
        """Return up to `limit` messages with an id above `after`, oldest first."""
        query = "SELECT id, channel, run, seq, payload FROM outbox WHERE id > ? ORDER BY id LIMIT ?"
        with self._lock:
            rows = self._guarded(lambda: self._db.execute(query, (after, limit)).fetchall())
        return [Row(*row) for row in rows or []]

    def acknowledge(self, rows: Sequence[Row]) -> None:
        """Forget messages that the broker has, in one transaction."""
        with self._lock:
            for row in rows:
                if row.run == self.run:
                    self._acked[row.channel] = max(self._acked[row.channel], row.seq)
            self._guarded(lambda: self._delete(row.id for row in rows))

    def lost(self, channel: Channel) -> tuple[Lost, ...]:
        """Return what was dropped and not yet told, as merged inclusive ranges by run."""
        query = "SELECT run, first, last FROM lost WHERE channel = ? ORDER BY run, first"
        with self._lock:
            stored = self._guarded(lambda: self._db.execute(query, (channel,)).fetchall()) or []
            memory = [(run, first, last) for where, run, first, last in self._unwritten if where == channel]
        return merge_ranges([*stored, *memory])

    def newest(self) -> int:
        """Return the id of the newest message ever stored, 0 if none (ids only grow)."""
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'"
        with self._lock:
            rows = self._guarded(lambda: self._db.execute(query).fetchall())
        return int(rows[0][0]) if rows else 0

    def size(self) -> tuple[int, int]:
        """Return how many messages wait and their bytes."""
        query = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM outbox"
        with self._lock:
            row = self._guarded(lambda: self._db.execute(query).fetchone())
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def close(self) -> None:
        """Close the database."""
        with self._lock, suppress(sqlite3.Error):
            self._db.close()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check found damage")
        self._db.executescript(SCHEMA)
        self._bytes = self._db.execute("SELECT coalesce(sum(length(payload)), 0) FROM outbox").fetchone()[0]

    def _insert(self, channel: Channel, seq: int, payload: bytes, mark: bytes | None) -> None:
        with _Transaction(self._db):
            if mark is not None:
                self._db.execute("INSERT OR REPLACE INTO mark VALUES (1, ?)", (mark,))
            self._db.execute("DELETE FROM lost WHERE channel = ?", (channel,))
            self._db.execute(
                "INSERT INTO outbox (channel, run, seq, payload) VALUES (?, ?, ?, ?)",
                (channel, self.run, seq, payload),
            )
            freed = self._drop_oldest(self._bytes + len(payload) - self._budget)
        self._bytes += len(payload) - freed
        self._unwritten = [row for row in self._unwritten if row[0] != channel]

    def _drop_oldest(self, excess: int) -> int:
        freed = 0
        while freed < excess:
            query = "SELECT id, channel, run, seq, payload FROM outbox ORDER BY id LIMIT 100"
            for row in (Row(*row) for row in self._db.execute(query).fetchall()):
                if freed >= excess:
                    break
                freed += len(row.payload)
                self._db.execute("DELETE FROM outbox WHERE id = ?", (row.id,))
                self._add_lost([(row.channel, row.run, row.seq, row.seq), *_told_by(row)])
        return freed

    def _add_lost(self, ranges: Iterable[tuple[Channel, str, int, int]]) -> None:
        for channel, run, first, last in ranges:
            grown = self._db.execute(
                "UPDATE lost SET last = ? WHERE channel = ? AND run = ? AND last = ?", (last, channel, run, first - 1)
            )
            if grown.rowcount == 0:
                self._db.execute("INSERT INTO lost VALUES (?, ?, ?, ?)", (channel, run, first, last))

    def _delete(self, ids: Iterable[int]) -> None:
        with _Transaction(self._db):
            for number in ids:
                row = self._db.execute(
                    "DELETE FROM outbox WHERE id = ? RETURNING length(payload)", (number,)
                ).fetchone()
                self._bytes -= row[0] if row else 0

    def _guarded(self, action: Callable[[], T], *, seq: tuple[Channel, int] | None = None) -> T | None:
        """Do it; a full disk costs this message, a corrupt file is made anew. Either is counted as lost."""
        try:
            return action()
        except sqlite3.OperationalError as error:
            logger.warning("the outbox could not be used: %s", error)
        except sqlite3.DatabaseError as error:
            self._recreate(error)
        if seq is not None:
            self._unwritten.append((seq[0], self.run, seq[1], seq[1]))
        return None

    def _recreate(self, error: sqlite3.Error) -> None:
        logger.error("the outbox %s is corrupt (%s): it is made anew", self._path, error)
        self.recreated += 1
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        for channel, following in self._next.items():
            if following - 1 > self._acked[channel]:
                self._unwritten.append((channel, self.run, self._acked[channel] + 1, following - 1))
        self._open()


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on any exception."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def merge_ranges(ranges: Iterable[tuple[str, int, int]]) -> tuple[Lost, ...]:
    """Merge touching and overlapping inclusive ranges per run."""
    merged: dict[str, list[tuple[int, int]]] = {}
    for run, first, last in sorted(ranges):
        known = merged.setdefault(run, [])
        if known and first <= known[-1][1] + 1:
            known[-1] = (known[-1][0], max(known[-1][1], last))
        else:
            known.append((first, last))
    return tuple(Lost(run=run, ranges=tuple(found)) for run, found in merged.items())


def _told_by(row: Row) -> list[tuple[Channel, str, int, int]]:
    """Return the lost ranges that a dropped message was going to tell."""
    told = msgspec.json.decode(row.payload, type=_LostField).lost
    return [(row.channel, lost.run, first, last) for lost in told for first, last in lost.ranges]
