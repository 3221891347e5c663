"""The one byte layout of a bundle, as a pure function: names, sizes and checksums in, every header byte out.

A bundle is a ZIP archive of stored entries (PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.16) in which nothing is
left to the writer's choice. The reader does not interpret headers: it computes them again and compares, so no two
programs can see different things in one bundle. `docs/bundle-format.md` gives every byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.bundle.manifest import FileEntry
from edgesdk.errors import ReleaseError

MANIFEST_NAME = "manifest.json"

MAX_ENTRIES = 4096
MAX_NAME = 200
MAX_MANIFEST_BYTES = 1 << 20
MAX_BUNDLE_BYTES = (1 << 32) - 2  # no ZIP64: 2**32 - 1 is ZIP's mark for "see the ZIP64 record"
ARTIFACT_ALIGNMENT = 4096
OTHER_ALIGNMENT = 64

_ALIGNED_ROLES = frozenset({"artifact", "external-data"})
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_PADDING = struct.Struct("<3H")

LOCAL_BYTES, CENTRAL_BYTES, END_BYTES = _LOCAL.size, _CENTRAL.size, _END.size
MAX_DIRECTORY_BYTES = MAX_ENTRIES * (CENTRAL_BYTES + MAX_NAME)
MAX_LOCAL_BYTES = LOCAL_BYTES + MAX_NAME + _PADDING.size + ARTIFACT_ALIGNMENT

_VERSION_NEEDED = 10  # 1.0: stored entries
_MADE_BY = (3 << 8) | 20  # Unix, 2.0
_UTF8 = 1 << 11
_STORED = 0
_TIME, _DATE = 0, (0 << 9) | (1 << 5) | 1  # 1980-01-01 00:00:00
_ATTRIBUTES = 0o100444 << 16  # a regular file, read-only
_PADDING_ID = 0xD935  # the extra field that Android's tools use for alignment


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive.

    Attributes:
        name: Its path, ASCII, as in the manifest.
        size: Bytes of its contents.
        crc: CRC-32 of its contents, as ZIP wants it.
        alignment: Its contents begin at a multiple of this.
    """

    name: str
    size: int
    crc: int
    alignment: int = OTHER_ALIGNMENT


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an entry lies: `header` is written at `offset`, the contents at `data_offset`, right behind it."""

    entry: Entry
    offset: int
    header: bytes

    @property
    def data_offset(self) -> int:
        """Offset of the contents from the start of the file."""
        return self.offset + len(self.header)

    @property
    def end(self) -> int:
        """Offset of the first byte behind the contents."""
        return self.data_offset + self.entry.size


@dataclass(frozen=True, slots=True)
class Layout:
    """Every byte of a bundle that is not the contents of a file; `tail` is the directory and the end record."""

    placed: tuple[Placed, ...]
    tail: bytes

    @property
    def tail_offset(self) -> int:
        """Offset of the directory from the start of the file."""
        return self.placed[-1].end if self.placed else 0

    @property
    def size(self) -> int:
        """Size of the whole file in bytes."""
        return self.tail_offset + len(self.tail)


def layout(entries: Sequence[Entry]) -> Layout:
    """Place `entries` in this order.

    Raises:
        ValueError: If the archive would need ZIP64 (`MAX_BUNDLE_BYTES`, `MAX_ENTRIES`).
    """
    if len(entries) > MAX_ENTRIES:
        msg = f"{len(entries)} entries; {MAX_ENTRIES} is the most"
        raise ValueError(msg)
    placed: list[Placed] = []
    offset = 0
    for entry in entries:
        placed.append(Placed(entry, offset, _local_header(entry, offset)))
        offset = placed[-1].end
        if offset > MAX_BUNDLE_BYTES:
            msg = f"entry {entry.name} ends at byte {offset}; {MAX_BUNDLE_BYTES} is the most"
            raise ValueError(msg)
    directory = b"".join(_central_header(place) for place in placed)
    end = _END.pack(b"PK\5\6", 0, 0, len(placed), len(placed), len(directory), offset, 0)
    found = Layout(tuple(placed), directory + end)
    if found.size > MAX_BUNDLE_BYTES:
        msg = f"the bundle would have {found.size} bytes; {MAX_BUNDLE_BYTES} is the most"
        raise ValueError(msg)
    return found


def place_entries(entries: Sequence[Entry]) -> Layout:
    """Return `layout` of the entries.

    Raises:
        ReleaseError: ``bundle-limit``.
    """
    try:
        return layout(entries)
    except ValueError as error:
        raise ReleaseError("bundle-limit", str(error)) from error


def role_alignment(listed: FileEntry | None) -> int:
    """Return the alignment of a file by its role in the manifest; None is the manifest itself."""
    return ARTIFACT_ALIGNMENT if listed is not None and listed.role in _ALIGNED_ROLES else OTHER_ALIGNMENT


def parse_end(data: bytes) -> tuple[int, int, int]:
    """Read the end record: ``(entries, directory bytes, directory offset)``.

    Raises:
        ValueError: If `data` is no end record of a bundle.
    """
    if len(data) != END_BYTES:
        msg = f"the end record has {len(data)} bytes, expected {END_BYTES}"
        raise ValueError(msg)
    signature, _disk, _start, _here, entries, size, offset, _comment = _END.unpack(data)
    if signature != b"PK\5\6":
        msg = "the file does not end with an end-of-directory record"
        raise ValueError(msg)
    return entries, size, offset


def parse_directory(data: bytes, count: int) -> list[tuple[str, int, int]]:
    """Read ``(name, size, crc)`` of every entry; all else is compared with the layout computed from these.

    Raises:
        ValueError: If `data` is not exactly `count` directory headers.
    """
    found: list[tuple[str, int, int]] = []
    at = 0
    for _ in range(count):
        if len(data) - at < CENTRAL_BYTES:
            msg = f"the directory ends within header {len(found) + 1} of {count}"
            raise ValueError(msg)
        fields = _CENTRAL.unpack_from(data, at)
        crc, size, name_bytes = fields[7], fields[9], fields[10]
        at += CENTRAL_BYTES
        name = data[at : at + name_bytes]
        at += name_bytes
        if not 0 < name_bytes <= MAX_NAME or len(name) != name_bytes:
            msg = f"header {len(found) + 1} of the directory has a name of {name_bytes} bytes"
            raise ValueError(msg)
        found.append((name.decode("ascii"), size, crc))
    if at != len(data):
        msg = f"{len(data) - at} bytes follow the last header of the directory"
        raise ValueError(msg)
    return found


def _local_header(entry: Entry, offset: int) -> bytes:
    name = entry.name.encode("ascii")
    bare = offset + LOCAL_BYTES + len(name) + _PADDING.size
    zeros = -bare % entry.alignment
    extra = _PADDING.pack(_PADDING_ID, 2 + zeros, entry.alignment) + bytes(zeros)
    return (
        _LOCAL.pack(
            b"PK\3\4",
            _VERSION_NEEDED,
            _UTF8,
            _STORED,
            _TIME,
            _DATE,
            entry.crc,
            entry.size,
            entry.size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def _central_header(place: Placed) -> bytes:
    name, size = place.entry.name.encode("ascii"), place.entry.size
    return (
        _CENTRAL.pack(
            b"PK\1\2",
            _MADE_BY,
            _VERSION_NEEDED,
            _UTF8,
            _STORED,
            _TIME,
            _DATE,
            place.entry.crc,
            size,
            size,
            len(name),
            0,  # extra field
            0,  # comment
            0,  # disk
            0,  # internal attributes
            _ATTRIBUTES,
            place.offset,
        )
        + name
    )
