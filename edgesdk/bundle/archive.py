"""Write and read bundles: the file side of `edgesdk.bundle.layout`.

`write_bundle` makes the same bytes from the same content everywhere. `open_bundle` accepts only those bytes: it checks
every header on opening, and every file's SHA-256 whenever that file is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgesdk.bundle.decode import decode_manifest, encode_manifest
from edgesdk.bundle.layout import (
    ARTIFACT_ALIGNMENT,
    END_BYTES,
    MANIFEST_NAME,
    MAX_BUNDLE_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_ENTRIES,
    MAX_MANIFEST_BYTES,
    OTHER_ALIGNMENT,
    Entry,
    Layout,
    Placed,
    layout,
    parse_directory,
    parse_end,
)
from edgesdk.bundle.manifest import FileEntry, Manifest, Role
from edgesdk.errors import ConfigError, DeploymentError, ReleaseError

CHUNK = 1 << 20
MAX_READ_BYTES = 1 << 30
_ALIGNED_ROLES = frozenset({"artifact", "external-data"})


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle that was written: its path, the SHA-256 of the whole file (hexadecimal), its size in bytes."""

    path: Path
    sha256: str
    size: int


def file_entry(path: str, source: bytes | Path, media_type: str, role: Role) -> FileEntry:
    """Describe one file for `Manifest.files`: `source` is its contents, or the file that holds them."""
    digest, size, _crc = _measure(source)
    return FileEntry(path=path, size=size, sha256=digest, media_type=media_type, role=role)


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> BundleFile:
    """Write a bundle atomically (temporary file, fsync, rename, fsync of the folder).

    Args:
        path: Where the bundle goes; an existing file is replaced.
        manifest: Its `files` must list exactly the names of `files`, in any order.
        files: Contents by bundle path, or the file that holds them.

    Returns:
        The path, hash and size of the whole file. The same content gives the same bytes.

    Raises:
        ReleaseError: ``bundle-hash`` if contents differ from the manifest; ``bundle-limit``, ``bundle-path``,
            ``manifest-*`` for what a reader would refuse.
    """
    encoded = encode_manifest(manifest)
    listed = {file.path: file for file in manifest.files}
    for name in sorted(set(listed) ^ set(files)):
        where = "the manifest" if name in listed else "the files"
        raise ReleaseError("manifest-invalid", f"{name!r} is only among {where}")
    sources: dict[str, bytes | Path] = {MANIFEST_NAME: encoded, **{name: files[name] for name in sorted(files)}}
    entries = [_entry(name, source, listed.get(name)) for name, source in sources.items()]
    plan = _plan(entries)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            digest = _write(out.write, plan, sources)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return BundleFile(path, digest, plan.size)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and check its manifest and every header byte; contents are checked when they are read.

    Raises:
        ConfigError: ``file-missing``.
        ReleaseError: ``bundle-*`` or ``manifest-*``: what is wrong with the file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError("file-missing", f"there is no file {os.fspath(path)}") from error
    except OSError as error:
        raise ReleaseError("bundle-not-a-bundle", f"{os.fspath(path)} cannot be opened: {error.strerror}") from error
    try:
        return Bundle(handle)
    except BaseException:
        os.close(handle)
        raise


