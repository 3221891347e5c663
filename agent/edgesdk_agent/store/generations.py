"""Generations in the store: made whole and durable before they get their name, read-only from then on.

A generation is prepared in the private staging folder and renamed into place: `generations/` never holds half of one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from edgesdk.errors import DeploymentError
from edgesdk.generation import Generation, decode_generation, generation_dir
from edgesdk_agent.store.atomic import disk_errors, fsync_folder, make_folder, write_synced

RECORD = "generation.json"
READ_ONLY_FILE = 0o444
READ_ONLY_FOLDER = 0o555


class GenerationStore:
    """The folder `generations/` of a store.

    Args:
        store: The store's folder; on the same file system as the staging folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._folder = store / "generations"

    def path(self, generation: str) -> Path:
        """Return where a generation lies or would lie."""
        return generation_dir(self._store, generation)

    def has(self, generation: str | None) -> bool:
        """Return whether a generation is here; a name in `generations/` means that it is whole."""
        return generation is not None and (self.path(generation) / RECORD).is_file()

    def ids(self) -> list[str]:
        """Return the generations that are here, sorted."""
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []

    def read(self, generation: str) -> Generation:
        """Return a generation's record.

        Raises:
            DeploymentError: ``generation-missing`` or ``store-corrupt``.
        """
        path = self.path(generation) / RECORD
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DeploymentError("generation-missing", f"generation {generation} is not in the store") from error
        return decode_generation(data, where=str(path))

    def twin(self, bundle_sha256: str) -> str | None:
        """Return a generation made of the same bundle (under any configuration), or None."""
        for generation in self.ids():
            try:
                if self.read(generation).bundle_sha256 == bundle_sha256:
                    return generation
            except DeploymentError:
                continue  # a damaged neighbour does not concern us
        return None

    def stage(self, unpacked: Path, record: Generation) -> Path:
        """Make a generation of an unpacked, verified bundle, whose files are durable already; `unpacked` is consumed.

        Raises:
            DeploymentError: ``disk-full``; the store is untouched.
        """
        place = self.path(record.generation)
        if self.has(record.generation):
            with disk_errors(str(place)):  # whoever named it may have been cut off before the name was durable
                self._settle(place)
                remove_tree(unpacked)
            return place
        make_folder(self._folder)
        with disk_errors(str(place)):
            unpacked.chmod(0o755)  # an earlier call may have sealed it before the power went
            (unpacked / RECORD).unlink(missing_ok=True)
            write_synced(unpacked / RECORD, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
            _seal(unpacked)
            unpacked.chmod(0o755)  # a folder is renamed only by who may write it, root apart
            unpacked.rename(place)
            try:
                self._settle(place)
                fsync_folder(unpacked.parent)
            except OSError:  # a sync that failed is not made good by a later one: it is named again by the next try
                place.chmod(0o755)
                place.rename(unpacked)
                raise
        return place

    def _settle(self, place: Path) -> None:
        """Make a generation's name and mode durable."""
        place.chmod(READ_ONLY_FOLDER)
        fsync_folder(place)
        fsync_folder(self._folder)

    def clone(self, twin: str, record: Generation, scratch: Path) -> Path:
        """Make a generation of the bundle that another generation here was made of; bytes are linked, not copied.

        Args:
            twin: The other generation.
            record: The new one's record.
            scratch: A path of the staging folder that is free to use.
        """
        remove_tree(scratch)
        with disk_errors(str(scratch)):
            shutil.copytree(self.path(twin), scratch, copy_function=os.link, ignore=shutil.ignore_patterns(RECORD))
            for folder in (scratch, *(path for path in scratch.rglob("*") if path.is_dir())):
                folder.chmod(0o755)
                fsync_folder(folder)
        return self.stage(scratch, record)

    def remove(self, generation: str, scratch: Path) -> None:
        """Remove a generation: out of `generations/` by one rename, then file by file."""
        place = self.path(generation)
        place.chmod(0o755)
        place.rename(scratch)
        fsync_folder(self._folder)
        remove_tree(scratch)


def _seal(folder: Path) -> None:
    """Make everything in `folder` read-only and readable by apps, and make that durable."""
    for path in folder.rglob("*"):
        path.chmod(READ_ONLY_FOLDER if path.is_dir() else READ_ONLY_FILE)
        if path.is_dir():
            fsync_folder(path)
    folder.chmod(READ_ONLY_FOLDER)
    fsync_folder(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder with read-only folders in it; nothing happens if there is none."""
    if not folder.is_dir():
        return
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)
