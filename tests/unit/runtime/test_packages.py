"""Which runtimes are taken to work here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgesdk.runtime import installed


def metadata(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(("numpy", "works"), [("1.26.4", True), ("2.0.0", False), ("2.4.6", False)])
def test_tflite_runtime_beside_numpy_2_is_left_out(tmp_path, monkeypatch, numpy, works):
    """Its import works there and every interpreter fails; the metadata that an installer wrote says so beforehand."""
    metadata(tmp_path, "tflite-runtime", "2.14.0")
    metadata(tmp_path, "numpy", numpy)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = {runtime.package for runtime in installed()}
    assert found == ({"tflite-runtime"} if works else set())
