"""A small bundle with every kind of entry, made in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgesdk.bundle.archive import BundleFile, file_entry, write_bundle
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeRequirement, Stage
from edgesdk.contract import Binding, Bindings, Contract, TensorSpec

FILES = {"model.tflite": b"\x1c\0\0\0TFL3" + bytes(5000), "golden/x.npy": b"x" * 77, "labels.txt": b""}
ROLES: dict[str, Any] = {"model.tflite": "artifact", "golden/x.npy": "golden", "labels.txt": "labels"}


def make_manifest(files: dict[str, bytes] = FILES, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "schema": BUNDLE_SCHEMA,
        "model": "digits",
        "release": "1.2.0",
        "variant": "linux-x86_64-cpu.tflite.int8",
        "target": "linux-x86_64-cpu",
        "contract": Contract(
            version="1.0",
            task="classification",
            inputs=(TensorSpec(name="x", shape=(1, 4)),),
            outputs=(TensorSpec(name="y", shape=(1, 2)),),
            labels=("a", "b"),
        ),
        "requirements": Requirements(
            runtimes=(RuntimeRequirement(name="tflite", min_version="2.14"),), architectures=("x86_64",)
        ),
        "stages": (
            Stage(
                name="main",
                artifact="model.tflite",
                runtime="tflite",
                bindings=Bindings(
                    inputs=(Binding(tensor="x", artifact_name="x", index=0, dtype="float32", shape=(1, 4)),),
                    outputs=(Binding(tensor="y", artifact_name="y", index=0, dtype="float32", shape=(1, 2)),),
                ),
            ),
        ),
        "files": tuple(
            file_entry(name, data, "application/octet-stream", ROLES.get(name, "other")) for name, data in files.items()
        ),
    }
    return Manifest(**{**values, **changes})


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


@pytest.fixture
def written(tmp_path: Path, manifest: Manifest) -> BundleFile:
    return write_bundle(tmp_path / "digits.edge", manifest, FILES)


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[[bytes], Path]:
    def save(data: bytes) -> Path:
        path = tmp_path / "changed.edge"
        path.write_bytes(data)
        return path

    return save
