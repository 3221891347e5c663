"""One process with TensorFlow for all graphs; small models and data for the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LAB = Path(__file__).with_name("compress_lab.py")


@pytest.fixture(scope="session")
def models(shared_folder) -> Path:
    """The folder of the lab's models, and what it printed in ``lab.json``."""

    def run_lab(folder: Path) -> None:
        done = subprocess.run([sys.executable, LAB, folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        (folder / "lab.json").write_text(done.stdout.splitlines()[-1])

    return shared_folder("compress-lab", run_lab)


@pytest.fixture(scope="session")
def lab(models: Path) -> dict[str, Any]:
    """What the lab found."""
    return json.loads((models / "lab.json").read_text())


@pytest.fixture(scope="session")
def series(tmp_path_factory) -> dict[str, Path]:
    """Noisy waves of three frequencies: data to learn from, validation, evaluation; as the model takes them."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(5)
    found = {}
    for name, count in (("data", 384), ("validation", 128), ("evaluation", 256)):
        y = rng.integers(0, 3, count)
        phase = rng.uniform(0, 6.3, (count, 1)) + np.arange(24)[None] * (0.3 + 0.4 * y[:, None])
        x = np.stack([np.sin(phase), np.cos(phase)], axis=-1) + rng.normal(0, 0.3, (count, 24, 2))
        found[name] = folder / f"{name}.npz"
        np.savez(found[name], x=x.astype(np.float32), y=y)
    return found
