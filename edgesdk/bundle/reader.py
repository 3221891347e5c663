"""Read bundles: only the one canonical encoding is accepted.

`open_bundle` checks the manifest and every header; every file's SHA-256 is checked whenever that file is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from edgesdk.bundle.decode import decode_manifest
from edgesdk.bundle.layout import (
    END_BYTES,
    MANIFEST_NAME,
    MAX_BUNDLE_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_ENTRIES,
    MAX_MANIFEST_BYTES,
    Entry,
    Layout,
    Placed,
    parse_directory,
    parse_end,
    place_entries,
    role_alignment,
)
from edgesdk.bundle.manifest import FileEntry, Manifest
from edgesdk.durable import sync_folder, write_new
from edgesdk.errors import ConfigError, DeploymentError, ReleaseError

CHUNK = 1 << 20
MAX_READ_BYTES = 1 << 30


class Listing(Protocol):
    """What every archive's `manifest.json` says: its other files."""

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All files but the manifest."""
        ...


L = TypeVar("L", bound=Listing)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and check its manifest and every header byte; contents are checked when they are read.

    Raises:
        ConfigError: ``file-missing``.
        ReleaseError: ``bundle-*`` or ``manifest-*``: what is wrong with the file.
    """
    return Bundle(path, decode_manifest)


