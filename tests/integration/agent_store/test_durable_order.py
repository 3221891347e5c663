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

from edgesdk.generation import GENERATION_SCHEMA, Generation, TrialPolicy, generation_id, slots_file


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


def test_a_generation(tmp_path: Path, trace: list[tuple[str, str]]) -> None:
    """Record and every folder before the rename; the generation, its new parent and its old parent after it."""
    policy = TrialPolicy()
    record = Generation(
        schema=GENERATION_SCHEMA,
        generation=generation_id("a" * 64, {}, policy),
        model="m",
        release="1.0.0",
        variant="v",
        bundle_sha256="a" * 64,
        config={},
        policy=policy,
    )
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
