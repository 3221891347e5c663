"""`prune` and `distill`: from words to a smaller ``.keras`` and its report. TensorFlow stays in a child."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.canonical import canonical_json
from edgesdk.errors import ConfigError
from edgesdk_converters.compress.lineage import report_beside
from edgesdk_converters.compress.words import Distil, Prune, check
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import file_sha256
from edgesdk_converters.data.tables import check_columns
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.cache import Entry, StepCache, default_cache_dir, step_key
from edgesdk_converters.running.isolation import Task, run_child
from edgesdk_converters.running.steps import versions_of
from edgesdk_converters.sources.keras import check_tensorflow

REPORT_SCHEMA = "edge.compression/1"
TOOLS = ("keras", "tensorflow-cpu", "tensorflow", "numpy")
_CODE = ("edgesdk_converters.compress", "edgesdk_converters.evaluate", "edgesdk.runtime")
_NOT_MEANT = ("timeout_s", "cache_dir", "force", "out", "model", "teacher", "student", "contract")
"""Words that do not change the result, or that are files."""
_DATA = ("data", "validation", "evaluation")
Told = Callable[[int, int, dict[str, Any]], None]
"""Called with the steps done, all steps (0 before they are known), and the figures of the last epoch."""


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A finished compression.

    Attributes:
        path: The ``.keras`` file.
        report_path: Its report.
        report: What that holds.
        cached: Whether the same was asked before, so that nothing was trained.
    """

    path: Path
    report_path: Path
    report: dict[str, Any]
    cached: bool


def run(words: Prune | Distil, told: Told | None = None) -> Compressed:
    """Prune, or distil; the model and its report appear whole or not at all.

    A run that was ended goes on after its last whole epoch when it is asked for again; a repeated one is instant.

    Raises:
        EdgeError: Whatever is wrong.
    """
    check(words)
    check_tensorflow()
    cache_dir = words.cache_dir or default_cache_dir()
    inputs = _inputs(words, cache_dir)
    hashes = {name: file_sha256(path) for name, path in inputs.items()}
    meant = {name: value for name, value in msgspec.to_builtins(words, enc_hook=str).items() if name not in _NOT_MEANT}
    for name in _DATA:
        meant.pop(name)
    action = f"edgesdk_converters.compress.actions:{'prune' if isinstance(words, Prune) else 'distil'}"
    versions = {**versions_of(TOOLS), "code": _code_digest()}
    key = step_key(action, hashes, meant, versions)
    cache = StepCache(cache_dir)
    entry = cache.find(key)
    cached = entry is not None
    if entry is None:
        task = Task(action=action, inputs=inputs, params={"words": msgspec.to_builtins(words, enc_hook=str)})
        with _room(cache_dir / "compress" / key[:32]) as room:
            entry = _train(task, room, words, told, lambda out, result, seconds: cache.store(key, out, result, seconds))
    report = _report(words, meant, hashes, versions, entry)
    return Compressed(path=words.out, report_path=_write(words.out, entry, report), report=report, cached=cached)


def _models(words: Prune | Distil) -> dict[str, Path]:
    if isinstance(words, Prune):
        return {"model": words.model}
    return {"teacher": words.teacher, "student": words.student}


def _inputs(words: Prune | Distil, cache_dir: Path) -> dict[str, Path]:
    models = _models(words)
    contract = read_contract(words.contract) if words.contract is not None else None
    check_columns(getattr(words, name) for name in _DATA)
    found = dict(models) if words.contract is None else {**models, "contract": words.contract}
    for name in _DATA:
        path: Path | None = getattr(words, name)
        if path is None:
            continue
        if contract is None and path.suffix != ".npz":
            hint = "Give --contract, or an .npz whose arrays are what the model itself takes."
            raise ConfigError("argument-invalid", f"{path} cannot be read without a contract", hint=hint)
        found[name] = as_npz(path, contract, cache_dir / "data") if contract is not None else path
        if not found[name].is_file():
            raise ConfigError("file-missing", f"no data file {path}")
    return found


def _train(
    task: Task, room: Path, words: Prune | Distil, told: Told | None, store: Callable[[Path, Any, float], Entry]
) -> Entry:
    if told is not None:
        told(0, 0, {})
    notes, out = room / "notes.json", room / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    places = {"checkpoint": str(room / "checkpoint"), "scratch": str(room / "scratch"), "notes": str(notes)}
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        if told is not None:
            told(done, total, _last(notes))

    result = run_child(
        Task(action=task.action, inputs=task.inputs, params={**task.params, **places}),
        out,
        log=room / "log.txt",
        timeout_s=words.timeout_s,
        on_progress=progress,
    )
    entry = store(out, result, round(time.monotonic() - started, 3))
    shutil.rmtree(room, ignore_errors=True)
    return entry


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """Give the folder of one training, in which nobody else is.

    Raises:
        ConfigError: ``compression-running``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError("compression-running", "another process does this very training") from None
        folder.mkdir(exist_ok=True)  # who held the lock before may have removed it
        yield folder


@functools.cache
def _code_digest() -> str:
    """Return a hash of our own code: while it is being changed, its version is not."""
    digest = hashlib.sha256()
    for package in _CODE:
        for source in sorted(files(package).iterdir(), key=lambda entry: entry.name):
            if source.name.endswith(".py"):
                digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def _last(notes: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(notes.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _report(
    words: Prune | Distil, meant: dict[str, Any], hashes: dict[str, str], versions: dict[str, str], entry: Entry
) -> dict[str, Any]:
    (digest,) = entry.hashes.values()
    sources = _models(words)
    return {
        "schema": REPORT_SCHEMA,
        "command": "prune" if isinstance(words, Prune) else "distill",
        "words": meant,
        "sha256": digest,
        "size": (entry.folder / next(iter(entry.hashes))).stat().st_size,
        "source_size": next(iter(sources.values())).stat().st_size,
        **entry.result,
        "seconds": entry.seconds,
        "lineage": {
            "sources": {name: {"file": path.name, "sha256": hashes[name]} for name, path in sources.items()},
            "contract": hashes.get("contract"),
            "data": {name: hashes[name] for name in _DATA if name in hashes},
            "tools": {name: version for name, version in versions.items() if version != "none"},
        },
    }


def _write(out: Path, entry: Entry, report: dict[str, Any]) -> Path:
    (name,) = entry.hashes
    beside = report_beside(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_bytes(canonical_json(report))
    partial.replace(beside)
    shutil.copyfile(entry.folder / name, partial)
    partial.replace(out)
    return beside
