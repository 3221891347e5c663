"""The cases: real models with data to calibrate and to judge them, made once into a folder and always the same.

A case's folder holds its float model (``model.onnx``, ``.tflite``, ``.keras`` or ``.pt2``), ``contract.toml``,
``calibration.npz`` and ``evaluation.npz``: what `edge convert` takes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgesdk.contract import Contract

Figure = Literal["accuracy", "decisions", "cells", "strings"]
"""What is compared. ``accuracy``: right classes, labelled. ``decisions``: the share of the float model's yes/no answers
(score above one half) that stay the same. ``cells``: F1 of the scores above one half, against the float model's.
``strings``: lines that are read as they are written, labelled."""
MODELS = ("model.keras", "model.tflite", "model.onnx", "model.pt2")
WEARABLE = Path(__file__).resolve().parents[2] / "examples" / "wearable"


class Store:
    """Where a case being made puts its files.

    Attributes:
        cache: What is fetched, kept for all cases.
        folder: The case's own.
    """

    def __init__(self, cache: Path, folder: Path) -> None:
        self.cache, self.folder = cache, folder

    def contract(self, contract: Mapping[str, Any]) -> None:
        """Write the contract, checked."""
        msgspec.convert(contract, Contract)
        lines = [f"{key} = {_toml(value)}\n" for key, value in contract.items()]
        (self.folder / "contract.toml").write_text("".join(lines))

    def data(self, name: str, **arrays: Any) -> None:
        """Write a data set, uncompressed: it is streamed."""
        np.savez(self.folder / f"{name}.npz", **arrays)

    def model(self, path: Path) -> None:
        """Copy the float model."""
        shutil.copyfile(path, self.folder / f"model{path.suffix}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model.

    Attributes:
        what: The model, where it is from and its licence, for readers.
        data: The data that calibrate and judge it.
        figure: What is compared.
        make: Writes the case's files.
        formats: Of the artifacts that its models give.
        max_drop: What our gate allows: a point, or a part of the outputs' variance that is worth about a point.
        metric: What our gate judges by, where it is not the task's own.
    """

    name: str
    what: str
    data: str
    figure: Figure
    make: Callable[[Store], None]
    formats: tuple[str, ...] = ("onnx", "tflite")
    max_drop: float = 0.01
    metric: str | None = None


def prepare(case: Case, cache: Path) -> Path:
    """Return the case's folder; it is made at the first call, whole or not at all.

    Raises:
        FetchError: Of what cannot be fetched.
    """
    folder = cache / "cases" / case.name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{case.name}.", dir=folder.parent))
        case.make(Store(cache, partial))
        partial.rename(folder)
    return folder


def sources(folder: Path) -> list[Path]:
    """Return the float models of a case."""
    return [folder / name for name in MODELS if (folder / name).exists()]


def in_child(script: str, *arguments: Any) -> None:
    """Run a script beside this file in another process: TensorFlow shares none with other interpreters."""
    command = [sys.executable, "-P", str(Path(__file__).with_name(script)), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_wearable(store: Store) -> None:
    """The wearable example's second model: both float exports, and its windows of held-out people."""
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([sys.executable, WEARABLE / "dataset.py", made], check=True, stdout=subprocess.DEVNULL)
        for name in ("calibration", "evaluation"):
            shutil.copyfile(Path(made, f"{name}.npz"), store.folder / f"{name}.npz")
    for suffix in (".onnx", ".tflite"):
        shutil.copyfile(WEARABLE / "models" / f"v2{suffix}", store.folder / f"model{suffix}")
    shutil.copyfile(WEARABLE / "contract.toml", store.folder / "contract.toml")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _cases() -> dict[str, Case]:
    from convert import files, photographs, pictures, reading, sounds  # noqa: PLC0415 - they use the classes above

    wearable = Case(
        name="wearable",
        what="exercise recogniser of examples/wearable, version 2 (100 kB 1D-CNN)",
        data="windows of a watch's sensors, people that it never saw, labelled",
        figure="accuracy",
        make=make_wearable,
    )
    every = (wearable, *pictures.CASES, *photographs.CASES, *reading.CASES, *files.CASES, *sounds.CASES)
    return {case.name: case for case in every}


def cases() -> dict[str, Case]:
    """Return every case by name."""
    return _cases()


def facts(folder: Path) -> dict[str, Any]:
    """Return what a report says about a case: its models' sizes and its numbers of samples."""
    counts = {}
    for name in ("calibration", "evaluation"):
        with np.load(folder / f"{name}.npz") as arrays:
            counts[name] = len(arrays[next(key for key in arrays.files if key != "labels")])
    return {"models": {path.name: path.stat().st_size for path in sources(folder)}, **counts}


def dumps(value: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(value, sort_keys=True)
