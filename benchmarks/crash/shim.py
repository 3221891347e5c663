"""Building `shim.c`, arming it from Python, and reading the log that it writes."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
RECORD = struct.Struct("<IIiIQQQQIIII")
OPS = (
    "",
    "open",
    "write",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "link",
    "mkdir",
    "chmod",
    "fallocate",
    "note",
    "rmdir",
)
CREATED, TRUNCATED, INJECTED = 1, 2, 4
FAULTS = {"kill": (1, 0), "ENOSPC": (2, errno.ENOSPC), "EIO": (2, errno.EIO), "full": (3, 0), "short": (4, 0)}
"""By name: the shim's kind and the error number. ``full`` is a disk that stays full until the reserve is given up."""


@dataclass(frozen=True, slots=True)
class Call:
    """One durable call as it was seen, or a note of the program between calls (`op` is ``note``).

    Attributes:
        number: Of the call, from 1; of a note: how many calls came before it.
        error: `errno`, 0 if it was done.
        path: Absolute; of descriptors as /proc knew it.
        other: The second path of rename and link.
    """

    op: str
    number: int
    error: int
    flags: int
    mode: int
    inode: int
    offset: int
    size: int
    path: str
    other: str
    data: bytes


def build(folder: Path) -> Path:
    """Compile the shim into `folder`; return the shared object.

    Raises:
        subprocess.CalledProcessError: If there is no C compiler, or it refuses.
    """
    library = folder / "crash_shim.so"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        temporary = folder / f"crash_shim.{os.getpid()}.so"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", temporary, SOURCE, "-ldl"], check=True)
        temporary.replace(library)
    return library


class Shim:
    """The shim in this process, which was started with it in LD_PRELOAD."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.crash_calls.restype = ctypes.c_long

    def begin(self, root: Path, log: Path) -> None:
        """Count and log every durable call below `root` from now on."""
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._library.crash_begin(os.fsencode(root), handle)

    def fault(self, at: int, kind: str) -> None:
        """Let call number `at` meet this fault."""
        self._library.crash_fault(ctypes.c_long(at), *FAULTS[kind])

    def note(self, text: str) -> None:
        """Write something into the log, in its order."""
        self._library.crash_note(text.encode())

    def end(self) -> None:
        """Let everything pass again."""
        self._library.crash_end()


def read_log(path: Path) -> list[Call]:
    """Return what the log holds."""
    return list(_calls(path.read_bytes()))


def _calls(data: bytes) -> Iterator[Call]:
    at = 0
    while at < len(data):
        op, flags, error, mode, number, inode, offset, size, path, other, length, _ = RECORD.unpack_from(data, at)
        at += RECORD.size
        parts = []
        for count in (path, other, length):
            parts.append(data[at : at + count])
            at += count
        yield Call(
            op=OPS[op],
            number=number,
            error=error,
            flags=flags,
            mode=mode,
            inode=inode,
            offset=offset,
            size=size,
            path=os.fsdecode(parts[0]),
            other=os.fsdecode(parts[1]),
            data=parts[2],
        )
