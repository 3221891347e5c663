"""Ways to break the agent on purpose; the explorer must notice each."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from edgesdk_agent.store import atomic, disk, generations, slots, state
from edgesdk_agent.store.generations import GenerationStore
from edgesdk_agent.store.slots import SlotsStore

import edgesdk.bundle.reader as bundle_reader
from edgesdk.generation import Generation, Slots, read_slots, slots_file


def _replace(owner: object, name: str, broken: object) -> None:
    setattr(owner, name, broken)


def _nothing(_: object) -> None:
    pass


def _no_file_sync() -> None:
    """The slots file is renamed into place without having been synced."""

    def write_unsynced(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        path.write_bytes(data)
        path.chmod(mode)

    _replace(atomic, "write_synced", write_unsynced)


def _no_folder_sync() -> None:
    """Names are never made durable."""
    for module in (atomic, disk, generations):
        _replace(module, "fsync_folder", _nothing)


def _no_bundle_sync() -> None:
    """Unpacked files are not synced before the generation gets its name."""

    def write_new(path: Path, chunks: Iterable[bytes]) -> None:
        path.write_bytes(b"".join(chunks))
        path.chmod(0o444)

    _replace(bundle_reader, "write_new", write_new)


def _slots_before_generation() -> None:
    """Two renames swapped: the slots name a generation before its folder has its name."""
    stage = GenerationStore.stage

    def early(self: GenerationStore, unpacked: Path, record: Generation) -> Path:
        store = self.path(record.generation).parents[1]
        now = read_slots(store, record.model)
        if now:
            moved = msgspec.structs.replace(now, trial=record.generation, serve="trial", seq=now.seq + 1)
            atomic.write_atomic(slots_file(store, record.model), msgspec.json.encode(moved))
        return stage(self, unpacked, record)

    _replace(GenerationStore, "stage", early)


def _in_place() -> None:
    """The slots are overwritten in place."""

    def overwrite(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(mode)

    _replace(slots, "write_atomic", overwrite)


def _relaxed_database() -> None:
    """state.db forgets its last transactions: synchronous=NORMAL."""
    real = state._open  # noqa: SLF001 - a mutant reaches inside

    def relaxed(path: Path) -> sqlite3.Connection:
        db = real(path)
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    _replace(state, "_open", relaxed)


def _commit_by_two_writes() -> None:
    """A commit empties the slot `good` first and fills it then."""
    commit = SlotsStore.commit

    def twice(self: SlotsStore, model: str, generation: str) -> object:
        now = self.read(model)
        if now.trial == generation:
            self._move(now, good=None)
        return commit(self, model, generation)

    _replace(SlotsStore, "commit", twice)


def _second_try_believes() -> None:
    """A move of the slots that seems made is not written again, although the sync behind it may have failed."""
    move = SlotsStore._move  # noqa: SLF001 - a mutant reaches inside

    def believing(self: SlotsStore, now: Slots, **changes: str | None) -> Slots:
        made = all(getattr(now, name) == value for name, value in changes.items())
        return now if made else move(self, now, **changes)

    _replace(SlotsStore, "_move", believing)


MUTANTS: dict[str, Callable[[], None]] = {
    "no file sync": _no_file_sync,
    "no folder sync": _no_folder_sync,
    "no sync of unpacked files": _no_bundle_sync,
    "renames swapped": _slots_before_generation,
    "slots overwritten in place": _in_place,
    "state.db not synced": _relaxed_database,
    "commit by two writes": _commit_by_two_writes,
    "a second try believes the first": _second_try_believes,
}


def apply(name: str) -> None:
    """Break the agent of this process in the way that is named; "" leaves it whole."""
    if name:
        MUTANTS[name]()
