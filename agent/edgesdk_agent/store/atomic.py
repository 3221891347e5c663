"""The one way a file of the store is replaced: temporary file, fsync, rename, fsync of the folder.

After a power cut a reader finds the old contents or the new ones, whole. (Without the last step the *name* may still
lead to the old file; without the first fsync it may lead to an empty one.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgesdk.errors import DeploymentError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn "no space left" inside the block into ``disk-full``.

    Raises:
        DeploymentError: ``disk-full``, saying `what` was being written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DeploymentError("disk-full", f"no space left while writing {what}") from error


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data`; its folder must exist.

    Raises:
        DeploymentError: ``disk-full``; the old contents are untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(str(path)):
        try:
            write_synced(temporary, data, mode=mode)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def write_synced(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file and fsync it; the name is made durable by the caller (`fsync_folder`)."""
    handle = _open_own(path, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), mode)  # the umask of whoever starts the agent has no say in what apps can read
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _open_own(path: Path, mode: int) -> int:
    """Open a file for writing; a link in its place is removed, never followed to somebody else's file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    path.unlink()
    return os.open(path, flags, mode)


def make_folder(folder: Path, *, mode: int = 0o755) -> None:
    """Create a folder and missing parents, and make each name durable; a folder gets its name with its mode.

    The name of a folder that is there already is made durable too: whoever made it may have been cut off before.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.mkdir(exist_ok=True)
        temporary.chmod(mode)
        fsync_folder(temporary)
        temporary.rename(path)
        fsync_folder(path.parent)
    if not missing:
        fsync_folder(folder.parent)
