"""Fixtures and rules that every test obeys."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Tests start hundreds of processes: one that may not keep bytecode compiles all it imports anew (TensorFlow: 6 s)."""

LONGEST = (
    "e2e/test_outages.py",
    "integration/converters_compress/test_training.py",
    "integration/crash/test_crash_explorer.py",
    "integration/converters_sources/test_tensorflow_sources.py",
    "e2e/test_bad_input.py",
    "e2e/test_agent_killed.py",
    "e2e/test_rollouts_e2e.py",
    "integration/faults/test_soak.py",
    "integration/fleet/test_hub_process.py",
    "integration/converters_pipeline/test_refusals.py",
    "integration/converters_pipeline/test_repair_ladder.py",
    "vendor/test_format_converters.py",
    "integration/converters_pipeline/test_recurrent.py",
    "unit/test_stats.py",
)
"""What takes half a minute or more begins first: xdist would keep files of few tests for the end, where cores idle.

The first of `e2e` makes what the others copy, so they come after what waits for nothing."""


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist give out files in the order of the collection."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order files by what they take; skip what lacks a Debian package: under CI a missing one is a failure instead."""
    del config
    tests = Counter(item.path for item in items)
    first = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (first.get(item.path, len(first)), -tests[item.path], item.path))
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
