"""The demo's app: classifies real recordings through `edgesdk.Model` and writes down every call.

`python -m edgesdk.demo.app --store STORE --recordings replay.npz --log calls.jsonl` runs until SIGTERM. A line
holds the wall time, the release that answered, the one that was served, the label, the truth and the milliseconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import edgesdk


def main() -> int:
    """Classify windows until told to stop; return 0."""
    options = _options()
    stop = threading.Event()
    with np.load(options.recordings, allow_pickle=False) as data:
        windows, truths, labels = data["x"], data["y"], [str(name) for name in data["labels"]]
    print(json.dumps({"ready": True, "windows": len(windows)}), flush=True)  # noqa: T201 - the app's output
    with (
        edgesdk.Model(options.model, contract=1, store=options.store, app=options.app, wait_s=options.wait) as model,
        options.log.open("a", buffering=1) as log,
    ):
        # Only now: while it waits for a first release, SIGTERM simply ends it.
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        for index in itertools.cycle(range(len(windows))):
            if stop.wait(options.pause):
                break
            log.write(json.dumps(_call(model, windows[index][None], labels[truths[index]])) + "\n")
    return 0


def _call(model: edgesdk.Model, window: npt.NDArray[np.float32], truth: str) -> dict[str, object]:
    """Make one call and describe it; an error that the app sees is a fact, not a crash."""
    started = time.perf_counter()
    fact: dict[str, object] = {"ts": time.time(), "served": model.release or "", "truth": truth}
    try:
        answer = model.classify(window)
    except edgesdk.EdgeError as error:
        fact |= {"failed": error.code, "release": "", "label": ""}
    else:
        fact |= {"label": answer.label, "release": answer.release, "confidence": round(answer.confidence, 4)}
    return {**fact, "ms": round((time.perf_counter() - started) * 1000, 3)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="wearable")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--app", default="demo-app")
    parser.add_argument("--wait", type=float, default=120.0, help="seconds to wait for a first release")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two calls")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
