"""A file system as a power cut sees it: what is durable, and what was done since but never synced.

Only what POSIX promises is promised here: ``fsync`` of a file makes its data, size and mode durable, not its name;
``fsync`` of a folder makes its names durable, not their contents; one rename is atomic; everything else may have
reached the disk or not, in any order. A failed ``fsync`` leaves its data in doubt for ever, a later one that succeeds
does not help (Linux marks the pages clean), only writing to the same pages again does. SQLite's ``-shm`` files are
mapped memory: their contents are never durable.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from crash.shim import CREATED, TRUNCATED, Call

GARBAGE = b"\xa5"
PAGE, SECTOR = 4096, 512


@dataclass(slots=True)
class Node:
    """A file or folder: its durable state. `names` is None for a file."""

    data: bytes = b""
    mode: int = 0
    names: dict[str, int] | None = None
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was done and not synced yet.

    Attributes:
        kind: ``data``, ``mode`` or ``names``.
        node: The file or folder that it changes (the target folder of a rename).
        offset: Where `data` goes; None: `size` is set.
        puts: Names set: (folder, name, node).
        takes: Names removed, if they lead to that node: (folder, name, node).
        doomed: A sync of it failed: no later sync makes it durable.
    """

    serial: int
    kind: str
    node: int
    data: bytes = b""
    offset: int | None = None
    size: int = 0
    mode: int = 0
    puts: tuple[tuple[int, str, int], ...] = ()
    takes: tuple[tuple[int, str, int], ...] = ()
    doomed: bool = False

    def continued_by(self, node: int, offset: int | None) -> bool:
        """Whether a write there lies in the same sector: such writes reach the disk as one."""
        whole = self.kind == "data" and self.node == node and not self.doomed and self.offset is not None
        return whole and len(self.data) < SECTOR and offset == (self.offset or 0) + len(self.data)

    def pages(self) -> list[tuple[int | None, bytes]]:
        """Return (offset, bytes) of the pages that a write touches; a truncation is one."""
        if self.offset is None:
            return [(None, b"")]
        end = self.offset + len(self.data)
        cuts = [self.offset, *range(self.offset - self.offset % PAGE + PAGE, end, PAGE), end]
        return [(start, self.data[start - self.offset : stop - self.offset]) for start, stop in pairwise(cuts)]

    def overtaken_by(self, later: Change) -> bool:
        """Whether a doomed page is in doubt no more: all of it was written again, and synced."""
        if not self.doomed or later.kind != "data" or later.node != self.node or self.offset is None:
            return False
        if later.offset is None:
            return self.offset >= later.size
        return later.offset // PAGE <= self.offset // PAGE <= (later.offset + len(later.data) - 1) // PAGE

    @property
    def folders(self) -> set[int]:
        """The folders whose sync makes it durable."""
        return {folder for folder, _, _ in (*self.puts, *self.takes)}


@dataclass(frozen=True, slots=True)
class Keep:
    """One way in which a power cut may turn out: the serials of the changes that reached the disk; how data is torn.

    `torn` names a write of which only a part arrived (``head`` or ``tail``), or all writes: their length but not
    their bytes (``zeros``).
    """

    name: str
    serials: frozenset[int]
    torn: tuple[int, str] | None = None
    zeros: bool = False


