"""The moves of a model's slots: each is one atomic write, and making it twice is making it once.

A move that finds itself made is written again all the same: whoever made it may have been cut off, or may have failed,
between the rename and the sync of the folder, and a sync that failed is not made good by a later one.

                       good      previous   trial    serve
    begin trial        ·         ·          G        trial
    commit             trial     good       null     good
    roll back          ·         ·          null     good (none for a first release)
    remove             null      null       null     none

`good` changes only by a commit (and a removal), so no crash can make an unproven generation the fallback.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from edgesdk.errors import DeploymentError
from edgesdk.generation import Slots, empty_slots, generation_dir, read_slots, slots_file
from edgesdk_agent.store.atomic import make_folder, write_atomic
from edgesdk_agent.store.disk import Reserve


class SlotsStore:
    """Reads and moves the slots of all models.

    Args:
        store: The store's folder.
        reserve: Given up when the disk is full, so that a rollback can always be written.
    """

    def __init__(self, store: Path, reserve: Reserve) -> None:
        self._store = store
        self._reserve = reserve

    def models(self) -> list[str]:
        """Return the models that have slots here, sorted."""
        return sorted(path.parent.name for path in self._store.glob("models/*/slots.json"))

    def read(self, model: str) -> Slots:
        """Return a model's slots; empty ones if it was never deployed here.

        Raises:
            DeploymentError: ``store-corrupt``.
        """
        return read_slots(self._store, model) or empty_slots(model)

    def begin_trial(self, model: str, generation: str) -> Slots:
        """Let apps be served by `generation` while `good` stays what it is.

        Raises:
            DeploymentError: ``generation-missing`` if its folder is not there, ``disk-full``.
        """
        if not generation_dir(self._store, generation).is_dir():
            raise DeploymentError("generation-missing", f"generation {generation} of {model!r} is not in the store")
        return self._move(self.read(model), trial=generation, serve="trial")

    def commit(self, model: str, generation: str) -> Slots:
        """Make the generation on trial the good one.

        Raises:
            DeploymentError: ``store-corrupt`` if another one (or none) is on trial, ``disk-full``.
        """
        now = self.read(model)
        if now.good == generation and now.trial is None:
            return self._move(now)
        if now.trial != generation:
            raise DeploymentError("store-corrupt", f"{model!r} is to commit {generation}, on trial is {now.trial}")
        return self._move(now, previous=now.good, good=now.trial, trial=None, serve="good")

    def roll_back(self, model: str) -> Slots:
        """End the trial: serve the good generation again, or none if there is no good one.

        Raises:
            DeploymentError: ``disk-full`` when even the reserve does not help.
        """
        now = self.read(model)
        return self._move(now, trial=None, serve="good" if now.good else "none")

    def remove(self, model: str) -> Slots:
        """Serve nothing any more."""
        return self._move(self.read(model), good=None, previous=None, trial=None, serve="none")

    def restore(self, model: str, good: str | None) -> Slots:
        """Replace slots that cannot be read by ones that serve `good`, or none.

        `seq` is lost, and apps look for another one: a number far above any that was counted up to is as good as new.
        """
        seq = (1 << 40) + secrets.randbits(40)
        lost = msgspec.structs.replace(empty_slots(model), seq=seq, good=good, serve="good" if good else "none")
        self._write(lost)
        return lost

    def _move(self, now: Slots, **changes: str | None) -> Slots:
        made = all(getattr(now, name) == value for name, value in changes.items())
        if made and not slots_file(self._store, now.model).exists():
            return now
        moved = now if made else msgspec.structs.replace(now, seq=now.seq + 1, **changes)
        self._write(moved)
        return moved

    def _write(self, slots: Slots) -> None:
        path = slots_file(self._store, slots.model)
        data = msgspec.json.format(msgspec.json.encode(slots)) + b"\n"

        def write() -> None:
            make_folder(path.parent)
            write_atomic(path, data)

        self._reserve.vital(write)
