"""Releases for the end-to-end tests: made once by `edge convert` from the wearable example, whole and real."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e_world import MODEL, edge

HOST, ARM = "linux-x86_64-cpu", "linux-arm64-cpu"


@dataclass(frozen=True)
class Recipe:
    """How one release is made.

    Attributes:
        source: Name of the trained model.
        onnx: Also as ONNX, for devices with onnxruntime.
        labels: Ending of the labelled data's names: v3 is judged by its own answers.
        contract: Version of its contract.
    """

    source: str
    recipe: str = "float"
    target: str = HOST
    onnx: bool = False
    labels: str = ""
    contract: str = "1.0"


RECIPES = {
    "1.0.0": Recipe("v1", onnx=True),
    "2.0.0": Recipe("v2", "int8", onnx=True),
    "2.1.0": Recipe("v2"),
    "3.0.0": Recipe("v3", labels="-own-answers"),
    "4.0.0": Recipe("v4"),
    "5.0.0": Recipe("v1", target=ARM),
    "6.0.0": Recipe("v2", contract="2.0"),
}
"""3.0.0 and 4.0.0 are correctly signed but bad (see `examples/wearable`); 5.0.0 is for arm64 only."""


def make_data(example: Path, data: Path) -> None:
    """Write the example's data sets, and the labels that v3 gives itself."""
    subprocess.run([sys.executable, str(example / "dataset.py"), str(data)], check=True, capture_output=True)
    for name in ("truth", "evaluation"):
        v3, source, own = example / "models" / "v3.onnx", data / f"{name}.npz", data / f"{name}-own-answers.npz"
        subprocess.run(
            [sys.executable, str(example / "relabel.py"), str(v3), str(source), str(own)],
            check=True, capture_output=True,
        )  # fmt: skip


def make_releases(example: Path, data: Path, out: Path) -> dict[str, Path]:
    """Convert every release of `RECIPES` into a folder below `out`; two at a time."""
    with ThreadPoolExecutor(2) as pool:
        folders = pool.map(lambda item: _convert(example, data, out, *item), RECIPES.items())
        return dict(zip(RECIPES, folders, strict=True))


def _convert(example: Path, data: Path, out: Path, release: str, recipe: Recipe) -> Path:
    contract = out / f"contract-{recipe.contract}.toml"
    text = (example / "contract.toml").read_text()
    contract.write_text(text.replace('version = "1.0"', f'version = "{recipe.contract}"'))
    model = example / "models" / recipe.source
    sources = [f"{model}.tflite", *([f"{model}.onnx"] if recipe.onnx else [])]
    done = edge(
        "convert", *sources, "--name", MODEL, "--release", release, "--target", recipe.target,
        "--recipe", recipe.recipe, "--contract", contract, "--calibration", data / "calibration.npz",
        "--truth", data / f"truth{recipe.labels}.npz", "--evaluation", data / f"evaluation{recipe.labels}.npz",
        *(("--max-drop", "0.02") if recipe.labels else ()),  # every answer that int8 changes is a loss
        "--cache-dir", out / "cache", "-o", out / release,
    )  # fmt: skip
    assert done.code == 0, done.err
    return out / release