@dataclass(slots=True)
class FileSystem:
    """The state of one folder while a log is replayed."""

    nodes: dict[int, Node] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)
    root: Path = Path()
    _ids: dict[int, int] = field(default_factory=dict)
    _now: dict[int, dict[str, int]] = field(default_factory=dict)
    _serial: int = 0

    @classmethod
    def load(cls, root: Path) -> FileSystem:
        """Take a folder as it lies on disk as durable."""
        system = cls(root=root)
        system._load(root)
        return system

    def _load(self, path: Path) -> int:
        status = path.lstat()
        if status.st_ino in self._ids:
            return self._ids[status.st_ino]
        node = self._add(status.st_ino, status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            self.nodes[node].names = {child.name: self._load(child) for child in sorted(path.iterdir())}
            self._now[node] = dict(self.nodes[node].names or {})
        else:
            self.nodes[node].data = path.read_bytes()
            self.nodes[node].volatile = path.name.endswith("-shm")
        return node

    def _add(self, inode: int, mode: int) -> int:
        node = len(self.nodes)
        self._ids[inode] = node
        self.nodes[node] = Node(mode=stat.S_IMODE(mode), names={} if stat.S_ISDIR(mode) else None)
        if stat.S_ISDIR(mode):
            self._now[node] = {}
        return node

    # ---- replaying ----------------------------------------------------------------------------------------------

    def apply(self, call: Call) -> None:
        """Do what a logged call did; one before which the process was killed did nothing."""
        if call.op == "note" or call.error == errno.EINTR:
            return
        if call.error:
            if call.op in {"fsync", "fdatasync"} and call.inode in self._ids:
                self._doom(self._ids[call.inode])
            return
        getattr(self, f"_{call.op}")(call)

    def _place(self, path: str) -> tuple[int, str]:
        """Return the folder (as it is now) and the name of a path."""
        *folders, name = Path(path).relative_to(self.root).parts
        node = 0
        for folder in folders:
            node = self._now[node][folder]
        return node, name

    def _change(self, kind: str, node: int, **what: Any) -> None:
        self._serial += 1
        self.pending.append(Change(serial=self._serial, kind=kind, node=node, **what))

    def _data(self, node: int, *, data: bytes = b"", offset: int | None = None, size: int = 0) -> None:
        if self.nodes[node].volatile:
            change = Change(serial=0, kind="data", node=node, data=data, offset=offset, size=size)
            self.nodes[node].data = written(self.nodes[node].data, change)
            return
        if offset is not None and any(change.doomed and change.node == node for change in self.pending):
            data, offset = self._whole_pages(node, data, offset)
        last = self.pending[-1] if self.pending else None
        if last and last.continued_by(node, offset):
            self.pending.pop()
            data, offset = last.data + data, last.offset
        self._change("data", node, data=data, offset=offset, size=size)

    def _whole_pages(self, node: int, data: bytes, offset: int) -> tuple[bytes, int]:
        """Return what becomes dirty by a write: whole pages, with what a failed sync left clean in them."""
        now = self.nodes[node].data
        for change in self.pending:
            if change.node == node and change.kind == "data":
                now = written(now, change)
        end = offset + len(data)
        first, last = offset - offset % PAGE, end + -end % PAGE
        now = written(now, Change(serial=0, kind="data", node=node, data=data, offset=offset))
        return now[first:last], first

    def _put(self, path: str, node: int) -> None:
        folder, name = self._place(path)
        self._now[folder][name] = node
        self._change("names", folder, puts=((folder, name, node),))

    def _open(self, call: Call) -> None:
        if call.flags & CREATED:
            node = self._add(call.inode, call.mode)
            self.nodes[node].volatile = call.path.endswith("-shm")
            self._put(call.path, node)
        elif call.flags & TRUNCATED:
            self._data(self._ids[call.inode])

    def _mkdir(self, call: Call) -> None:
        self._put(call.path, self._add(call.inode, call.mode))

    def _write(self, call: Call) -> None:
        self._data(self._ids[call.inode], data=call.data, offset=call.offset)

    def _ftruncate(self, call: Call) -> None:
        self._data(self._ids[call.inode], size=call.size)

    def _fallocate(self, call: Call) -> None:
        self._data(self._ids[call.inode], data=bytes(call.size), offset=call.offset)

    def _chmod(self, call: Call) -> None:
        self._change("mode", self._ids[call.inode], mode=stat.S_IMODE(call.mode))

    def _link(self, call: Call) -> None:
        self._put(call.other, self._ids[call.inode])

    def _unlink(self, call: Call) -> None:
        folder, name = self._place(call.path)
        self._change("names", folder, takes=((folder, name, self._now[folder].pop(name)),))

    _rmdir = _unlink

    def _rename(self, call: Call) -> None:
        source, old = self._place(call.path)
        target, new = self._place(call.other)
        node = self._now[source].pop(old)
        self._now[target][new] = node
        self._change("names", target, puts=((target, new, node),), takes=((source, old, node),))

    def _fsync(self, call: Call) -> None:
        node = self._ids[call.inode]
        if self.nodes[node].names is None:
            self._settle({change.serial for change in self.pending if change.node == node})
        else:
            self._settle(self._names_of(node))

    def _fdatasync(self, call: Call) -> None:
        node = self._ids[call.inode]
        if self.nodes[node].names is None:
            self._settle({change.serial for change in self.pending if change.node == node and change.kind == "data"})
        else:  # names are a folder's data: SQLite syncs folders so
            self._settle(self._names_of(node, mode=False))

    def _names_of(self, folder: int, *, mode: bool = True) -> set[int]:
        """Return what a sync of a folder settles: its names and mode, and what is older on the same names elsewhere."""
        chosen: set[int] = set()
        places: set[tuple[int, str]] = set()
        for change in reversed(self.pending):
            touched = {(where, name) for where, name, _ in (*change.puts, *change.takes)}
            own_mode = mode and change.kind == "mode" and change.node == folder
            if own_mode or folder in change.folders or touched & places:
                chosen.add(change.serial)
                places |= touched
        return chosen

    def _settle(self, serials: set[int]) -> None:
        """Make changes durable, in their order."""
        left: list[Change] = []
        for change in self.pending:
            if change.serial in serials and not change.doomed:
                _do(self.nodes, change)
                left = [each for each in left if not each.overtaken_by(change)]
            else:
                left.append(change)
        self.pending = left

    def _doom(self, node: int) -> None:
        """Leave the data of a file in doubt, page by page."""
        if self.nodes[node].names is not None:
            return
        pending, self.pending = self.pending, []
        for change in pending:
            if change.node != node or change.kind != "data" or change.doomed:
                self.pending.append(change)
                continue
            for offset, data in change.pages():
                self._change("data", node, data=data, offset=offset, size=change.size, doomed=True)

    # ---- what a power cut leaves --------------------------------------------------------------------------------

    def outcomes(self) -> list[Keep]:
        """Return the ways in which a power cut may turn out now; see `README.md` for their names."""
        changes = self.pending
        every = frozenset(change.serial for change in changes)
        names = frozenset(change.serial for change in changes if change.kind == "names")
        data = frozenset(change.serial for change in changes if change.kind == "data")
        ways = [Keep("nothing kept", frozenset()), Keep("everything kept", every)]
        if not changes:
            return ways[:1]
        ways += [Keep("names kept, data lost", every - data), Keep("data kept, names lost", every - names)]
        ways += [Keep("lengths kept, bytes zero", every, zeros=True)] if data else []
        ways += [Keep("one lost", every - {change.serial}) for change in changes]
        ways += [Keep("one kept", frozenset({change.serial})) for change in changes]
        ways += [Keep("in order up to one", frozenset(sorted(every)[:count])) for count in range(1, len(changes))]
        for change in changes:
            if change.kind == "data" and len(change.data) > 1:
                ways += [Keep("torn", every, (change.serial, part)) for part in ("head", "tail")]
        return ways

    def after(self, keep: Keep) -> dict[int, Node]:
        """Return the nodes as they are found after a power cut that turned out so."""
        nodes = {
            number: Node(node.data, node.mode, None if node.names is None else dict(node.names), node.volatile)
            for number, node in self.nodes.items()
        }
        for change in self.pending:
            if change.serial in keep.serials:
                _do(nodes, _part_of(change, keep))
        return nodes


def _fields(change: Change) -> dict[str, Any]:
    return {name: getattr(change, name) for name in Change.__slots__}


def _part_of(change: Change, keep: Keep) -> Change:
    """Return what of a write reached the disk."""
    data = change.data
    if keep.zeros and change.kind == "data":
        data = bytes(len(data))
    elif keep.torn and keep.torn[0] == change.serial:
        half = len(data) // 2
        data = data[:half] if keep.torn[1] == "head" else bytes(half) + data[half:]
    return change if data is change.data else Change(**{**_fields(change), "data": data})


def written(data: bytes, change: Change) -> bytes:
    """Return a file's bytes after a write or a truncation."""
    if change.offset is None:
        return data[: change.size].ljust(change.size, b"\0")
    data = data.ljust(change.offset, b"\0")
    return data[: change.offset] + change.data + data[change.offset + len(change.data) :]


def _do(nodes: dict[int, Node], change: Change) -> None:
    node = nodes[change.node]
    if change.kind == "data":
        node.data = written(node.data, change)
    elif change.kind == "mode":
        node.mode = change.mode
    for folder, name, target in change.takes:
        names = nodes[folder].names or {}
        if names.get(name) == target:
            del names[name]
    for folder, name, target in change.puts:
        there = nodes[folder].names
        assert there is not None
        there[name] = target


def reachable(nodes: dict[int, Node], number: int = 0, path: str = "") -> Iterable[tuple[str, int]]:
    """Yield (path, node) of everything below a folder, folders before what is in them."""
    for name, child in sorted((nodes[number].names or {}).items()):
        yield f"{path}{name}", child
        if nodes[child].names is not None:
            yield from reachable(nodes, child, f"{path}{name}/")


def digest(nodes: dict[int, Node], known: Mapping[str, bytes] | None = None) -> str:
    """Return a mark of what a reader of the whole folder would see; of `known` paths the contents are given."""
    total = hashlib.sha256()
    for path, number in reachable(nodes):
        node = nodes[number]
        kind = "folder" if node.names is not None else "file"
        content = known[path] if known and path in known else b"" if node.volatile else _content(node.data)
        total.update(f"{path}\0{kind}\0{node.mode:o}\0".encode() + content)
    return total.hexdigest()


@lru_cache(maxsize=4096)
def _content(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def materialise(nodes: dict[int, Node], root: Path) -> None:
    """Write the nodes into the new folder `root`; hard links stay links, volatile files are filled with garbage."""
    root.mkdir()
    made: dict[int, Path] = {}
    folders = []
    for path, number in reachable(nodes):
        node, place = nodes[number], root / path
        if node.names is not None:
            place.mkdir()
            folders.append((place, node.mode))
        elif number in made:
            os.link(made[number], place)
        else:
            made[number] = place
            _write_file(place, node)
    for place, mode in reversed(folders):
        place.chmod(mode)


def _write_file(place: Path, node: Node) -> None:
    with place.open("wb") as file:
        if node.volatile:
            file.write(GARBAGE * len(node.data))
        elif node.data.strip(b"\0"):
            file.write(node.data)
        else:
            file.truncate(len(node.data))
    place.chmod(node.mode)
