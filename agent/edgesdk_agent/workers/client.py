"""The agent's half of a worker: starts a child, limits it, and turns whatever becomes of it into one typed outcome."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TypeVar

import msgspec

from edgesdk.errors import CODES, DeploymentError, EdgeError, error_from_dict
from edgesdk_agent.workers.messages import (
    Judgement,
    JudgeNewcomer,
    Sign,
    Signed,
    VerifiedBundle,
    VerifiedCommand,
    VerifiedDesired,
    VerifiedImport,
    VerifyBundle,
    VerifyCommand,
    VerifyDesired,
    VerifyImport,
)

logger = logging.getLogger(__name__)

MAX_ANSWER = 4 * 1024 * 1024
STDERR_TAIL = 4096
TRUST_SECONDS = 60.0
BYTES_PER_SECOND = 2_000_000
"""The slowest storage that a bundle's time limit allows for."""
R = TypeVar("R", bound=msgspec.Struct)


class AgentStopping(BaseException):
    """The agent is stopping: whoever waits for a worker leaves at once and decides nothing.

    Not an `Exception`, so that nobody takes it for a worker that failed and journals that.
    """


class _Answer(msgspec.Struct):
    """What a child writes."""

    ok: bool
    result: msgspec.Raw = msgspec.Raw()
    error: dict[str, str] = {}


class ChildWorkers:
    """Starts the children of one agent: at most one `trust` and one `testing` worker at a time.

    Args:
        environment: Added to the children's environment, for example ``EDGESDK_TFLITE``.
        trust: Command of the trust worker.
        testing: Command of the testing worker.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        trust: Sequence[str] = (sys.executable, "-P", "-m", "edgesdk_agent.workers.trust"),
        testing: Sequence[str] = (sys.executable, "-P", "-m", "edgesdk_agent.workers.testing"),
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._commands = {"trust": tuple(trust), "testing": tuple(testing)}
        self._turns = {"trust": threading.Lock(), "testing": threading.Lock()}
        self._running: set[int] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def verify_desired(self, request: VerifyDesired) -> VerifiedDesired:
        """Verify a desired document; raises `TrustError`, or `LinkError` if the repository cannot be reached."""
        return self._ask("trust", request, VerifiedDesired, TRUST_SECONDS)

    def verify_command(self, request: VerifyCommand) -> VerifiedCommand:
        """Verify a command; raises `TrustError`, or `LinkError` if the repository cannot be reached."""
        return self._ask("trust", request, VerifiedCommand, TRUST_SECONDS)

    def sign(self, request: Sign) -> Signed:
        """Sign statements; raises `TrustError` or `ConfigError` if the key cannot be used."""
        return self._ask("trust", request, Signed, TRUST_SECONDS)

    def verify_bundle(self, request: VerifyBundle) -> VerifiedBundle:
        """Verify and unpack a bundle; see `edgesdk_agent.workers.messages.Workers`."""
        return self._ask("trust", request, VerifiedBundle, TRUST_SECONDS + request.length / BYTES_PER_SECOND)

    def verify_import(self, request: VerifyImport, *, size: int) -> VerifiedImport:
        """Verify a carried file of `size` bytes; raises as `edgesdk_agent.workers.importing.verify_import`."""
        return self._ask("trust", request, VerifiedImport, TRUST_SECONDS + size / BYTES_PER_SECOND)

    def test(self, request: JudgeNewcomer) -> Judgement:
        """Judge a newcomer; see `edgesdk_agent.workers.messages.Workers`."""
        return self._ask("testing", request, Judgement, request.policy.testing_seconds)

    def stop(self) -> None:
        """Kill what runs and start nothing any more; callers get `AgentStopping`."""
        with self._lock:
            self._stopped = True
            running = tuple(self._running)
        for pid in running:
            _kill_group(pid)

    def _ask(self, worker: str, request: msgspec.Struct, result: type[R], seconds: float) -> R:
        with self._turns[worker], tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as out:
            asked.write(msgspec.json.encode(request))
            asked.seek(0)
            with tempfile.TemporaryFile() as log:
                status = self._run(worker, asked, out, log, seconds)
                tail = _tail(log)
            if tail:
                logger.info("the %s worker wrote: %s", worker, tail)
            if self._stopped:
                raise AgentStopping
            out.seek(0)
            return _outcome(worker, status, out.read(MAX_ANSWER), result, seconds=seconds, tail=tail)

    def _run(self, worker: str, asked: IO[bytes], out: IO[bytes], log: IO[bytes], seconds: float) -> int | None:
        """Run the child to its end; returns its status, None after a time-out."""
        with self._lock:
            if self._stopped:
                raise AgentStopping
            child = subprocess.Popen(
                self._commands[worker],
                stdin=asked,
                stdout=out,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
            self._running.add(child.pid)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill_group(child.pid)
            child.wait()
            with self._lock:
                self._running.discard(child.pid)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - STDERR_TAIL))
    return log.read().decode(errors="replace").strip()


def _outcome(worker: str, status: int | None, data: bytes, result: type[R], *, seconds: float, tail: str) -> R:
    """Turn a child's end into its result.

    Raises:
        EdgeError: What the child reported, or ``testing-timeout``, ``testing-crashed``, ``worker-failed``.
    """
    testing = worker == "testing"
    if status is None or (testing and status == -signal.SIGXCPU):
        code = "testing-timeout" if testing else "worker-failed"
        raise DeploymentError(code, f"the {worker} worker took longer than {seconds:g} s")
    if status < 0:
        name = signal.Signals(-status).name
        raise DeploymentError(
            "testing-crashed" if testing else "worker-failed",
            f"the {worker} worker was ended by {name}{_last_line(tail)}",
        )
    try:
        answer = msgspec.json.decode(data, type=_Answer)
        if status == 0 and answer.ok:
            return msgspec.json.decode(answer.result, type=result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = f"the {worker} worker ended with status {status} and no answer{_last_line(tail)}"
        raise DeploymentError("worker-failed", reason) from error
    raise _reported(worker, answer.error)


def _reported(worker: str, error: dict[str, str]) -> EdgeError:
    if error.get("code") not in CODES or "message" not in error:
        return DeploymentError("worker-failed", f"the {worker} worker reported an error that is not known: {error}")
    return error_from_dict(error)


def _last_line(tail: str) -> str:
    return f": {tail.splitlines()[-1][:200]}" if tail else ""
