"""The model of the file system promises what POSIX promises, and not more."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest
from crash.filesystem import FileSystem, Keep, digest, materialise, reachable
from crash.shim import CREATED, Call

ROOT = Path("/agent")


class Log:
    """Makes calls as the shim would log them, on a system with the empty folders `a` and `b`."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "root" / "a").mkdir(parents=True)
        (tmp_path / "root" / "b").mkdir()
        self.root = tmp_path / "root"
        self.system = FileSystem.load(self.root)
        self.inode = 10**9
        self.inodes = {path: (self.root / path).stat().st_ino for path in ("a", "b", "")}

    def call(self, op: str, path: str, other: str = "", *, error: int = 0, **what: int | bytes) -> None:
        if op in {"open", "mkdir"}:
            self.inode += 1
            self.inodes[path] = self.inode
            kind = stat.S_IFDIR if op == "mkdir" else stat.S_IFREG
            what |= {"mode": kind | 0o644, "flags": CREATED if op == "open" else 0}
        values = {"number": 0, "flags": 0, "mode": 0, "offset": 0, "size": 0, "data": b"", **what}
        inode = self.inodes.get(path, 0)
        where = [str(self.root / each) if each else "" for each in (path, other)]
        path, other = where[0] or str(self.root), where[1]
        self.system.apply(Call(op=op, error=error, inode=inode, path=path, other=other, **values))

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        self.call("write", path, data=data, offset=offset)

    def left(self, *, kept: bool = False) -> dict[str, bytes | None]:
        """What is found after a power cut that kept nothing (everything) that was not synced."""
        every = frozenset(change.serial for change in self.system.pending)
        nodes = self.system.after(Keep("", every if kept else frozenset()))
        return {path: None if nodes[n].names is not None else nodes[n].data for path, n in reachable(nodes)}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_synced_file_without_its_name(log: Log) -> None:
    """An fsync of a new file does not make its name durable; fsync of the folder does not make its data durable."""
    log.call("open", "a/new")
    log.write("a/new", b"data")
    log.call("fsync", "a/new")
    assert log.left() == {"a": None, "b": None}
    log.call("fsync", "a")
    assert log.left() == {"a": None, "a/new": b"data", "b": None}


def test_a_call_that_a_kill_prevented_did_nothing(log: Log) -> None:
    """A sync before which the process was killed has not failed: the next one makes the data durable."""
    log.call("open", "a/new")
    log.write("a/new", b"data")
    log.call("fsync", "a/new", error=errno.EINTR)
    log.call("fsync", "a/new")
    log.call("fsync", "a")
    assert log.left() == {"a": None, "a/new": b"data", "b": None}


def test_names_are_a_folders_data(log: Log) -> None:
    """An fdatasync of a folder makes its names durable, as SQLite relies on; of a file it makes no name durable."""
    log.call("open", "a/new")
    log.write("a/new", b"data")
    log.call("fdatasync", "a/new")
    assert log.left() == {"a": None, "b": None}
    log.call("fdatasync", "a")
    assert log.left() == {"a": None, "a/new": b"data", "b": None}
    log.call("unlink", "a/new")
    assert log.left() == {"a": None, "a/new": b"data", "b": None}
    log.call("fdatasync", "a")
    assert log.left() == {"a": None, "b": None}


def test_a_name_without_data(log: Log) -> None:
    """The folder alone: the classic empty file after a rename."""
    log.call("open", "a/new")
    log.write("a/new", b"data")
    log.call("rename", "a/new", "b/file")
    log.call("fsync", "b")
    assert log.left() == {"a": None, "b": None, "b/file": b""}
    assert log.left(kept=True)["b/file"] == b"data"


def test_one_rename_is_atomic_and_two_are_not_ordered(log: Log) -> None:
    """A file is at its old place or its new one; of two renames the second may be there without the first."""
    for name in ("one", "two"):
        log.call("open", f"a/{name}")
    log.call("fsync", "a")
    for name in ("one", "two"):
        log.call("rename", f"a/{name}", f"b/{name}")
    found = set()
    for keep in log.system.outcomes():
        paths = {path for path, _ in reachable(log.system.after(keep))}
        assert len(paths & {"a/two", "b/two"}) == 1
        found.add(frozenset(paths & {"b/one", "b/two"}))
    assert frozenset({"b/two"}) in found


def test_a_failed_sync_is_not_made_good_by_the_next(log: Log) -> None:
    """After EIO of fsync the data stays in doubt though a later fsync succeeds, until the page is written again."""
    log.call("open", "a/f")
    log.call("fsync", "a")
    log.write("a/f", b"lost")
    log.call("fsync", "a/f", error=5)
    log.call("fsync", "a/f")
    assert log.left()["a/f"] == b""
    log.write("a/f", b"more", 4)
    log.call("fsync", "a/f")
    assert log.left()["a/f"] == b"lostmore"
    assert log.left(kept=True)["a/f"] == b"lostmore"


def test_torn_writes_and_lengths_without_bytes(log: Log) -> None:
    """A write may arrive in part, and a file may have its length but zeros for bytes."""
    log.call("open", "a/f")
    log.call("fsync", "a")
    log.write("a/f", b"abcdef")
    contents = set()
    for keep in log.system.outcomes():
        nodes = log.system.after(keep)
        contents |= {nodes[number].data for path, number in reachable(nodes) if path == "a/f"}
    assert contents == {b"", b"abc", b"\0\0\0def", b"abcdef", bytes(6)}


def test_what_is_written_down_is_what_was_meant(log: Log, tmp_path: Path) -> None:
    """A state on disk is the state of the model: links, modes and contents."""
    log.call("open", "a/f")
    log.write("a/f", b"x")
    log.call("link", "a/f", "b/g")
    log.call("chmod", "a/f", mode=0o444)
    nodes = log.system.after(log.system.outcomes()[1])
    materialise(nodes, tmp_path / "copy")
    assert (tmp_path / "copy/a/f").samefile(tmp_path / "copy/b/g")
    copied = FileSystem.load(tmp_path / "copy")
    assert digest(copied.after(Keep("", frozenset()))) == digest(nodes)
