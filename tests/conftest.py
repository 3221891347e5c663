"""Fixtures and rules that every test obeys."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Tests start hundreds of processes: one that may not keep bytecode compiles all it imports anew (TensorFlow: 6 s)."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what lacks a Debian package, by name; under CI a missing package is a failure instead."""
    del config
    programs = {"mosquitto": shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")}
    postgresql = shutil.which("postgres") or next(Path("/usr/lib/postgresql").glob("*/bin/postgres"), None)
    for item in items:
        if item.get_closest_marker("postgresql") and not postgresql:  # optional, under CI too
            item.add_marker(pytest.mark.skip(reason="the Debian package postgresql is not installed"))
        for name, found in programs.items():
            if item.get_closest_marker(name) and not found and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"the Debian package {name} is not installed"))
        if item.get_closest_marker("hardware") and not os.environ.get("EDGE_HARDWARE"):
            item.add_marker(pytest.mark.skip(reason="needs a device: set EDGE_HARDWARE to run it there"))


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_folder(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return the function that has a folder filled by the first of xdist's workers that asks, and gives it to all."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if hasattr(request.config, "workerinput") else base

    def folder_of(name: str, fill: Callable[[Path], object]) -> Path:
        folder, ready = base / name, base / f"{name}.ready"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)  # where another one failed
                folder.mkdir()
                fill(folder)
                ready.touch()
        return folder

    return folder_of
