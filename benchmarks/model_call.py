"""What `edgesdk.Model` costs a call, and how long the longest call takes while generations are swapped.

`python benchmarks/model_call.py` prints one line per artifact, in microseconds: the runtime alone, the session
(contract check, normalisation, quantization), the model (evidence, good answering for a trial), and the longest
call of a thread that never pauses: during 20 swaps, and for as long without any, which shows what the machine adds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from edgesdk import Model
from edgesdk.bundle.archive import file_entry, write_bundle
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeName, RuntimeRequirement, Stage
from edgesdk.contract import load_contract_toml
from edgesdk.generation import Generation
from edgesdk.runtime import bindings_in_order, describe_artifact, open_session
from edgesdk.testing import serve_bundle, set_slots

WEARABLE = Path(__file__).parents[1] / "examples" / "wearable"
CALLS = 3000
SWAPS = 20
CONTRACT = load_contract_toml((WEARABLE / "contract.toml").read_text())
WINDOW = np.random.default_rng(0).normal(size=(1, 128, 6)).astype(np.float32)


def main() -> None:
    for suffix, runtime in (("tflite", "tflite"), ("onnx", "onnxruntime")):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), suffix, runtime)


def measure(folder: Path, suffix: str, runtime: RuntimeName) -> None:
    manifests = [pack(folder, release, suffix, runtime) for release in ("v1", "v2")]
    generations = [serve_bundle(folder / f"{release}.edge", folder) for release in ("v1", "v2")]
    inputs = {"window": WINDOW}
    raw = [np.ascontiguousarray(WINDOW)]
    with open_session(folder / "generations" / generations[0].generation, manifests[0]) as session:
        backend = session._stages[0].backend  # noqa: SLF001 - the part without our work is what is measured
        alone, in_session = median_us(lambda: backend.run(raw)), median_us(lambda: session.run(inputs))
        title = session.backend
    set_slots(folder, "wearable", generations[0].generation, "good")
    with Model("wearable", store=folder) as model:
        in_model = median_us(lambda: model.predict(inputs))
        swapped, seconds = longest_us(model, lambda: swap(model, folder, generations))
        quiet, _ = longest_us(model, lambda: sleep(seconds))
    print(f"{title}: runtime {alone:.0f}, session {in_session:.0f}, model {in_model:.0f};", end=" ")
    print(f"longest call over {SWAPS} swaps {swapped:.0f}, without a swap {quiet:.0f}")


def pack(folder: Path, release: str, suffix: str, runtime: RuntimeName) -> Manifest:
    artifact = WEARABLE / "models" / f"{release}.{suffix}"
    manifest = Manifest(
        schema=BUNDLE_SCHEMA,
        model="wearable",
        release=f"{release[1:]}.0.0",
        variant="host",
        target="host",
        contract=CONTRACT,
        requirements=Requirements(runtimes=(RuntimeRequirement(name=runtime, min_version="1"),), architectures=()),
        stages=(
            Stage(
                name="main",
                artifact=artifact.name,
                runtime=runtime,
                bindings=bindings_in_order(CONTRACT, *describe_artifact(artifact, runtime)),
            ),
        ),
        files=(file_entry(artifact.name, artifact, "application/octet-stream", "artifact"),),
    )
    write_bundle(folder / f"{release}.edge", manifest, {artifact.name: artifact})
    return manifest


def median_us(call: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        begin = perf_counter()
        call()
        times.append(perf_counter() - begin)
    return statistics.median(times) * 1e6


def swap(model: Model, store: Path, generations: list[Generation]) -> None:
    for turn in range(SWAPS):
        wanted = generations[(turn + 1) % 2].generation
        set_slots(store, "wearable", wanted, "good")
        while model.generation != wanted:
            sleep(0.01)


def longest_us(model: Model, meanwhile: Callable[[], None]) -> tuple[float, float]:
    """Return the longest call while `meanwhile` runs, and how many seconds that took."""
    done, times = threading.Event(), [0.0]

    def work() -> None:
        while not done.is_set():
            begin = perf_counter()
            model.predict({"window": WINDOW})
            times.append(perf_counter() - begin)

    thread = threading.Thread(target=work)
    begin = perf_counter()
    thread.start()
    meanwhile()
    done.set()
    thread.join()
    return max(times) * 1e6, perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
