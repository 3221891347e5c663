"""The broker that a killed hub left behind: found by its process id, checked to be ours, ended before a new one."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from edgesdk.durable import write_atomic
from edgesdk.errors import ConfigError

PID_FILE = "pid"
WAIT_S = 5.0
_POLL_S = 0.02


def remember(directory: Path, pid: int) -> None:
    """Note the broker's process id in its folder."""
    write_atomic(directory / PID_FILE, f"{pid}\n".encode())


def end_left_behind(directory: Path) -> bool:
    """End the broker that an earlier hub started in this folder; returns whether there was one.

    Only a process whose command line names this folder is touched: process ids are used again.

    Raises:
        ConfigError: ``port-in-use`` if it does not end.
    """
    try:
        pid = int((directory / PID_FILE).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    if os.fsencode(directory.absolute() / "mosquitto.conf") not in command.split(b"\0"):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_S
    while _lives(pid):
        if time.monotonic() > deadline:
            raise ConfigError("port-in-use", f"the broker of an earlier hub (process {pid}) does not end")
        time.sleep(_POLL_S)
    return True


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
