"""The workers, and the ground they stand on: bundles, their server, the shim."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crash.recording import Recording
from crash.repository import build_bundles, serve
from crash.shim import build

Task = dict[str, Any]


class Pool:
    """Runs tasks in worker processes.

    Args:
        folder: For everything; in memory where possible, no machine really loses power.
        jobs: Worker processes.
        mutant: How the agent is broken on purpose; "": not at all.
    """

    def __init__(self, folder: Path, jobs: int, mutant: str = "") -> None:
        self._starts = folder / "starts"
        bundles = folder / "bundles"
        for each in (self._starts, bundles):
            each.mkdir()
        build_bundles(bundles)
        self._server = serve(bundles)
        url = f"http://127.0.0.1:{self._server.server_port}"
        here = Path(__file__).resolve().parent
        python_path = os.pathsep.join([str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"LD_PRELOAD": str(build(folder)), "PYTHONPATH": python_path}
        self._workers = []
        for number in range(jobs):
            scratch = folder / f"worker-{number}"
            scratch.mkdir()
            arguments = [sys.executable, "-m", "crash.worker", *map(str, (bundles, url, self._starts, scratch)), mutant]
            worker = subprocess.Popen(
                arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self._workers.append(worker)

    def close(self) -> None:
        """End the workers and the server."""
        for worker in self._workers:
            assert worker.stdin
            worker.stdin.close()
            worker.wait()
        self._server.shutdown()
        self._server.server_close()

    def record(self, scenario: str) -> Recording:
        """Prepare a scenario and record its undisturbed run.

        Raises:
            RuntimeError: If it could not be walked.
        """
        for what in ("prepare", "record"):
            self._ask(self._workers[0], {"do": what, "scenario": scenario})
        return Recording.load(self._starts / f"{scenario}.recording")

    def map(self, tasks: Iterable[Task], take: Callable[[Task, dict[str, Any]], bool]) -> None:
        """Do the tasks; `take` gets each with its answer, one at a time; False from it: enough."""
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        lock, enough = threading.Lock(), threading.Event()
        failures: list[BaseException] = []

        def work(worker: subprocess.Popen[str]) -> None:
            try:
                while not enough.is_set():
                    task = waiting.get_nowait()
                    answer = self._ask(worker, task)
                    with lock:
                        if not enough.is_set() and not take(task, answer):
                            enough.set()
            except queue.Empty:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
                enough.set()

        threads = [threading.Thread(target=work, args=(worker,)) for worker in self._workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    @staticmethod
    def _ask(worker: subprocess.Popen[str], task: Task) -> dict[str, Any]:
        assert worker.stdin
        assert worker.stdout
        worker.stdin.write(json.dumps(task) + "\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {worker.wait()} over {task}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(f"{task}: {answer['failed']}")
        return answer


@contextmanager
def pool(jobs: int = 1, mutant: str = "") -> Iterator[Pool]:
    """Yield workers on a ground of their own, which is removed at the end."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a private folder is made in it
    folder = Path(tempfile.mkdtemp(prefix="edge-crash-", dir=memory))
    try:
        workers = Pool(folder, jobs, mutant)
        try:
            yield workers
        finally:
            workers.close()
    finally:
        for place, _, _ in os.walk(folder):
            Path(place).chmod(0o700)
        shutil.rmtree(folder)
