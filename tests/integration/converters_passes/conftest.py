"""Passes run as the pipeline runs them, on the wearable example's float models and made-up windows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgesdk_converters.passes.observe import VALUES
from edgesdk_converters.planning.plan import PASSES
from edgesdk_converters.recipes import Format, Recipe
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.isolation import Task, run_child

WEARABLE = Path(__file__).parents[3] / "examples" / "wearable"
WINDOWS = 60
Act = Callable[..., tuple[Path, Any]]


@pytest.fixture(scope="session")
def contract() -> dict[str, Any]:
    """The example's contract, as steps get it."""
    return msgspec.to_builtins(read_contract(WEARABLE / "contract.toml"))


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth random windows in the contract's range: something to observe and to compare answers on."""
    noise = np.random.default_rng(0).normal(size=(WINDOWS, 128, 6)).cumsum(axis=1)
    x = (noise / np.abs(noise).max(axis=(1, 2), keepdims=True)).astype(np.float32)
    path = tmp_path_factory.mktemp("windows") / "windows.npz"
    np.savez(path, x=x)
    return path


@pytest.fixture(scope="session")
def act(tmp_path_factory: pytest.TempPathFactory) -> Act:
    """Run one action of the converters in a child; return its folder and answer."""

    def run(action: str, inputs: dict[str, Path], **params: Any) -> tuple[Path, Any]:
        out = tmp_path_factory.mktemp("step") / "out"
        out.mkdir()
        task = Task(action=f"edgesdk_converters.{action}", inputs=inputs, params=params)
        return out, run_child(task, out, log=out.with_suffix(".log"), timeout_s=120)

    return run


@pytest.fixture(scope="session")
def floats() -> dict[str, Path]:
    """The float models, by format."""
    return {kind: WEARABLE / "models" / f"v1.{kind}" for kind in ("tflite", "onnx")}


@pytest.fixture(scope="session")
def observed(act: Act, floats: dict[str, Path], windows: Path, contract: dict[str, Any]) -> Callable[[Format], Path]:
    """What the activations of a float model were, by format; observed once."""
    seen: dict[str, Path] = {}

    def observe(kind: Format) -> Path:
        if kind not in seen:
            inputs = {"source": floats[kind], "calibration": windows}
            out, _ = act(f"passes.observe:observe_{kind}", inputs, contract=contract, count=True)
            seen[kind] = out / VALUES
        return seen[kind]

    return observe


@pytest.fixture(scope="session")
def make(act: Act, floats: dict[str, Path], observed: Callable[[Format], Path]) -> Callable[[Recipe, Format], Path]:
    """Make an artifact by a recipe, once; return its file. `make.__wrapped__` makes it anew."""

    @functools.cache
    def by(recipe: Recipe, kind: Format) -> Path:
        inputs = {"source": floats[kind]}
        if recipe.calibrates(kind):
            inputs["values"] = observed(kind)
        action, _ = PASSES[kind, msgspec.to_builtins(recipe.options(kind))["kind"]]
        where = f"{action.__module__.removeprefix('edgesdk_converters.')}:{action.__name__}"
        out, _ = act(where, inputs, recipe=msgspec.to_builtins(recipe), max_opset=21, max_ir=10)
        return out / f"model.{kind}"

    return by


@pytest.fixture(scope="session")
def answers(act: Act, windows: Path, contract: dict[str, Any]) -> Callable[[Path, str], tuple[np.ndarray, dict]]:
    """Run an artifact in a runtime package, once; return its scores, ``[N, classes]``, and what `measure` says."""

    @functools.cache
    def run(artifact: Path, package: str) -> tuple[np.ndarray, dict]:
        runtime = "onnxruntime" if artifact.suffix == ".onnx" else "tflite"
        inputs = {"artifact": artifact, "windows": windows}
        out, said = act("evaluate.measure:measure", inputs, contract=contract, runtime=runtime, package=package)
        assert "unloadable" not in said, said
        with np.load(next(out.glob("windows*.npz"))) as arrays:
            scores = arrays["probabilities"].reshape(WINDOWS, -1)
        scores.flags.writeable = False  # every test gets this array
        return scores, said

    return run
