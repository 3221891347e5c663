"""A worker process: started with the shim in LD_PRELOAD, it forks one child a life. Tasks come as JSON lines.

{"do": "prepare"|"record", "scenario"}               → {} (what was recorded is pickled beside the starts)
{"do": "run", "scenario", "lives": [[fault, …], …]}  → {"reached", "broken"}
{"do": "replay", "scenario", "at", "outcome"}        → {"broken"}
"""

from __future__ import annotations

import gc
import json
import pickle
import sys
from pathlib import Path
from typing import Any

from crash.filesystem import FileSystem
from crash.lives import Fault, Ground, Lives
from crash.recording import Recording
from crash.scenarios import SCENARIOS
from crash.shim import Shim


class Worker:
    """Does tasks; remembers the recording that it replays."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._lives = Lives(ground, Shim())
        self._name = ""
        self._recording = Recording(FileSystem(), [])

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do one task; return the answer."""
        scenario = SCENARIOS[task["scenario"]]
        match task["do"]:
            case "prepare":
                self._lives.prepare(scenario)
                return {}
            case "record":
                path = self._ground.starts / f"{scenario.name}.recording"
                path.write_bytes(pickle.dumps(Recording(*self._lives.record(scenario))))
                return {}
            case "run":
                faults = tuple(tuple(Fault(*fault) for fault in life) for life in task["lives"])
                broken = self._lives.run(scenario, faults)
                return {"reached": self._lives.reached, "broken": broken}
            case _:
                recording = self._known(scenario.name)
                calls, system = recording.before(task["at"])
                keep = system.outcomes()[task["outcome"]]
                return {"broken": self._lives.replayed(scenario, calls, system, keep)}

    def _known(self, name: str) -> Recording:
        if self._name != name:
            self._name, self._recording = name, Recording.load(self._ground.starts / f"{name}.recording")
        return self._recording


def main() -> None:
    """Serve tasks until standard input ends."""
    bundles, url, starts, scratch, mutant = sys.argv[1:]
    worker = Worker(Ground(Path(bundles), url, Path(starts), Path(scratch), mutant))
    gc.freeze()  # children share the pages
    for line in sys.stdin:
        try:
            answer = worker.do(json.loads(line))
        except Exception as error:  # noqa: BLE001 - a task that cannot be done is reported, the next one is done
            answer = {"failed": repr(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
