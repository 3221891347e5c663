"""Files that are whole or absent, whenever the power goes, and private files that others never see.

Every replacement is a temporary file beside its destination, fsync, rename (or link), and fsync of the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgesdk.errors import ConfigError

PRIVATE = 0o600
PUBLIC = 0o644
_OTHERS = 0o077


@contextmanager
def atomic_file(path: Path, *, mode: int = PUBLIC) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    with _temporary(path) as (temporary, out):
        yield out
        _finish(out, mode)
        temporary.replace(path)
    sync_folder(path.parent)


def write_atomic(path: Path, content: bytes | Path, *, mode: int = PUBLIC) -> None:
    """Replace `path` by `content` (bytes, or a file that is copied), durably; missing folders are made.

    Raises:
        OSError: If the disk does not take it; the old file is then untouched.
    """
    make_folder(path.parent)
    with atomic_file(path, mode=mode) as out:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, out)
        else:
            out.write(content)


def write_private(path: Path, content: bytes) -> None:
    """Create a file that only its owner can read; it is never overwritten and never seen half-written.

    Raises:
        ConfigError: ``file-exists`` if there is a file of this name.
        OSError: If the disk does not take it.
    """
    make_folder(path.parent, mode=0o700)
    with _temporary(path) as (temporary, out):
        out.write(content)
        _finish(out, PRIVATE)
        try:
            os.link(temporary, path)  # unlike a rename, refuses to replace
        except FileExistsError:
            raise ConfigError("file-exists", f"{path} exists; a key file is never overwritten") from None
    sync_folder(path.parent)


def write_new(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new read-only file (mode 0444) and fsync it; the folder is not synced.

    Raises:
        FileExistsError: If something of that name, even a dangling link, is there.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
    with os.fdopen(handle, "wb") as out:
        for chunk in chunks:
            out.write(chunk)
        out.flush()
        os.fchmod(handle, 0o444)
        os.fsync(handle)


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


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield a new file beside `path`, which is gone when the block ends unless it was renamed."""
    # mkstemp creates with O_EXCL and 0600: others can at no moment read a private file.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield temporary, out
    finally:
        temporary.unlink(missing_ok=True)


def _finish(out: IO[bytes], mode: int) -> None:
    out.flush()
    os.fchmod(out.fileno(), mode)
    os.fsync(out.fileno())
