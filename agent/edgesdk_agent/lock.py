"""One agent per folder: a lock that the kernel releases whatever becomes of its holder."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgesdk.errors import DeploymentError


@contextmanager
def only_agent(path: Path) -> Iterator[None]:
    """Hold the lock while the block runs.

    Raises:
        DeploymentError: ``agent-running`` if another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DeploymentError("agent-running", f"another agent uses {path.parent.parent}") from None
    try:
        with suppress(OSError):  # a full disk: an earlier tenure's name stays, and that is all
            os.pwrite(handle, secrets.token_hex(8).encode(), 0)
        yield
    finally:
        os.close(handle)


def tenure(path: Path) -> str:
    """Return the name that the lock was given when it was taken last; "" if it has none."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def is_running(path: Path) -> bool:
    """Say whether an agent holds the lock."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
