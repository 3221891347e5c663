"""Content-addressed results of steps: a killed conversion resumes, a repeated one is instant.

An entry is a folder named by the hash of everything that determines it. It appears by one rename, so it is whole or
absent; every read compares the hashes of its files, so a damaged entry is made again instead of being believed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk_converters.data.npz import file_sha256

_RECORD = "step.json"
_FILES = "files"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished step.

    Attributes:
        folder: Where its files are.
        hashes: SHA-256 by file name.
        result: What the action answered.
        seconds: How long the action took when it ran.
    """

    folder: Path
    hashes: dict[str, str]
    result: Any
    seconds: float


def default_cache_dir() -> Path:
    """Return ``$XDG_CACHE_HOME/edgesdk`` (``~/.cache/edgesdk``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgesdk"


def step_key(action: str, inputs: dict[str, str], params: dict[str, Any], versions: dict[str, str]) -> str:
    """Return the identity of a step: the hash of its action, the hashes of its inputs, its parameters and versions."""
    parts = {"action": action, "inputs": inputs, "params": params, "versions": versions}
    return sha256_hex(canonical_json(parts))


class StepCache:
    """Results of steps under one folder `root`; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root = root.absolute()  # vendors' tools run in folders of their own
        self._steps = root / "steps"
        self._work = root / "work"
        for folder in (self._steps, self._work):
            folder.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def find(self, key: str) -> Entry | None:
        """Return the entry of a key; None if there is none or its files are not what was stored."""
        folder = self._folder(key)
        if not folder.exists():  # what another process stores from now on is whole, and not ours to remove
            return None
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            hashes: dict[str, str] = record["files"]
            whole = all(file_sha256(folder / _FILES / name) == digest for name, digest in hashes.items())
        except (OSError, ValueError, KeyError):
            whole = False
        if not whole:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return Entry(folder=folder / _FILES, hashes=hashes, result=record["result"], seconds=record["seconds"])

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give a private folder that is gone afterwards, also after a kill: the next user sweeps it."""
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store(self, key: str, files: Path, result: Any, seconds: float) -> Entry:
        """Make the folder `files` (of a workspace) the entry of `key`, by one rename."""
        hashes = {path.name: file_sha256(path) for path in sorted(files.iterdir())}
        record = {"files": hashes, "result": result, "seconds": seconds}
        with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=self._work) as temporary:
            staged = Path(temporary) / "entry"
            staged.mkdir()
            files.rename(staged / _FILES)
            (staged / _RECORD).write_bytes(canonical_json(record))
            self._folder(key).parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError, OSError):  # another process was as fast: its result is the same
                staged.rename(self._folder(key))
        entry = self.find(key)
        assert entry is not None, "a stored step must be found"
        return entry

    def _folder(self, key: str) -> Path:
        return self._steps / key[:2] / key

    def _sweep(self) -> None:
        for left in self._work.iterdir():
            pid = left.name.partition("-")[0]
            if pid.isdigit() and not Path("/proc", pid).exists():
                shutil.rmtree(left, ignore_errors=True)
