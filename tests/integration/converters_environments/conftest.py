"""A tiny package as a wheel, so that environments are made without a network."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from edgesdk_converters.running.environments import Environment

TOOL = """
import os, signal, sys, time
print("tool: I begin")
print("tool: nothing works today", file=sys.stderr)
match sys.argv[1]:
    case "write": open(sys.argv[2], "w").write("done")
    case "empty": open(sys.argv[2], "w").close()
    case "crash": os.kill(os.getpid(), signal.SIGFPE)
    case "fail": sys.exit("tool: unsupported operator ERF")
    case "hang": time.sleep(3600)
    case "variables": print(sorted(os.environ))
"""


def make_wheel(folder: Path, name: str = "tinytool", requires: str = "") -> Path:
    """Write a wheel with one module."""
    info = f"{name}-1.0.dist-info"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", TOOL)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requirement}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with one tool in it."""
    return Environment("tiny", packages=(str(make_wheel(tmp_path_factory.mktemp("wheels"))),))


@pytest.fixture
def wait_for_end() -> Callable[[int], None]:
    """Wait until a process is dead (a zombie is)."""

    def wait(pid: int) -> None:
        deadline = time.monotonic() + 60
        state = Path("/proc", str(pid), "stat")
        while state.exists() and " Z " not in state.read_text():
            assert time.monotonic() < deadline, f"process {pid} lives on"
            time.sleep(0.02)

    return wait
