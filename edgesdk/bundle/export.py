"""A release in one file, for devices without network: `edge bundle export` writes it, `edge-agent import` reads it.

It has the layout of a bundle (`edgesdk.bundle.layout`), byte for byte. Its manifest is an `ExportManifest`; its files:

    metadata/NAME           as the repository serves them, every root from the first on included
    targets/SHA256          targets by their hash
    desired.json            the signed desired document of one device, if there is one

Nothing in it is believed for being in it: an importing device verifies it as it verifies a repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edgesdk.bundle.decode import check_paths, decode_document, encode_document
from edgesdk.bundle.layout import MAX_MANIFEST_BYTES
from edgesdk.bundle.manifest import FileEntry, ModelName, ReleaseVersion, VariantName
from edgesdk.bundle.reader import Archive
from edgesdk.bundle.writer import BundleFile, file_entry, write_archive
from edgesdk.errors import ReleaseError

EXPORT_SCHEMA = "edge.export/1"
DESIRED_NAME = "desired.json"
METADATA_FOLDER, TARGETS_FOLDER = "metadata", "targets"


class ExportManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`manifest.json` of an exported file.

    Attributes:
        variants: Those whose bundles are in it.
        device: Whose desired document is in it; None if there is none.
    """

    schema: str
    model: ModelName
    release: ReleaseVersion
    variants: tuple[VariantName, ...]
    files: tuple[FileEntry, ...]
    device: Annotated[str, Meta(max_length=64)] | None = None
    critical: tuple[str, ...] = ()


class Export(Archive[ExportManifest]):
    """An open exported file."""


def open_export(path: str | os.PathLike[str]) -> Export:
    """Open an exported file and check every byte that is not the contents of a file; see `Archive`.

    Raises:
        ConfigError: ``file-missing``.
        ReleaseError: ``bundle-*`` or ``manifest-*``.
    """
    return Export(path, decode_export)


def decode_export(data: bytes) -> ExportManifest:
    """Decode and check the manifest of an exported file.

    Raises:
        ReleaseError: ``manifest-invalid``, ``manifest-schema``, ``manifest-critical`` or ``bundle-path``.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ReleaseError("bundle-limit", f"the manifest has {len(data)} bytes; {MAX_MANIFEST_BYTES} is the most")
    found = decode_document(data, ExportManifest, EXPORT_SCHEMA, "manifest-invalid", "manifest")
    check_paths([file.path for file in found.files])
    return found


def write_export(
    path: Path,
    files: Mapping[str, bytes | Path],
    *,
    model: str,
    release: str,
    variants: tuple[str, ...],
    device: str | None = None,
) -> BundleFile:
    """Write an exported file atomically; the same content gives the same bytes.

    Raises:
        ReleaseError: What a reader would refuse.
    """
    listing = tuple(
        file_entry(name, source, "application/octet-stream", "other") for name, source in sorted(files.items())
    )
    manifest = ExportManifest(
        schema=EXPORT_SCHEMA, model=model, release=release, variants=variants, files=listing, device=device
    )
    encoded = encode_document(manifest, "manifest-invalid", "manifest")
    decode_export(encoded)
    return write_archive(path, encoded, listing, files)
