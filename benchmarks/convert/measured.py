"""Run artifacts, ours and others', through the runtime that devices use; each function here runs in a child process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import feeds, file_sha256, open_data
from edgesdk_converters.evaluate.measure import open_draft
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.isolation import Call, Task, run_child

from edgesdk.runtime import Session, describe_artifact

RUNTIMES = {"tflite": ("tflite", "ai-edge-litert"), "onnx": ("onnxruntime", "onnxruntime")}
"""Runtime and package by the suffix of an artifact."""
ROUNDS, LEAST_ROUNDS, SECONDS, WARM = 300, 30, 25.0, 3
"""Rounds of one call of each artifact: at most, at least; seconds after which none begins; rounds that do not count."""
TIMEOUT_S = 900.0


def outputs(artifact: Path, folder: Path, scratch: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return an artifact's outputs on a case's evaluation data, by contract name, ``(N, …)``; kept by its hash.

    Raises:
        EdgeError: The runtime does not load it, or died of it.
    """
    inputs = {"artifact": artifact, "contract": folder / "contract.toml", "data": folder / "evaluation.npz"}
    own = scratch / file_sha256(artifact)[:16]
    kept = own / "outputs.npz"
    if not kept.exists():
        _child("answer", inputs, own)
    with np.load(kept) as arrays:
        return {name: arrays[name] for name in arrays.files}


def latencies(artifacts: dict[str, Path], folder: Path, scratch: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return milliseconds by artifact, [rounds]: in every round each is called once, in turn.

    Raises:
        EdgeError: A runtime does not load one, or died of it.
    """
    inputs = {"contract": folder / "contract.toml", "data": folder / "evaluation.npz"}
    found = _child("race", {**inputs, **{f"artifact {name}": path for name, path in artifacts.items()}}, scratch)
    return {name: np.array(times) for name, times in found.items()}


def write_feeds(model: Path, folder: Path, scratch: Path) -> Path:
    """Write the calibration data as a float model takes it, normalised: what other tools are given. Return the file."""
    kept = scratch / "feeds.npz"
    inputs = {"artifact": model, "contract": folder / "contract.toml", "data": folder / "calibration.npz"}
    if not kept.exists():
        _child("feed", inputs, scratch)
    return kept


def _child(action: str, inputs: dict[str, Path], scratch: Path) -> Any:
    scratch.mkdir(parents=True, exist_ok=True)
    task = Task(action=f"convert.measured:{action}", inputs=inputs)
    return run_child(task, scratch, log=scratch / f"{action}.log", timeout_s=TIMEOUT_S)


def answer(call: Call) -> dict[str, Any]:
    """Child action: run input ``artifact`` on ``data`` and write ``outputs.npz``."""
    contract = read_contract(call.inputs["contract"])
    data = open_data(call.inputs["data"], contract, labelled=False)
    collected: dict[str, list[Any]] = {spec.name: [] for spec in contract.outputs}
    with _session(call.inputs["artifact"], call, "session") as session:
        for sample in data.samples():
            for name, values in session.run(sample).items():
                collected[name].append(values)
    partial = call.out / "partial.npz"
    np.savez(partial, **{name: np.stack(rows) for name, rows in collected.items()})
    partial.rename(call.out / "outputs.npz")
    return {}


def race(call: Call) -> dict[str, list[float]]:
    """Child action: call every artifact in turn, round by round; answer the milliseconds of each call."""
    contract = read_contract(call.inputs["contract"])
    data = open_data(call.inputs["data"], contract, labelled=False)
    named = {key.removeprefix("artifact "): path for key, path in call.inputs.items() if key.startswith("artifact ")}
    sessions = {name: _session(path, call, f"session{index}") for index, (name, path) in enumerate(named.items())}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    began, order = time.monotonic(), list(sessions)
    for number, sample in enumerate(data.samples()):
        if number >= ROUNDS + WARM or (number >= LEAST_ROUNDS + WARM and time.monotonic() - began > SECONDS):
            break
        order = order[1:] + order[:1]  # nobody is always the one after the slowest
        for name in order:
            spent = sessions[name].run_timed(sample)[1].infer_ms
            if number >= WARM:
                times[name].append(spent)
    return times


def feed(call: Call) -> dict[str, Any]:
    """Child action: write ``feeds.npz``, arrays ``(N, *call shape)`` by the artifact's own input names."""
    contract = read_contract(call.inputs["contract"])
    data = open_data(call.inputs["data"], contract, labelled=False)
    artifact = call.inputs["artifact"]
    runtime, package = RUNTIMES[artifact.suffix[1:]]
    raw = describe_artifact(artifact, runtime, options={"package": package})[0]
    rows = list(feeds(data, {each.name: each.dtype for each in raw}))
    np.savez(call.out / "feeds.npz", **{each.name: np.stack([row[each.name] for row in rows]) for each in raw})
    return {}


def _session(artifact: Path, call: Call, name: str) -> Session:
    contract = read_contract(call.inputs["contract"])
    runtime, package = RUNTIMES[artifact.suffix[1:]]
    bindings = bind(contract, *describe_artifact(artifact, runtime, options={"package": package}))
    folder = call.out / name
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    return open_draft(folder, artifact, contract, bindings, (runtime, package))
