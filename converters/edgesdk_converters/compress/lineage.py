"""Where a compressed model came from: what its report says, for the lineage of a release made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgesdk_converters.data.npz import file_sha256

REPORT_SUFFIX = ".report.json"


def report_beside(model: Path) -> Path:
    """Return where the report of a compressed model is."""
    return model.with_suffix(REPORT_SUFFIX)


def compression_of(model: Path, sha256: str) -> dict[str, Any]:
    """Return ``{"compression": …}`` if the report beside a model is about this very file, else nothing."""
    path = report_beside(model)
    try:
        report = json.loads(path.read_bytes())
        if report["sha256"] != sha256:
            return {}
        sources = {name: source["sha256"] for name, source in report["lineage"]["sources"].items()}
        told = {"command": report["command"], "words": report["words"], "sources": sources}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {"compression": {**told, "report_sha256": file_sha256(path)}}
