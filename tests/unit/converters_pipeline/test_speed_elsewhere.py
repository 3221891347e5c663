"""A speed that is asked for is not judged where this machine is no measure of the target: that is said at the start."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.request import Request, prepare

HERE, ELSEWHERE = ("linux-arm64-cpu", "linux-x86_64-cpu")[:: 1 if platform.machine() == "aarch64" else -1]


@pytest.mark.parametrize(
    ("targets", "speedup", "named"),
    [
        ((HERE, ELSEWHERE, "ethos-u55-128"), 1.5, f"the speed of {ELSEWHERE}, ethos-u55-128 is not judged"),
        ((HERE,), 1.5, None),
        ((HERE, ELSEWHERE), None, None),
    ],
)
def test_who_asks_for_a_speed_hears_where_none_is_judged(
    repository_root: Path, tmp_path: Path, targets: tuple[str, ...], speedup: float | None, named: str | None
) -> None:
    """By the names of the targets; nobody who asks for none, or for this machine alone, is told anything."""
    wearable = repository_root / "examples" / "wearable"
    for seed, name in enumerate(("calibration", "evaluation")):
        x = np.random.default_rng(seed).normal(size=(63, 128, 6)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x)
    request = Request(
        models=(wearable / "models" / "v1.tflite",),
        name="w",
        release="1.0.0",
        targets=targets,
        formats=("tflite",),
        contract=wearable / "contract.toml",
        out=tmp_path / "out",
        calibration=tmp_path / "calibration.npz",
        evaluation=tmp_path / "evaluation.npz",
        min_speedup=speedup,
    )
    notes = " ".join(prepare(request).notes)
    assert ("speed" in notes) == (named is not None)
    assert (named or "") in notes
