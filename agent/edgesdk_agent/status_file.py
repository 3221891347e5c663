"""The file in which the running agent says how it stands, for `edge-agent status` and `edge-agent why`.

It is only for looking at: not durable, and replaced as a whole. On a full disk, where people look at it most, nothing
new can be written; so the file is kept longer than it needs to be, and is then written over where it lies.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

SLACK = 4096
"""Bytes of white space at its end, so that what is said on a full disk fits although it is longer."""


def write_status(file: Path, status: dict[str, Any], *, tenure: str) -> None:
    """Replace the file, or write over it; `tenure` names this holding of the agent's lock.

    Raises:
        OSError: When neither can be done.
    """
    data = json.dumps({**status, "tenure": tenure}, sort_keys=True).encode()
    fresh = file.with_suffix(".new")
    try:
        fresh.write_bytes(data + b" " * SLACK)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        _write_over(file, data)


def _write_over(file: Path, data: bytes) -> None:
    with file.open("r+b") as old:
        room = os.fstat(old.fileno()).st_size
        if len(data) > room:
            raise OSError(f"{file} has room for {room} bytes, not for {len(data)}")
        old.write(data + b" " * (room - len(data)))


def read_status(file: Path, *, tenure: str | None) -> dict[str, Any]:
    """Return what the agent said last; nothing if that is not readable.

    Args:
        file: The file.
        tenure: Of the agent that runs now: what an earlier one said is then nothing; None: none runs.
    """
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if tenure in {None, found.get("tenure")} else {}
