"""The wearable example's real artifacts, unpacked as a bundle would be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.archive import file_entry
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeName, RuntimeRequirement, Stage
from edgesdk.contract import Contract, load_contract_toml
from edgesdk.runtime import bindings_in_order, describe_artifact

WEARABLE = Path(__file__).parents[3] / "examples" / "wearable"
MakeBundle = Callable[..., tuple[Path, Manifest]]


def runtime_of(artifact: Path) -> RuntimeName:
    return "onnxruntime" if artifact.suffix == ".onnx" else "tflite"


@pytest.fixture
def contract() -> Contract:
    return load_contract_toml((WEARABLE / "contract.toml").read_text())


@pytest.fixture
def window() -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(1, 128, 6)).astype(np.float32)


@pytest.fixture
def make_bundle(tmp_path: Path, contract: Contract) -> MakeBundle:
    def make(artifact: Path = WEARABLE / "models" / "v1.tflite", **changes: Any) -> tuple[Path, Manifest]:
        runtime = runtime_of(artifact)
        folder = tmp_path / artifact.stem / artifact.suffix[1:]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(artifact, folder / artifact.name)
        wanted = changes.get("contract", contract)
        manifest = Manifest(
            schema=BUNDLE_SCHEMA,
            model="wearable",
            release="1.0.0",
            variant="host",
            target="linux-x86_64-cpu",
            contract=wanted,
            requirements=Requirements(
                runtimes=(RuntimeRequirement(name=runtime, min_version="1.0"),), architectures=("x86_64",)
            ),
            stages=(
                Stage(
                    name="main",
                    artifact=artifact.name,
                    runtime=runtime,
                    bindings=bindings_in_order(wanted, *describe_artifact(artifact, runtime)),
                ),
            ),
            files=(file_entry(artifact.name, artifact, "application/octet-stream", "artifact"),),
        )
        return folder, msgspec.structs.replace(manifest, **changes)

    return make
