"""Durable files: a reader sees the old or the new file, whole, and a private file is never readable by others.

Every write is a temporary file beside its destination, fsync, rename (or link), and fsync of the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from edgesdk.errors import ConfigError

PRIVATE = 0o600
PUBLIC = 0o644
_OTHERS = 0o077


def write_atomic(path: Path, content: bytes | Path, *, mode: int = PUBLIC) -> None:
    """Replace `path` by `content` (bytes, or a file that is copied), durably; missing folders are made.

    Raises:
        OSError: If the disk does not take it; the old file is then untouched.
    """
    make_folder(path.parent)
    temporary = _write_temporary(path, content, mode)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_private(path: Path, content: bytes) -> None:
    """Create a file that only its owner can read; it is never overwritten and never seen half-written.

    Raises:
        ConfigError: ``file-exists`` if there is a file of this name.
        OSError: If the disk does not take it.
    """
    make_folder(path.parent, mode=0o700)
    temporary = _write_temporary(path, content, PRIVATE)
    try:
        os.link(temporary, path)  # unlike a rename, refuses to replace
    except FileExistsError:
        raise ConfigError("file-exists", f"{path} exists; a key file is never overwritten") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make a folder and its parents, durably."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=mode)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def readable_by_others(mode: int) -> bool:
    """Tell whether a file of these permission bits can be read, written or run by anyone but its owner."""
    return bool(mode & _OTHERS)


def _write_temporary(path: Path, content: bytes | Path, mode: int) -> Path:
    # mkstemp creates with O_EXCL and 0600: others can at no moment read a private file.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file)
            else:
                file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
