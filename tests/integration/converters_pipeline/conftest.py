"""The wearable example's real models and recordings; small subsets where a test only needs something to chew on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgesdk_converters import convert
from edgesdk_converters.pipeline import Conversion

WEARABLE = Path(__file__).parents[3] / "examples" / "wearable"
MODELS = WEARABLE / "models"
TARGETS = ("linux-x86_64-cpu", "linux-arm64-cpu")
SMALL_DROP = 0.08
"""What a few hundred samples can show at alpha 1 %."""

Convert = Callable[..., Conversion]
Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def full_data(shared_folder: Shared) -> Path:
    """The example's data sets as it writes them."""

    def write(folder: Path) -> None:
        subprocess.run([sys.executable, WEARABLE / "dataset.py", folder], check=True, capture_output=True)

    return shared_folder("wearable-data", write)


@pytest.fixture(scope="session")
def data(full_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sixth evaluation window, every fourth calibration window, all of the truth set."""
    folder = tmp_path_factory.mktemp("small")
    for name, step in (("evaluation", 6), ("calibration", 4), ("truth", 1)):
        with np.load(full_data / f"{name}.npz") as arrays:
            np.savez(folder / f"{name}.npz", x=arrays["x"][::step], y=arrays["y"][::step], labels=arrays["labels"])
    return folder


@pytest.fixture(scope="session")
def cache(shared_folder: Shared) -> Path:
    """One cache for the tests that do not test it."""
    return shared_folder("conversion-cache", lambda _folder: None)


@pytest.fixture(scope="session")
def words(data: Path, cache: Path) -> dict[str, Any]:
    """The words of an ordinary conversion."""
    return {
        "name": "wearable",
        "release": "1.0.0",
        "targets": TARGETS,
        "contract": WEARABLE / "contract.toml",
        "calibration": data / "calibration.npz",
        "evaluation": data / "evaluation.npz",
        "truth": data / "truth.npz",
        "cache_dir": cache,
        "max_drop": SMALL_DROP,
        "built_at": "2026-01-02T03:04:05Z",
    }


@pytest.fixture(scope="session")
def models() -> tuple[Path, Path]:
    """Version 1, both float exports."""
    return MODELS / "v1.tflite", MODELS / "v1.onnx"


@pytest.fixture(scope="session")
def released(models: tuple[Path, Path], words: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """An ordinary conversion of version 1, done once."""
    return convert(*models, **words, out=tmp_path_factory.mktemp("release") / "v1")
