"""Run an artifact through the runtime that devices use, in a child: what is measured is what runs.

tflite-runtime and TensorFlow cannot share a process, and an artifact may crash its interpreter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.archive import file_entry
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeName, RuntimeRequirement, Stage
from edgesdk.contract import Bindings, Contract
from edgesdk.errors import ReleaseError
from edgesdk.runtime import Session, describe_artifact, open_session
from edgesdk_converters.binding import bind
from edgesdk_converters.data import DataSet, open_data
from edgesdk_converters.isolation import Call, Progress

REPORT_EVERY = 64


def measure(call: Call) -> dict[str, Any]:
    """Child action: run input ``artifact`` on every other input and write ``DATA.npz`` with one array per output.

    Answers the bindings, the runtime's title and latencies, or ``{"unloadable": …}`` if this runtime cannot load it:
    that is a fact about a variant, which a device with another runtime may still run.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    runtime, package = call.params["runtime"], call.params["package"]
    data = {name: open_data(path, contract, labelled=False) for name, path in call.inputs.items() if name != "artifact"}
    try:
        raw = describe_artifact(call.inputs["artifact"], runtime, options={"package": package})
    except ReleaseError as error:
        if error.code != "artifact-unloadable":
            raise
        return {"unloadable": error.to_dict()}
    bindings = bind(contract, *raw)
    with (
        tempfile.TemporaryDirectory(dir=call.out.parent) as folder,
        open_draft(Path(folder), call.inputs["artifact"], contract, bindings, (runtime, package)) as session,
    ):
        latency = _run_all(session, data, call.out, call.progress)
        title, provider = session.backend, session.provider
    return {"bindings": msgspec.to_builtins(bindings), "runtime": title, "provider": provider, "infer_ms": latency}


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


def _run_all(session: Session, sets: dict[str, DataSet], out: Path, progress: Progress) -> dict[str, float]:
    done, total, times = 0, sum(data.count for data in sets.values()), list[float]()
    for name, data in sets.items():
        collected: dict[str, list[NDArray[Any]]] = {}
        for sample in data.samples():
            outputs, timings = session.run_timed(sample)
            for tensor, values in outputs.items():
                collected.setdefault(tensor, []).append(values)
            times.append(timings.infer_ms)
            done += 1
            if done % REPORT_EVERY == 0:
                progress(done, total)
        np.savez(out / f"{name}.npz", **{tensor: np.stack(values) for tensor, values in collected.items()})
    return {f"p{q}": round(float(np.percentile(times, q)), 4) for q in (50, 90, 99)} if times else {}