class Bundle:
    """An open bundle. Use it as a context manager; it owns the file handle.

    Attributes:
        manifest: The checked manifest.
        entries: The manifest's files by path.
        size: Size of the whole file in bytes.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.size = _bundle_size(handle)
        self.manifest, plan = _read_plan(handle, self.size)
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
        _write_file(destination / MANIFEST_NAME, _chunks(self._handle, manifest.data_offset, manifest.entry.size))
        for entry in self.manifest.files:
            target = destination / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.update(parent for parent in target.parents if parent.is_relative_to(destination))
            _write_file(target, self._checked(entry))
        for folder in sorted(folders, reverse=True):
            sync_folder(folder)

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


def repack(folder: Path, path: Path) -> BundleFile:
    """Write the bundle from which `folder` was unpacked again: the same bytes.

    Raises:
        ReleaseError: As `write_bundle`, and ``bundle-hash`` if a file of the folder is missing.
    """
    try:
        manifest = decode_manifest((folder / MANIFEST_NAME).read_bytes())
        return write_bundle(path, manifest, {file.path: folder / file.path for file in manifest.files})
    except FileNotFoundError as error:
        raise ReleaseError("bundle-hash", f"{error.filename} is missing") from error


def _entry(name: str, source: bytes | Path, listed: FileEntry | None) -> Entry:
    digest, size, crc = _measure(source)
    if listed is not None and (digest, size) != (listed.sha256, listed.size):
        message = f"{name!r} has SHA-256 {digest} and {size} bytes, expected {listed.sha256} and {listed.size}"
        raise ReleaseError("bundle-hash", message)
    return Entry(name, size, crc, _alignment(listed))


def _alignment(listed: FileEntry | None) -> int:
    return ARTIFACT_ALIGNMENT if listed is not None and listed.role in _ALIGNED_ROLES else OTHER_ALIGNMENT


def _plan(entries: list[Entry]) -> Layout:
    try:
        return layout(entries)
    except ValueError as error:
        raise ReleaseError("bundle-limit", str(error)) from error


def _write(write: Callable[[bytes], object], plan: Layout, sources: Mapping[str, bytes | Path]) -> str:
    digest = hashlib.sha256()
    for place in plan.placed:
        crc = 0
        digest.update(place.header)
        write(place.header)
        for chunk in _source_chunks(sources[place.entry.name]):
            crc = zlib.crc32(chunk, crc)
            digest.update(chunk)
            write(chunk)
        if crc != place.entry.crc:
            raise ReleaseError("bundle-hash", f"{place.entry.name!r} changed while it was packed")
    digest.update(plan.tail)
    write(plan.tail)
    return digest.hexdigest()


def _measure(source: bytes | Path) -> tuple[str, int, int]:
    digest, size, crc = hashlib.sha256(), 0, 0
    for chunk in _source_chunks(source):
        digest.update(chunk)
        size += len(chunk)
        crc = zlib.crc32(chunk, crc)
    return digest.hexdigest(), size, crc


def _source_chunks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _bundle_size(handle: int) -> int:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise ReleaseError("bundle-not-a-bundle", "the bundle is not a regular file")
    if status.st_size > MAX_BUNDLE_BYTES:
        raise ReleaseError("bundle-limit", f"the file has {status.st_size} bytes; {MAX_BUNDLE_BYTES} is the most")
    return status.st_size


def _read_plan(handle: int, size: int) -> tuple[Manifest, Layout]:
    """Read the names, sizes and checksums, compute the layout they give, and compare it with the file."""
    found = _read_directory(handle, size)
    manifest = _read_manifest(handle, *found[0])
    listed = {file.path: file for file in manifest.files}
    expected = [MANIFEST_NAME, *sorted(listed)]
    if [name for name, _size, _crc in found] != expected:
        raise ReleaseError("bundle-not-canonical", "the archive's names are not those of the manifest, in their order")
    for name, length, _crc in found[1:]:
        if length != listed[name].size:
            raise ReleaseError("bundle-hash", f"{name!r} has {length} bytes, expected {listed[name].size}")
    plan = _plan([Entry(name, length, crc, _alignment(listed.get(name))) for name, length, crc in found])
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


def _read_manifest(handle: int, name: str, length: int, crc: int) -> Manifest:
    if name != MANIFEST_NAME:
        raise ReleaseError("bundle-not-canonical", f"the first entry is {name!r}, expected {MANIFEST_NAME!r}")
    if length > MAX_MANIFEST_BYTES:
        raise ReleaseError("bundle-limit", f"the manifest has {length} bytes; {MAX_MANIFEST_BYTES} is the most")
    place: Placed = _plan([Entry(name, length, crc)]).placed[0]
    _compare(handle, place.offset, place.header, f"the header of {name!r}")
    data = _read_exactly(handle, place.data_offset, length)
    if zlib.crc32(data) != crc:
        raise ReleaseError("bundle-hash", "the manifest has another CRC-32 than its header says")
    return decode_manifest(data)


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


def _write_file(path: Path, chunks: Iterator[bytes]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
    with os.fdopen(handle, "wb") as out:
        for chunk in chunks:
            out.write(chunk)
        out.flush()
        os.fchmod(handle, 0o444)
        os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
