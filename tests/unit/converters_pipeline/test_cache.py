"""The cache: entries are whole or absent, and never believed unchecked."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from edgesdk_converters.running.cache import StepCache, step_key

KEY = "ab" + "0" * 62
PARTS = {"action": "m:f", "inputs": {"a": "1"}, "params": {"p": 1}, "versions": {"numpy": "1"}}


def store(cache: StepCache, text: str = "content", key: str = KEY) -> None:
    with cache.workspace() as workspace:
        out = workspace / "out"
        out.mkdir()
        (out / "model.onnx").write_text(text)
        cache.store(key, out, {"nodes": 3}, 1.5)


def test_a_stored_step_is_found(tmp_path):
    """What was stored is found with its files, its answer and its time."""
    cache = StepCache(tmp_path)
    assert cache.find(KEY) is None
    store(cache)
    entry = StepCache(tmp_path).find(KEY)
    assert entry is not None
    assert (entry.folder / "model.onnx").read_text() == "content"
    assert (entry.result, entry.seconds) == ({"nodes": 3}, 1.5)


@pytest.mark.parametrize("damage", ["change", "delete", "record"])
def test_a_damaged_entry_is_absent(tmp_path, damage):
    """An entry whose file was changed or is gone, or whose record is torn, is dropped and made again."""
    cache = StepCache(tmp_path)
    store(cache)
    entry = cache.find(KEY)
    assert entry is not None
    file = entry.folder / "model.onnx"
    if damage == "change":
        file.write_text("CONTENT")
    elif damage == "delete":
        file.unlink()
    else:
        (entry.folder.parent / "step.json").write_text("{")
    assert cache.find(KEY) is None
    store(cache)
    assert cache.find(KEY) is not None


def test_who_looks_for_what_is_just_being_stored_removes_nothing(tmp_path):
    """Several processes use one cache: each entry that one stores is there afterwards, however others look for it."""
    cache, keys, done = StepCache(tmp_path), [f"{place:02x}" + "0" * 62 for place in range(100)], threading.Event()
    wanted = [keys[0]]

    def look() -> None:
        while not done.is_set():
            cache.find(wanted[0])

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for key in keys:
            wanted[0] = key
            store(cache, key=key)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert all(cache.find(key) for key in keys)


def test_the_first_of_two_equal_results_stays(tmp_path):
    """Storing a key that another process stored meanwhile keeps the entry that is there."""
    cache = StepCache(tmp_path)
    store(cache, "first")
    store(cache, "second")
    entry = cache.find(KEY)
    assert entry is not None
    assert (entry.folder / "model.onnx").read_text() == "first"


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path):
    """A workspace of a process that was killed goes when the cache is next used; one in use does not."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    StepCache(tmp_path)
    (tmp_path / "work" / f"{dead.pid}-left").mkdir()
    with StepCache(tmp_path).workspace() as workspace:
        StepCache(tmp_path)
        assert [path.name for path in (tmp_path / "work").iterdir()] == [workspace.name]


@pytest.mark.parametrize(
    "change",
    [
        {"action": "m:g"},
        {"inputs": {"a": "2"}},
        {"inputs": {"b": "1"}},
        {"params": {"p": 2}},
        {"versions": {"numpy": "2"}},
    ],
)
def test_a_key_changes_with_everything_that_decides_the_result(change):
    """Another action, input, parameter or version is another step."""
    assert step_key(**PARTS) != step_key(**{**PARTS, **change})
    assert step_key(**PARTS) == step_key(**PARTS)
