"""The order in which things are made durable: what a rename names is on the disk before it, the name is after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgesdk_agent.store.atomic import fsync_folder, write_atomic
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.generations import GenerationStore
from edgesdk_agent.store.slots import SlotsStore

from edgesdk.generation import GENERATION_SCHEMA, Generation, TrialPolicy, generation_dir, generation_id, slots_file


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Every fsync (by path) and every rename (by target) of this process, in order."""
    seen: list[tuple[str, str]] = []
    real = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

    def fsync(handle: int) -> None:
        seen.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))  # noqa: PTH115 - a path of the kernel's
        real["fsync"](handle)

    def rename(source: object, target: object) -> None:
        seen.append(("rename", str(target)))
        real["rename"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "replace", rename)
    return seen


def _record() -> Generation:
    policy = TrialPolicy()
    return Generation(
        schema=GENERATION_SCHEMA,
        generation=generation_id("a" * 64, {}, policy),
        model="m",
        release="1.0.0",
        variant="v",
        bundle_sha256="a" * 64,
        config={},
        policy=policy,
    )


def test_a_replaced_file(tmp_path: Path, trace: list[tuple[str, str]]) -> None:
    """File, rename, folder."""
    path = tmp_path / "file"
    write_atomic(path, b"x")
    assert trace == [("fsync", str(tmp_path / ".file.tmp")), ("rename", str(path)), ("fsync", str(tmp_path))]


def test_slots_of_a_new_model(tmp_path: Path, trace: list[tuple[str, str]]) -> None:
    """The folders of a new model, their modes first, are durable before the file in them is."""
    SlotsStore(tmp_path, Reserve(tmp_path / "reserve")).remove("m")  # nothing to remove, nothing to write
    assert trace == []
    (tmp_path / "generations" / ("1" * 64)).mkdir(parents=True)
    SlotsStore(tmp_path, Reserve(tmp_path / "reserve")).begin_trial("m", "1" * 64)
    path = slots_file(tmp_path, "m")
    assert trace == [
        ("fsync", str(tmp_path / ".models.tmp")),
        ("rename", str(tmp_path / "models")),
        ("fsync", str(tmp_path)),
        ("fsync", str(tmp_path / "models" / ".m.tmp")),
        ("rename", str(path.parent)),
        ("fsync", str(tmp_path / "models")),
        ("fsync", str(path.with_name(".slots.json.tmp"))),
        ("rename", str(path)),
        ("fsync", str(path.parent)),
    ]


def test_a_move_that_seems_made_is_written_again(tmp_path: Path, trace: list[tuple[str, str]]) -> None:
    """Whoever made it may have failed to sync the folder, and no later sync makes that good: only another rename."""
    (tmp_path / "generations" / ("1" * 64)).mkdir(parents=True)
    slots = SlotsStore(tmp_path, Reserve(tmp_path / "reserve"))
    slots.begin_trial("m", "1" * 64)
    path = slots_file(tmp_path, "m")
    written = [("fsync", str(path.with_name(".slots.json.tmp"))), ("rename", str(path)), ("fsync", str(path.parent))]
    for move in (lambda: slots.commit("m", "1" * 64), lambda: slots.roll_back("m"), lambda: slots.remove("m")):
        moved = move()
        trace.clear()
        assert move() == moved
        assert trace[-3:] == written


def test_a_generation_whose_name_was_not_synced_is_named_again(
    tmp_path: Path, trace: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sync that failed the whole of it is done again; one that is here already is synced before it counts."""
    record, unpacked = _record(), tmp_path / "staging" / "new"
    (unpacked / "golden").mkdir(parents=True)
    store, place = GenerationStore(tmp_path / "store"), generation_dir(tmp_path / "store", _record().generation)
    synced = os.fsync

    def failing(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}") == str(place.parent):  # noqa: PTH115 - a path of the kernel's
            raise OSError(5, "I/O error")
        synced(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="I/O error"):
            store.stage(unpacked, record)
    assert not store.has(record.generation)
    trace.clear()
    assert store.stage(unpacked, record) == place
    assert ("rename", str(place)) in trace
    trace.clear()
    assert store.stage(unpacked, record) == place
    assert trace == [("fsync", str(place)), ("fsync", str(place.parent))]
    unpacked.mkdir()  # a power cut brought the name back, and it was unpacked again
    store.stage(unpacked, record)
    assert not unpacked.exists()


def test_a_generation(tmp_path: Path, trace: list[tuple[str, str]]) -> None:
    """Record and every folder before the rename; the generation, its new parent and its old parent after it."""
    record = _record()
    unpacked = tmp_path / "staging" / "new"
    (unpacked / "golden").mkdir(parents=True)
    fsync_folder(tmp_path)
    trace.clear()
    place = GenerationStore(tmp_path / "store").stage(unpacked, record)
    at = trace.index(("rename", str(place)))
    assert {path for kind, path in trace[:at] if kind == "fsync"} >= {
        str(unpacked / "generation.json"),
        str(unpacked / "golden"),
        str(unpacked),
        str(tmp_path / "store"),
    }
    assert [path for _, path in trace[at + 1 :]] == [str(place), str(place.parent), str(unpacked.parent)]