class Archive(Generic[L]):
    """An open archive in the one layout. Use it as a context manager; it owns the file handle.

    Args:
        path: The file.
        decode: Decodes and checks its `manifest.json`.

    Attributes:
        manifest: The checked manifest.
        entries: The manifest's files by path.
        size: Size of the whole file in bytes.

    Raises:
        ConfigError: ``file-missing``.
        ReleaseError: ``bundle-*`` and what `decode` raises.
    """

    def __init__(self, path: str | os.PathLike[str], decode: Callable[[bytes], L]) -> None:
        self._handle = _open(path)
        try:
            self._read_head(self._handle, decode)
        except BaseException:
            self.close()
            raise

    def _read_head(self, handle: int, decode: Callable[[bytes], L]) -> None:
        self.size = _bundle_size(handle)
        self.manifest, plan = _read_plan(handle, self.size, decode)
        self.entries: dict[str, FileEntry] = {file.path: file for file in self.manifest.files}
        self._placed = {place.entry.name: place for place in plan.placed}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in _chunks(self._handle, 0, self.size):
            digest.update(chunk)
        return digest.hexdigest()

    def read(self, name: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """Return the contents of one file of the manifest, checked against its hash.

        Raises:
            ReleaseError: ``manifest-invalid`` for a name that is not listed; ``bundle-limit`` when it is larger than
                `max_bytes`; ``bundle-hash`` or ``bundle-truncated``.
        """
        entry = self._entry(name)
        if entry.size > max_bytes:
            raise ReleaseError("bundle-limit", f"{name!r} has {entry.size} bytes; {max_bytes} is the most here")
        return b"".join(self._checked(entry))

    def verify(self) -> None:
        """Check the contents of every file (the layout was checked on opening).

        Raises:
            ReleaseError: ``bundle-hash`` or ``bundle-truncated``, for the first file that is wrong.
        """
        for entry in self.manifest.files:
            for _chunk in self._checked(entry):
                pass

    def extract(self, destination: Path) -> None:
        """Unpack into the empty (or new) folder `destination`, `manifest.json` included.

        Every file (mode 0444) and every folder, `destination` included, is fsynced; making the folders read-only and
        syncing the parent of `destination` is the caller's.

        Raises:
            ConfigError: ``file-exists`` if the folder is not empty.
            DeploymentError: ``disk-full``.
            ReleaseError: ``bundle-hash`` or ``bundle-truncated``; what was unpacked so far stays there.
        """
        destination.mkdir(exist_ok=True)
        if any(destination.iterdir()):
            raise ConfigError("file-exists", f"{destination} is not empty")
        try:
            self._extract(destination)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DeploymentError("disk-full", f"no space to unpack {self.size} bytes in {destination}") from error
            raise

    def _extract(self, destination: Path) -> None:
        folders = {destination}
        manifest = self._placed[MANIFEST_NAME]
        write_new(destination / MANIFEST_NAME, _chunks(self._handle, manifest.data_offset, manifest.entry.size))
        for entry in self.manifest.files:
            target = destination / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.update(parent for parent in target.parents if parent.is_relative_to(destination))
            write_new(target, self._checked(entry))
        for folder in sorted(folders, reverse=True):
            sync_folder(folder)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the contents of one file; the last chunk is followed by an error if they differ from its hash.

        Raises:
            ReleaseError: ``manifest-invalid`` for a name that is not listed; ``bundle-hash`` or ``bundle-truncated``.
        """
        return self._checked(self._entry(name))

    def _entry(self, name: str) -> FileEntry:
        entry = self.entries.get(name)
        if entry is None:
            raise ReleaseError("manifest-invalid", f"the bundle has no file {name!r}")
        return entry

    def _checked(self, entry: FileEntry) -> Iterator[bytes]:
        place = self._placed[entry.path]
        digest, crc = hashlib.sha256(), 0
        for chunk in _chunks(self._handle, place.data_offset, entry.size):
            digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if digest.hexdigest() != entry.sha256:
            message = f"{entry.path!r} has SHA-256 {digest.hexdigest()}, expected {entry.sha256}"
            raise ReleaseError("bundle-hash", message)
        if crc != place.entry.crc:
            raise ReleaseError("bundle-not-canonical", f"{entry.path!r} has another CRC-32 than its header says")


class Bundle(Archive[Manifest]):
    """An open bundle; see `Archive`."""


def _open(path: str | os.PathLike[str]) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError("file-missing", f"there is no file {os.fspath(path)}") from error
    except OSError as error:
        raise ReleaseError("bundle-not-a-bundle", f"{os.fspath(path)} cannot be opened: {error.strerror}") from error


def _bundle_size(handle: int) -> int:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise ReleaseError("bundle-not-a-bundle", "the bundle is not a regular file")
    if status.st_size > MAX_BUNDLE_BYTES:
        raise ReleaseError("bundle-limit", f"the file has {status.st_size} bytes; {MAX_BUNDLE_BYTES} is the most")
    return status.st_size


def _read_plan(handle: int, size: int, decode: Callable[[bytes], L]) -> tuple[L, Layout]:
    """Read the names, sizes and checksums, compute the layout they give, and compare it with the file."""
    found = _read_directory(handle, size)
    manifest = decode(_read_manifest(handle, *found[0]))
    listed = {file.path: file for file in manifest.files}
    expected = [MANIFEST_NAME, *sorted(listed)]
    if [name for name, _size, _crc in found] != expected:
        raise ReleaseError("bundle-not-canonical", "the archive's names are not those of the manifest, in their order")
    for name, length, _crc in found[1:]:
        if length != listed[name].size:
            raise ReleaseError("bundle-hash", f"{name!r} has {length} bytes, expected {listed[name].size}")
    plan = place_entries([Entry(name, length, crc, role_alignment(listed.get(name))) for name, length, crc in found])
    if plan.size != size:
        raise ReleaseError("bundle-not-canonical", f"the file has {size} bytes, its layout gives {plan.size}")
    for place in plan.placed:
        _compare(handle, place.offset, place.header, f"the header of {place.entry.name!r}")
    _compare(handle, plan.tail_offset, plan.tail, "the directory")
    return manifest, plan


def _read_directory(handle: int, size: int) -> list[tuple[str, int, int]]:
    start = _read_exactly(handle, 0, min(4, size))
    if start != b"PK\3\4":
        raise ReleaseError("bundle-not-a-bundle", f"the file begins with {start!r}, expected b'PK\\x03\\x04'")
    try:
        count, length, offset = parse_end(_read_exactly(handle, max(0, size - END_BYTES), min(size, END_BYTES)))
    except ValueError as error:
        raise ReleaseError("bundle-truncated", f"{error} (or bytes were appended)") from error
    if count > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        message = f"the directory has {count} entries in {length} bytes; the most is {MAX_ENTRIES}"
        raise ReleaseError("bundle-limit", f"{message} in {MAX_DIRECTORY_BYTES}")
    if offset + length + END_BYTES != size or count == 0:
        raise ReleaseError("bundle-not-canonical", f"a directory of {length} bytes at {offset} in a file of {size}")
    try:
        return parse_directory(_read_exactly(handle, offset, length), count)
    except ValueError as error:  # UnicodeDecodeError is one
        raise ReleaseError("bundle-not-canonical", str(error)) from error


def _read_manifest(handle: int, name: str, length: int, crc: int) -> bytes:
    if name != MANIFEST_NAME:
        raise ReleaseError("bundle-not-canonical", f"the first entry is {name!r}, expected {MANIFEST_NAME!r}")
    if length > MAX_MANIFEST_BYTES:
        raise ReleaseError("bundle-limit", f"the manifest has {length} bytes; {MAX_MANIFEST_BYTES} is the most")
    place: Placed = place_entries([Entry(name, length, crc)]).placed[0]
    _compare(handle, place.offset, place.header, f"the header of {name!r}")
    data = _read_exactly(handle, place.data_offset, length)
    if zlib.crc32(data) != crc:
        raise ReleaseError("bundle-hash", "the manifest has another CRC-32 than its header says")
    return data


def _compare(handle: int, offset: int, expected: bytes, what: str) -> None:
    if _read_exactly(handle, offset, len(expected)) != expected:
        raise ReleaseError("bundle-not-canonical", f"{what} at byte {offset} is not as a bundle has it")


def _read_exactly(handle: int, offset: int, length: int) -> bytes:
    return b"".join(_chunks(handle, offset, length))


def _chunks(handle: int, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        chunk = os.pread(handle, min(CHUNK, end - offset), offset)
        if not chunk:
            raise ReleaseError("bundle-truncated", f"the file ends at byte {offset}, expected {end} or more")
        offset += len(chunk)
        yield chunk
