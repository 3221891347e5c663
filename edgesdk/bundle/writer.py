"""Write bundles: the same bytes from the same content, everywhere."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.decode import decode_manifest, encode_manifest
from edgesdk.bundle.layout import MANIFEST_NAME, Entry, Layout, place_entries, role_alignment
from edgesdk.bundle.manifest import FileEntry, Manifest, Role
from edgesdk.durable import atomic_file
from edgesdk.errors import ReleaseError

CHUNK = 1 << 20


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
    return write_archive(path, encode_manifest(manifest), manifest.files, files)


def write_archive(
    path: Path, encoded: bytes, listing: Sequence[FileEntry], files: Mapping[str, bytes | Path]
) -> BundleFile:
    """Write an archive in the one layout; `encoded` is its `manifest.json`, which lists `listing`.

    Raises:
        ReleaseError: As `write_bundle`.
    """
    listed = {file.path: file for file in listing}
    for name in sorted(set(listed) ^ set(files)):
        where = "the manifest" if name in listed else "the files"
        raise ReleaseError("manifest-invalid", f"{name!r} is only among {where}")
    sources: dict[str, bytes | Path] = {MANIFEST_NAME: encoded, **{name: files[name] for name in sorted(files)}}
    entries = [_entry(name, source, listed.get(name)) for name, source in sources.items()]
    plan = place_entries(entries)
    with atomic_file(path) as out:
        digest = _write(out.write, plan, sources)
    return BundleFile(path, digest, plan.size)


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
    return Entry(name, size, crc, role_alignment(listed))


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
