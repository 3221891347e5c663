"""Run an artifact through the runtime that devices use, in a child: what is measured is what runs.

tflite-runtime and TensorFlow cannot share a process, and an artifact may crash its interpreter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.archive import file_entry
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeName, RuntimeRequirement, Stage
from edgesdk.contract import Bindings, Contract
from edgesdk.errors import ReleaseError
from edgesdk.runtime import Session, Timings, describe_artifact, open_session
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import DataSet, open_data
from edgesdk_converters.evaluate.gate import Outcome
from edgesdk_converters.evaluate.looks import HOPELESS, looks, order
from edgesdk_converters.evaluate.step import gate_verdict, paired_cases, read_npz
from edgesdk_converters.running.isolation import Call, Progress

REPORT_EVERY = 64
Run = Callable[[dict[str, NDArray[Any]]], tuple[dict[str, NDArray[Any]], Timings]]


def measure(call: Call) -> dict[str, Any]:
    """Child action: run input ``artifact`` on every other input and write ``DATA.npz`` with one array per output.

    With ``params["gate"]`` (of `evaluate.checks.gate_params`) and input ``source``, what the float source answered, the
    evaluation data is run in instalments until the gate is decided.

    Answers the bindings, the runtime's title and latencies, or ``{"unloadable": …}`` if this runtime cannot load it:
    that is a fact about a variant, which a device with another runtime may still run.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    runtime, package = call.params["runtime"], call.params["package"]
    sets = {name: path for name, path in call.inputs.items() if name not in {"artifact", "source"}}
    data = {name: open_data(path, contract, labelled=False) for name, path in sets.items()}
    try:
        raw = describe_artifact(call.inputs["artifact"], runtime, options={"package": package})
    except ReleaseError as error:
        if error.code != "artifact-unloadable":
            raise
        for name in data:
            np.savez(call.out / f"{name}.npz")
        return {"unloadable": error.to_dict()}
    bindings = bind(contract, *raw)
    with (
        tempfile.TemporaryDirectory(dir=call.out.parent) as folder,
        open_draft(Path(folder), call.inputs["artifact"], contract, bindings, (runtime, package)) as session,
    ):
        answered = answer(session.run_timed, data, call)
        title, provider = session.backend, session.provider
    return {"bindings": msgspec.to_builtins(bindings), "runtime": title, "provider": provider, **answered}


def open_draft(
    folder: Path, artifact: Path, contract: Contract, bindings: Bindings, runtime: tuple[RuntimeName, str]
) -> Session:
    """Open an artifact that is in no bundle yet.

    Args:
        folder: An empty folder that outlives the session.
        artifact: The file.
        contract: What its inputs and outputs mean.
        bindings: How they are carried.
        runtime: The runtime's name and package.
    """
    placed = folder / artifact.name
    placed.symlink_to(artifact.resolve())
    name, package = runtime
    stage = Stage(name="main", artifact=placed.name, runtime=name, bindings=bindings)
    return open_session(folder, _draft(contract, stage, placed, name, package), options={"package": package})


def _draft(contract: Contract, stage: Stage, artifact: Path, runtime: RuntimeName, package: str) -> Manifest:
    need = RuntimeRequirement(name=runtime, min_version="0", package=package)
    return Manifest(
        schema=BUNDLE_SCHEMA,
        model="draft",
        release="0.0.0",
        variant="draft",
        target="draft",
        contract=contract,
        requirements=Requirements(runtimes=(need,), architectures=()),
        stages=(stage,),
        files=(file_entry(stage.artifact, artifact, "application/octet-stream", "artifact"),),
    )


def answer(run: Run, sets: Mapping[str, DataSet], call: Call) -> dict[str, Any]:
    """Run samples and write ``DATA.npz`` for each set, one array per output; answer the latencies.

    Args:
        run: Gives the outputs and the times of one call; a session's, or a simulator's.
        sets: The samples by data set.
        call: Where to write, whom to tell, and whether the evaluation data comes in instalments.
    """
    answering = _Answering(run, sum(data.count for data in sets.values()), call.progress)
    seen: dict[str, int] = {}
    for name, data in sets.items():
        looked = name == "evaluation" and call.params.get("gate") is not None
        answers = _until_decided(answering, data, call) if looked else answering.of(data, None)
        seen[name] = len(answers)
        rows = sorted(answers)
        outputs = {tensor: np.stack([answers[row][tensor] for row in rows]) for tensor in answers[rows[0]]}
        np.savez(call.out / f"{name}.npz", **outputs)
    times = np.array(answering.times)
    infer_ms = {f"p{q}": round(float(np.percentile(times, q)), 4) for q in (50, 90, 99)} if len(times) else {}
    return {"infer_ms": infer_ms, "samples": seen}


def _until_decided(answering: _Answering, data: DataSet, call: Call) -> dict[int, dict[str, NDArray[Any]]]:
    hopeless = call.params["gate"]["instalments"] == HOPELESS
    ends = {Outcome.REFUSE} if hopeless else {Outcome.REFUSE, Outcome.PASS}
    source, rows, answers = read_npz(call.inputs["source"]), order(data.count), dict[int, dict[str, NDArray[Any]]]()
    for look in looks(data.count):
        answers |= answering.of(data, set(rows[len(answers) : look.samples].tolist()))
        found = [answers[row] for row in sorted(answers)]
        outputs = {tensor: np.stack([each[tensor] for each in found]) for tensor in found[0]}
        verdict = gate_verdict(data, paired_cases(data, source, outputs), call.params["gate"])
        if verdict.outcome in ends:
            break
    return answers


class _Answering:
    """Runs samples, keeps times, tells progress."""

    def __init__(self, run: Run, total: int, progress: Progress) -> None:
        self._run, self._total, self._progress = run, total, progress
        self.times: list[float] = []

    def of(self, data: DataSet, rows: set[int] | None) -> dict[int, dict[str, NDArray[Any]]]:
        """Return the outputs by row; of all rows if `rows` is None."""
        answers = {}
        for row, sample in enumerate(data.samples()):
            if rows is not None and row not in rows:
                continue
            answers[row], timings = self._run(sample)
            self.times.append(timings.infer_ms)
            if len(self.times) % REPORT_EVERY == 0:
                self._progress(len(self.times), self._total)
        return answers
