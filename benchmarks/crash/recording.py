"""An undisturbed run: the file system before it and its log, which can be replayed up to any call."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import sqlite3
import tempfile
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from crash.filesystem import FileSystem, Node, digest, reachable
from crash.shim import Call

DATABASE = ("state/state.db", "state/state.db-wal")
PROMISES = (b'{"stated"', b'{"accepted"')


@dataclass(slots=True)
class Recording:
    """A run.

    Attributes:
        start: The file system before it.
        calls: Its log, notes included.
    """

    start: FileSystem
    calls: list[Call]
    _system: FileSystem | None = field(default=None, repr=False)
    _done: int = 0

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read what a worker of this explorer pickled."""
        found = pickle.loads(path.read_bytes())  # noqa: S301 - written by ourselves a moment ago
        assert isinstance(found, cls)
        return found

    @property
    def durable(self) -> list[Call]:
        """The calls without the notes."""
        return [call for call in self.calls if call.op != "note"]

    @property
    def states(self) -> list[str]:
        """For each call: the deployment's state (as journalled last) in which it was made."""
        states, now = [], "starting"
        for call in self.calls:
            if call.op != "note":
                states.append(now)
            elif "entered" in (fact := json.loads(call.data)) and ":" not in fact["entered"]:
                now = fact["entered"]
            elif "resumed" in fact:
                now = "idle" if now == "starting" else now
        return states

    def before(self, at: int) -> tuple[list[Call], FileSystem]:
        """Return the log before call number `at` (one more than there are: all of it), and the file system then."""
        end = next((place for place, call in enumerate(self.calls) if call.op != "note" and call.number == at), None)
        end = len(self.calls) if end is None else end
        if self._system is None or end < self._done:
            self._system, self._done = copy.deepcopy(self.start), 0
        for call in self.calls[self._done : end]:
            self._system.apply(call)
        self._done = end
        return self.calls[:end], self._system

    def power_cuts(self, numbers: Collection[int] | None = None) -> list[tuple[int, int, str]]:
        """Return (call, outcome, its name) for every *different* thing that a power cut before a call can leave.

        `numbers`: before these calls only; None: before every one, and at the end.
        Two are the same if a reader of the folder, who opens `state.db` as a database, cannot tell them apart and the
        same was promised before them.
        """
        found, seen = [], set()
        for at in sorted(numbers) if numbers is not None else range(1, len(self.durable) + 2):
            calls, system = self.before(at)
            promised = sum(call.op == "note" and call.data.startswith(PROMISES) for call in calls)
            for outcome, keep in enumerate(system.outcomes()):
                nodes = system.after(keep)
                mark = (promised, digest(nodes, said_by_database(nodes)))
                if mark not in seen:
                    seen.add(mark)
                    found.append((at, outcome, keep.name))
        return found


def said_by_database(nodes: dict[int, Node]) -> dict[str, bytes]:
    """Return what `state.db` says to who opens it, for the path of each of its files.

    Most of what a power cut can tear of a write-ahead log nobody can tell apart: it ends at its first bad frame.
    """
    files = {path: nodes[number].data for path, number in reachable(nodes) if path in DATABASE}
    if not files:
        return {}
    said = _said(files.get(DATABASE[0]), files.get(DATABASE[1]))
    return dict.fromkeys(files, said)


@lru_cache(maxsize=4096)
def _said(main: bytes | None, log: bytes | None) -> bytes:
    total = hashlib.sha256(b"-" if main is None else b"+")
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("state.db", main), ("state.db-wal", log)):
            if data is not None:
                (Path(folder) / name).write_bytes(data)
        try:
            with closing(sqlite3.connect(Path(folder) / "state.db")) as db:
                for line in (*db.execute("PRAGMA integrity_check"), *db.iterdump()):
                    total.update(repr(line).encode())
        except sqlite3.DatabaseError:  # damaged: then every byte counts
            total.update(b"damaged" + (main or b"") + b"|" + (log or b""))
    return total.digest()
