"""What the explorer found once, told in few lines each, so that it does not come back."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from crash.repository import build_bundles, offer_of
from edgesdk_agent.paths import Paths
from edgesdk_agent.store import state
from edgesdk_agent.store.atomic import make_folder
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.workers import trust
from edgesdk_agent.workers.messages import VerifyBundle

from edgesdk.errors import DeploymentError, TrustError


def test_a_torn_download_is_fetched_again(tmp_path: Path) -> None:
    """A file of the right length with zeros for bytes is not the one that was signed; it is not a bad release."""
    build_bundles(tmp_path)
    bundle = offer_of(tmp_path, "http://127.0.0.1", "1.0.0").targets["cpu.edge"]
    torn = tmp_path / "torn"
    torn.write_bytes(bytes(bundle.length))
    request = VerifyBundle(
        path=str(torn), length=bundle.length, sha256=bundle.sha256, destination=str(tmp_path / "x"), model="wearable"
    )
    with pytest.raises(TrustError) as caught:
        trust.verify_bundle(request)
    assert caught.value.code == "tuf-target-mismatch"


def test_the_agents_folders_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that holds one of the agent's is synced after it was made: `state` cannot vanish as a whole."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115 - a path of the kernel's
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    paths = Paths(tmp_path / "agent")
    paths.make()
    assert {str(folder) for folder in (tmp_path, paths.root, paths.store, paths.state)} <= set(synced)


def test_a_folder_never_has_its_name_without_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off between making a folder and opening it to apps, it is made again: apps are not locked out for ever."""
    old = os.umask(0o077)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "chmod", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
            with pytest.raises(OSError, match="I/O error"):
                make_folder(tmp_path / "models" / "m")
        make_folder(tmp_path / "models" / "m")
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "models", tmp_path / "models" / "m")] == [0o755] * 2


def test_one_io_error_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state.db that cannot be opened once is opened again, not replaced; it is never used for reading only."""
    StateDb(tmp_path / "state.db").close()
    before = StateDb(tmp_path / "state.db")
    before.set("key", "value")
    before.close()
    real, failed = sqlite3.connect, []

    def once_read_only(path: Path, **options: object) -> sqlite3.Connection:
        if failed:
            return real(path, **options)
        failed.append(path)
        return real(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(state.sqlite3, "connect", once_read_only)
    again = StateDb(tmp_path / "state.db")
    assert (again.rebuilt, again.get("key")) == (False, "value")
    again.set("key", "other")
    again.close()


def test_a_floors_file_that_cannot_be_written_is_the_disks_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error beside state.db is an error of ours with a code, so that whoever asked tries again."""
    db = StateDb(tmp_path / "state.db")

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(state, "write_atomic", broken)
    with pytest.raises(DeploymentError) as caught:
        db.raise_time_floor("2026-11-23T00:00:00.000Z")
    assert caught.value.code == "disk-error"
    db.close()
