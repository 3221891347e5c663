"""The demo's hands: commands that are run to their end, and programs that are kept running until the demo ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgesdk.errors import DeploymentError

COMMAND_SECONDS = 240.0
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of its output that is JSON."""
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def error(self) -> dict[str, str]:
        """The error that it printed with --json, or an empty one."""
        for line in reversed(self.err.splitlines()):
            if line.startswith('{"error"'):
                found: dict[str, str] = json.loads(line)["error"]
                return found
        return {"code": "", "message": self.err.strip()[-300:], "hint": ""}


@dataclass
class Programs:
    """Runs programs with one environment, and stops what still runs when the demo ends.

    Attributes:
        folder: Logs of kept programs go to ``folder/logs/NAME.log``.
        environment: Added to this process's environment.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _kept: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(list(self._kept)):
            self.stop(name)

    def run(self, *arguments: str, check: bool = True, module: str = "edgesdk") -> Done:
        """Run ``python -m MODULE ARGUMENTS`` to its end.

        Raises:
            DeploymentError: ``worker-failed`` if it exits with another code than 0 and `check` is true.
        """
        command = [sys.executable, "-m", module, *arguments] if module else [sys.executable, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False, env=self._environment()
        )
        result = Done(arguments, done.returncode, done.stdout, done.stderr)
        with (self.folder / "logs" / "commands.log").open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}[exit {done.returncode}]\n\n")
        if check and done.returncode != 0:
            raise DeploymentError(
                "worker-failed",
                f"`{' '.join(arguments[:3])} …` ended with exit code {done.returncode}: {result.error['message']}",
                hint=f"Everything it printed is in {self.folder / 'logs' / 'commands.log'}.",
            )
        return result

    def keep(
        self, name: str, *arguments: str, module: str, ready: bool = True, environment: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Start a program and keep it; return the JSON of its first line of output (what it says when it is ready).

        Raises:
            DeploymentError: ``worker-failed`` if it ends or says nothing within `READY_SECONDS`.
        """
        log = (self.folder / "logs" / f"{name}.log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            env={**self._environment(), **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
        log.close()
        self._kept[name] = process
        if not ready:
            self._drain(process, name)
            return {}
        timer = threading.Timer(READY_SECONDS, process.kill)
        timer.start()
        line = process.stdout.readline() if process.stdout else ""
        timer.cancel()
        if not line:
            raise DeploymentError(
                "worker-failed",
                f"{name} did not start",
                hint=f"Its words are in {self.folder / 'logs' / (name + '.log')}.",
            )
        self._drain(process, name)
        said: dict[str, Any] = json.loads(line)
        return said

    def _drain(self, process: subprocess.Popen[str], name: str) -> None:
        """Keep reading the program's output into its file, so that it never blocks on a full pipe."""

        def copy() -> None:
            with (self.folder / "logs" / f"{name}.out").open("a") as out:
                for line in process.stdout or ():
                    out.write(line)
                    out.flush()

        threading.Thread(target=copy, name=f"drain-{name}", daemon=True).start()

    def stop(self, name: str) -> None:
        """Ask a kept program to stop; after `STOP_SECONDS` kill it and what it started."""
        process = self._kept.pop(name)
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def alive(self, name: str) -> bool:
        """Say whether a kept program still runs."""
        return self._kept[name].poll() is None

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"}
