"""The child's half of a worker: reads one request, answers once, and dies with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from edgesdk.errors import EdgeError

PR_SET_PDEATHSIG = 1
MAX_REQUEST = 4 * 1024 * 1024
R = TypeVar("R")


def serve(kind: Any, handle: Callable[[R], msgspec.Struct]) -> None:
    """Answer the one request on stdin and exit.

    Standard output is moved away first: runtimes print to it, and the answer must stand alone there. The process leaves
    by `os._exit`, so that a runtime that crashes while it is torn down cannot spoil an answer that was given.

    Args:
        kind: Type of the request (a union of tagged structs).
        handle: Does the work; an `EdgeError` that it raises becomes the answer.
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(MAX_REQUEST), type=kind)
        answer = {"ok": True, "result": handle(request)}
    except EdgeError as error:
        answer = {"ok": False, "error": error.to_dict()}
    except BaseException:  # noqa: BLE001 - the parent reads the exit status and the log
        traceback.print_exc()
        _leave(1)
    with answers:
        answers.write(msgspec.json.encode(answer))
    _leave(0)


def _leave(status: int) -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
