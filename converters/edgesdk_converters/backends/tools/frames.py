"""Arrays over a pipe: a length of eight bytes, then an ``.npz``; both ends of a conversation use it."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, BinaryIO

import numpy as np

LENGTH = 8


def write(stream: BinaryIO, arrays: dict[str, Any]) -> None:
    """Send arrays by name."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    stream.write(len(data).to_bytes(LENGTH, "big") + data)
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """Receive arrays by name; None at the end."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    with np.load(io.BytesIO(stream.read(int.from_bytes(head, "big"))), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return our end of the conversation, and let everything else that is printed go to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, answers
