"""Is the artifact faster than its float source, on this machine? Both run in turn, so that other work falls on both.

A round calls each `CALLS` times, in an order that alternates; its ratio is that of the least times, which other work
disturbs least. The interval is a seeded percentile bootstrap of the median ratio over the rounds. It is the time of
this machine: where the target is another one, nothing is claimed for it.
"""

from __future__ import annotations

import platform
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk.errors import ReleaseError
from edgesdk.runtime import Session, describe_artifact
from edgesdk.targets.matching import architecture_name
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import open_data
from edgesdk_converters.evaluate.measure import open_draft
from edgesdk_converters.running.isolation import Call

ROUNDS = 60
LEAST_ROUNDS = 12
CALLS = 4
BUDGET_S = 4.0
SEED = 20_260_103
REPLICATES = 2000


def time_both(call: Call) -> dict[str, Any]:
    """Child action: time input ``artifact`` against ``source`` on a row of ``samples``, both in one runtime.

    Answers ``{"timed": True, "speedup", "interval", "artifact_ms", "source_ms", "rounds", "machine"}``, or
    ``{"timed": False, "reason"}`` where this runtime does not load both.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["samples"], contract, labelled=False)
    sample = next(data.samples())
    with ExitStack() as stack:
        try:
            source, artifact = (_open(stack, call, name, contract) for name in ("source", "artifact"))
        except ReleaseError as error:
            return {"timed": False, "reason": str(error)}
        title = artifact.backend
        times = _rounds(source, artifact, sample, call)
    ratios = times[:, 0] / times[:, 1]
    low, high = interval(ratios)
    source_ms, artifact_ms = np.median(times, axis=0)
    return {
        "timed": True,
        "speedup": round(float(np.median(ratios)), 4),
        "interval": [round(low, 4), round(high, 4)],
        "source_ms": round(float(source_ms), 5),
        "artifact_ms": round(float(artifact_ms), 5),
        "rounds": len(times),
        "runtime": title,
        "machine": {"architecture": architecture_name(platform.machine()), "processor": call.params["processor"]},
    }


def interval(ratios: NDArray[np.float64], alpha: float = 0.05) -> tuple[float, float]:
    """Return the ``1 - alpha`` percentile bootstrap interval of the median ratio."""
    random = np.random.default_rng(SEED)
    medians = np.median(ratios[random.integers(0, len(ratios), (REPLICATES, len(ratios)))], axis=1)
    low, high = np.quantile(medians, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _open(stack: ExitStack, call: Call, name: str, contract: Contract) -> Session:
    runtime, package = call.params["runtime"], call.params["package"]
    bindings = bind(contract, *describe_artifact(call.inputs[name], runtime, options={"package": package}))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=call.out.parent)))
    return stack.enter_context(open_draft(folder, call.inputs[name], contract, bindings, (runtime, package)))


def _rounds(source: Session, artifact: Session, sample: dict[str, Any], call: Call) -> NDArray[np.float64]:
    """Return the least milliseconds of each round, [rounds, 2]: source, artifact."""
    both = (source, artifact)
    for session in both:
        session.run_timed(sample)  # the first call allocates
    end = time.monotonic() + BUDGET_S
    found: list[list[float]] = []
    while len(found) < ROUNDS and (len(found) < LEAST_ROUNDS or time.monotonic() < end):
        turn = (0, 1) if len(found) % 2 else (1, 0)
        least = [np.inf, np.inf]
        for _ in range(CALLS):
            for index in turn:
                least[index] = min(least[index], both[index].run_timed(sample)[1].infer_ms)
        found.append(least)
        call.progress(len(found), ROUNDS)
    return np.array(found)
