"""Run one action in a spawned child process: its crash, hang or chatter cannot reach us.

Vendor tools segfault, print to file descriptors and cannot share a process (TensorFlow breaks tflite-runtime). So each
step runs as ``python -m edgesdk_converters.running.child`` with its output redirected to a log and a time limit; a
child that dies becomes a typed error that carries the tool's last words.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesdk.errors import EdgeError, ReleaseError, error_from_dict

PROGRESS_FD = "EDGESDK_CHILD_PROGRESS_FD"
LOG_TAIL = 16_384
LAST_LINES = 4
LINE_LENGTH = 300
Progress = Callable[[int, int], None]
"""Called with (done, total) of whatever a step counts."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a child does: ``module:function`` with named input files and parameters that are plain JSON."""

    action: str
    inputs: Mapping[str, Path]
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What an action gets: it writes its files into `out` and returns plain JSON.

    Attributes:
        timeout_s: Wall time after which it is killed, in seconds.
    """

    inputs: dict[str, Path]
    params: dict[str, Any]
    out: Path
    progress: Progress
    timeout_s: float = 600.0

    @property
    def tool_timeout_s(self) -> float:
        """Wall time for a tool that the action runs, in seconds: time is left to tell what it said."""
        return 0.9 * self.timeout_s


def run_child(task: Task, out: Path, *, log: Path, timeout_s: float, on_progress: Progress | None = None) -> Any:
    """Run `task` in a child that writes into the existing folder `out`; return the action's answer.

    Args:
        task: What to do.
        out: Folder for the action's files.
        log: File that receives everything the child and its tools print.
        timeout_s: Wall time after which the child and its children are killed, in seconds.
        on_progress: Called in this process.

    Raises:
        ReleaseError: ``conversion-failed`` with the tool's last words, or ``conversion-timeout``.
        EdgeError: Whatever the action raised.
    """
    answer = log.with_suffix(".answer.json")
    request = {
        "action": task.action,
        "inputs": {name: str(path) for name, path in task.inputs.items()},
        "params": dict(task.params),
        "out": str(out),
        "answer": str(answer),
        "path": sys.path,
        "timeout_s": timeout_s,
    }
    read_fd, write_fd = os.pipe()
    with log.open("wb") as output, os.fdopen(read_fd, "rb", buffering=0) as progress:
        try:
            child = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "edgesdk_converters.running.child"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[write_fd],
                env=_environment(write_fd),
                start_new_session=True,
            )
        finally:
            os.close(write_fd)
        try:
            _send(child, json.dumps(request).encode())
            deadline = time.monotonic() + timeout_s
            finished = _follow(progress, deadline, on_progress) and _ended(child, deadline)
        finally:
            _kill(child)
    if not finished:
        raise ReleaseError("conversion-timeout", f"{task.action} took longer than {timeout_s:g} s{last_words(log)}")
    return _answer(task, child.returncode, answer, log)


def _environment(progress_fd: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_")}  # no keys, no tokens
    return {
        **kept,
        PROGRESS_FD: str(progress_fd),
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",  # numpy's sums then have one order on any number of processors
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def _send(child: subprocess.Popen[bytes], request: bytes) -> None:
    assert child.stdin is not None
    try:
        with child.stdin:
            child.stdin.write(request)
    except BrokenPipeError:
        pass  # it died at once; its exit status says more


def _follow(progress: Any, deadline: float, on_progress: Progress | None) -> bool:
    """Read progress lines until the child closes its end (True) or the deadline passes (False)."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(progress, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            chunk = progress.read(4096)
            if not chunk:
                return True
            *lines, pending = (pending + chunk).split(b"\n")
            if lines and on_progress is not None:
                done, total = lines[-1].split()
                on_progress(int(done), int(total))
    return False


def _ended(child: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # also what the tool itself started
    child.wait()


def _answer(task: Task, status: int, answer: Path, log: Path) -> Any:
    try:
        reply: dict[str, Any] = json.loads(answer.read_bytes())
    except (OSError, ValueError):
        died = f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        raise ReleaseError("conversion-failed", f"{task.action} {died} without an answer{last_words(log)}") from None
    finally:
        answer.unlink(missing_ok=True)
    if "error" in reply:
        raise error_from_dict(reply["error"])
    if "failure" in reply:
        raise ReleaseError("conversion-failed", f"{task.action}: {reply['failure']}")
    return reply["result"]


def last_words(*logs: Path) -> str:
    """Return the end of what a tool said into each log, and where Python's own account of a crash begins."""
    lines: list[str] = []
    for log in logs:
        said, crash, account = log.read_bytes()[-LOG_TAIL:].decode(errors="replace").partition("Fatal Python error")
        lines += [*_lines(said)[-LAST_LINES:], *_lines(crash + account)[:LAST_LINES]]
    return f"; its last words: {' | '.join(line[:LINE_LENGTH] for line in lines)}" if lines else ""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Return the answer by which a child reports that its action raised."""
    if isinstance(error, EdgeError):
        return {"error": error.to_dict()}
    return {"failure": f"{type(error).__name__}: {error}"[: LAST_LINES * LINE_LENGTH]}
