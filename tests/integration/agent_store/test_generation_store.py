"""Generations, garbage collection, the reserve and the budget on a real file system."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from edgesdk_agent.store.atomic import disk_errors, write_atomic
from edgesdk_agent.store.disk import Reserve, check_room, free_bytes, tree_bytes
from edgesdk_agent.store.gc import collect, sweep
from edgesdk_agent.store.generations import GenerationStore

from edgesdk.errors import DeploymentError
from edgesdk.generation import GENERATION_SCHEMA, Generation, TrialPolicy, generation_id


def record(bundle: str = "a" * 64, **config: object) -> Generation:
    policy = TrialPolicy()
    return Generation(
        schema=GENERATION_SCHEMA,
        generation=generation_id(bundle, config, policy),
        model="m",
        release="1.0.0",
        variant="v",
        bundle_sha256=bundle,
        config=config,
        policy=policy,
    )


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


def unpack(staging: Path, name: str = "new") -> Path:
    folder = staging / name
    (folder / "golden").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "golden" / "x.npy").write_bytes(b"golden")
    return folder


def test_stage(tmp_path: Path, staging: Path) -> None:
    """An unpacked bundle becomes a whole, read-only generation with its record."""
    store, made = GenerationStore(tmp_path / "store"), record()
    place = store.stage(unpack(staging), made)
    assert store.ids() == [made.generation]
    assert store.read(made.generation) == made
    assert (place / "golden" / "x.npy").read_bytes() == b"golden"
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*") if path.is_file()} == {0o444}
    assert stat.S_IMODE(place.stat().st_mode) == 0o555
    assert list(staging.iterdir()) == []


def test_stage_goes_on_where_it_was_cut(tmp_path: Path, staging: Path) -> None:
    """A folder that was sealed but not renamed yet is staged again."""
    store, made = GenerationStore(tmp_path / "store"), record()
    unpacked = unpack(staging)
    (unpacked / "generation.json").write_bytes(b"half")
    for path in (*unpacked.rglob("*"), unpacked):
        path.chmod(0o555 if path.is_dir() else 0o444)
    store.stage(unpacked, made)
    assert store.read(made.generation) == made
    assert store.stage(unpacked, made) == store.path(made.generation)


def test_clone_links_the_same_bytes(tmp_path: Path, staging: Path) -> None:
    """Another configuration of the same bundle is another generation that takes no more space."""
    store, one, two = GenerationStore(tmp_path / "store"), record(), record(threads=2)
    store.stage(unpack(staging), one)
    assert store.twin(one.bundle_sha256) == one.generation
    assert store.twin("f" * 64) is None
    place = store.clone(one.generation, two, staging / "clone")
    assert store.read(two.generation) == two
    assert (place / "model.bin").samefile(store.path(one.generation) / "model.bin")
    assert store.read(one.generation) == one
    store.remove(one.generation, staging / "gone")
    assert (place / "model.bin").read_bytes() == b"weights"


def test_missing_and_damaged_records_are_named(tmp_path: Path, staging: Path) -> None:
    """Reading says which generation is missing or damaged."""
    store, made = GenerationStore(tmp_path / "store"), record()
    with pytest.raises(DeploymentError) as caught:
        store.read(made.generation)
    assert caught.value.code == "generation-missing"
    path = store.stage(unpack(staging), made) / "generation.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"1.0.0", b"1.0"))
    with pytest.raises(DeploymentError) as caught:
        store.read(made.generation)
    assert caught.value.code == "store-corrupt"


def test_collect_spares_what_is_kept_or_held(tmp_path: Path, staging: Path) -> None:
    """Kept generations and those that an app has locked stay; the others go."""
    store = GenerationStore(tmp_path / "store")
    made = [record(number=number) for number in range(3)]
    for each in made:
        store.stage(unpack(staging), each)
    held = os.open(store.path(made[0].generation), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    removed = collect(store, keep={made[1].generation}, staging=staging)
    assert removed == [made[2].generation]
    os.close(held)
    assert collect(store, keep={made[1].generation}, staging=staging) == [made[0].generation]
    assert store.ids() == [made[1].generation]
    assert list(staging.iterdir()) == []


def test_sweep(staging: Path) -> None:
    """Left-overs go, named things stay."""
    unpack(staging, "old").chmod(0o555)
    (staging / "part").write_bytes(b"x")
    (staging / "kept").write_bytes(b"x")
    sweep(staging, keep={"kept"})
    assert [path.name for path in staging.iterdir()] == ["kept"]


def test_reserve(tmp_path: Path) -> None:
    """The reserve takes real blocks, is given up once for a vital write, and is taken again."""
    reserve, calls = Reserve(tmp_path / "reserve", 65536), []
    assert reserve.take()
    assert tree_bytes(tmp_path) >= 65536

    def write() -> str:
        calls.append(reserve.held)
        if reserve.held:
            raise DeploymentError("disk-full", "full")
        return "written"

    assert reserve.vital(write) == "written"
    assert calls == [True, False]
    assert not reserve.give_up()
    assert reserve.take()


def test_reserve_does_not_hide_what_it_cannot_help(tmp_path: Path) -> None:
    """Without a reserve, or when it does not help, the error is seen; other errors are not retried."""
    reserve, calls = Reserve(tmp_path / "reserve", 4096), []

    def write() -> None:
        calls.append(1)
        raise DeploymentError("disk-full", "full")

    with pytest.raises(DeploymentError):
        reserve.vital(write)
    assert len(calls) == 1
    reserve.take()
    with pytest.raises(DeploymentError):
        reserve.vital(write)
    assert len(calls) == 3


def test_budget(tmp_path: Path) -> None:
    """Neither the disk nor the budget may be exceeded, and both figures are said."""
    check_room(tmp_path, needed=10, used=90, budget=100)
    check_room(tmp_path, needed=10, used=10**15, budget=0)
    with pytest.raises(DeploymentError, match="10 of the budget"):
        check_room(tmp_path, needed=11, used=90, budget=100)
    with pytest.raises(DeploymentError, match="are free"):
        check_room(tmp_path, needed=free_bytes(tmp_path) * 2, used=0, budget=0)


def test_atomic_write_keeps_the_old_contents_on_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the old file stays, no temporary is left, and the error is `disk-full`."""
    path = tmp_path / "file"
    write_atomic(path, b"old", mode=0o600)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeploymentError) as caught:
        write_atomic(path, b"new")
    assert caught.value.code == "disk-full"
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_other_disk_errors_are_not_called_full() -> None:
    """Only "no space" is `disk-full`."""
    with pytest.raises(PermissionError), disk_errors("x"):
        raise PermissionError(errno.EACCES, "no")
