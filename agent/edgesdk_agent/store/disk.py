"""The disk's budget, and the reserve that lets a rollback be written when the disk is full."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgesdk.errors import DeploymentError
from edgesdk_agent.store.atomic import fsync_folder

log = logging.getLogger(__name__)

RESERVE_BYTES = 1 << 20
T = TypeVar("T")


class Reserve:
    """A file of real blocks. Its space is given up for small, vital writes, and taken again when there is room.

    Args:
        path: The file.
        size: Its size in bytes.
    """

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self.path = path
        self.size = size

    @property
    def held(self) -> bool:
        """Whether the space is reserved now."""
        return self.path.exists() and self.path.stat().st_size >= self.size

    def take(self) -> bool:
        """Reserve the space if the disk has twice as much; return whether it is held."""
        if self.held:
            return True
        if free_bytes(self.path.parent) < 2 * self.size:
            return False
        try:
            with self.path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
                os.fsync(file.fileno())
            fsync_folder(self.path.parent)
        except OSError:
            self.path.unlink(missing_ok=True)
            return False
        return True

    def give_up(self) -> bool:
        """Free the space; return whether there was any."""
        if not self.path.exists():
            return False
        self.path.unlink()
        fsync_folder(self.path.parent)
        log.warning("the disk is full: gave up the reserve of %d bytes", self.size)
        return True

    def vital(self, write: Callable[[], T]) -> T:
        """Do a small write that must succeed; on ``disk-full`` give up the reserve and do it once more.

        Raises:
            DeploymentError: ``disk-full`` when even that does not help.
        """
        try:
            return write()
        except DeploymentError as error:
            if error.code != "disk-full" or not self.give_up():
                raise
        return write()


def free_bytes(folder: Path) -> int:
    """Return the bytes that an unprivileged user may still write on the file system of `folder`."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def tree_bytes(folder: Path) -> int:
    """Return the bytes that the files under `folder` take (allocated blocks); 0 if it does not exist."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def check_room(folder: Path, *, needed: int, used: int, budget: int) -> None:
    """Refuse work that would not fit.

    Args:
        folder: Any folder of the file system in question.
        needed: Bytes that are about to be written.
        used: Bytes that count against the budget already.
        budget: The most that may be used; 0: what the disk has.

    Raises:
        DeploymentError: ``disk-full``, with both figures.
    """
    free = free_bytes(folder)
    if needed > free:
        raise DeploymentError("disk-full", f"{needed} bytes are needed, {free} are free on the disk of {folder}")
    if budget and used + needed > budget:
        raise DeploymentError("disk-full", f"{needed} bytes are needed, {max(budget - used, 0)} of the budget are left")
