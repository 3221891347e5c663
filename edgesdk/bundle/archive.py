"""Bundles as files: `write_bundle` and `open_bundle`, over the bytes that `edgesdk.bundle.layout` defines."""

from __future__ import annotations

from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.writer import BundleFile, file_entry, repack, write_bundle

__all__ = ["Bundle", "BundleFile", "file_entry", "open_bundle", "repack", "write_bundle"]
