"""The real tools. Vela takes a second to install; the others are asked for (.ci/slow) or there already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edgesdk_converters import convert
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.pipeline import Conversion
from edgesdk_converters.running.environments import ensure, find
from edgesdk_converters.running.isolation import Call

from edgesdk.errors import ConfigError

WEARABLE = Path(__file__).parents[2] / "examples" / "wearable"
ASKED = "EDGESDK_VENDOR"
"""Set by .ci/slow: make the environments that are not there."""


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """Return the Python of a backend's environment, or skip by name."""

    def python(name: str) -> Path:
        environment = BACKENDS[name].environment
        # CI runs Vela's only, also where a session left others behind: they take minutes.
        absent = find(environment) is None or bool(os.environ.get("CI"))
        if name != "vela" and os.environ.get(ASKED) is None and absent:
            pytest.skip(f"the environment {name} is not there, or this is CI; {ASKED}=1 makes and runs it")
        try:
            return ensure(environment)
        except ConfigError as error:
            if os.environ.get("CI"):
                raise
            return pytest.skip(f"the environment {name} cannot be made here: {error.message}")

    return python


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., Call]:
    """What an action gets."""

    def make(inputs: dict[str, Path], **params: Any) -> Call:
        out = tmp_path / "work" / "out"
        out.mkdir(parents=True)
        return Call(inputs=inputs, params=params, out=out, progress=lambda _done, _total: None, timeout_s=120)

    return make


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wearable example's data sets, the evaluation set small."""
    import numpy as np  # noqa: PLC0415 - one use

    folder = tmp_path_factory.mktemp("wearable")
    subprocess.run([sys.executable, WEARABLE / "dataset.py", folder], check=True, capture_output=True)
    with np.load(folder / "evaluation.npz") as arrays:
        small = {"x": arrays["x"][::12], "y": arrays["y"][::12], "labels": arrays["labels"]}
    np.savez(folder / "evaluation.npz", **small)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of steps for all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def converted(data: Path, cache: Path, tmp_path: Path) -> Callable[..., Conversion]:
    """Convert the wearable model for a target, as a user does."""

    def run(model: str, *targets: str, **words: Any) -> Conversion:
        return convert(
            WEARABLE / "models" / model,
            **{
                "name": "wearable",
                "release": "1.0.0",
                "targets": targets,
                "contract": WEARABLE / "contract.toml",
                "calibration": data / "calibration.npz",
                "evaluation": data / "evaluation.npz",
                "truth": data / "truth.npz",
                "cache_dir": cache,
                "max_drop": 0.12,
                "built_at": "2026-01-02T03:04:05Z",
                "out": tmp_path / "release",
                **words,
            },
        )

    return run
