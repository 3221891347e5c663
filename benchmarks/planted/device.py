"""A device: the agent's updater, workers, store and evidence socket, a signed repository, and an app that runs.

Everything is the product's own but the link: the desired document, signed by a deployment key, is handed over instead
of being sent over MQTT.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from edgesdk_agent.evidence_socket import EvidenceSocket
from edgesdk_agent.ota.download import Downloader
from edgesdk_agent.ota.updater import Updater
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.records import StatementDraft
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.workers.client import ChildWorkers
from edgesdk_agent.workers.messages import Repository, VerifyDesired

from edgesdk.clock import SystemClock, rfc3339
from edgesdk.generation import TrialPolicy
from edgesdk.protocol.messages import DESIRED_TYPE, Desired, DesiredModel, MinTuf
from edgesdk.runtime.packages import installed
from edgesdk.targets.matching import Capabilities, architecture_name
from edgesdk.trust.dsse import sign_document
from edgesdk.trust.keys import generate_key, load_signer
from edgesdk.trust.repository import first_root, init_repository, publish_release
from planted.releases import MODEL

PATIENCE_S = 120.0
ENDS = {"committed", "failed", "rolled_back", "refused"}
POLICY = TrialPolicy(min_seconds=1.0, max_seconds=60.0, min_calls=600, testing_seconds=60.0)
"""600 calls: more than one round of the recordings, so that every window is seen."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a deployment ended on the device."""

    state: str
    code: str
    message: str
    evidence: dict[str, Any]
    seconds: float


@dataclass
class Device:
    """One device with its repository, in `folder`; `recordings` is what its app classifies again and again."""

    folder: Path
    recordings: Path
    policy: TrialPolicy = POLICY
    said: list[StatementDraft] = field(default_factory=list)
    serial: int = 0
    time_floor: str = ""
    accepted: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        public = generate_key(self.folder / "deployment.pem", None)
        init_repository(self.repo, self.folder / "keys", deployment_keys=(public,))
        (self.folder / "root.json").write_bytes(first_root(self.repo))
        handler = functools.partial(_Quiet, directory=str(self.repo))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.paths = Paths(self.folder / "agent")
        self.paths.make()
        self.workers = ChildWorkers()
        self.updater = self._updater()
        self.door = EvidenceSocket(self.paths.evidence_socket, self.updater.evidence)
        self.door.start()
        self.updater.resume()
        self.app = self._app()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.app.kill()
        self.app.wait()
        self.workers.stop()
        self.door.close()
        self.server.shutdown()
        self.server.server_close()

    @property
    def repo(self) -> Path:
        """The signed repository."""
        return self.folder / "repo"

    def publish(self, release: Path) -> None:
        """Sign and publish a release folder."""
        publish_release(self.repo, self.folder / "keys", release)

    def deploy(self, release: str) -> Ending:
        """Want a release and follow it to its end.

        Raises:
            TimeoutError: After `PATIENCE_S` seconds.
        """
        started, already = time.monotonic(), len(self.said)
        verified = self.workers.verify_desired(self._request(release))
        self.time_floor, self.accepted = verified.time_floor, (verified.payload_sha256, verified.keys_epoch)
        self.updater.offer(verified.desired, verified.offers)
        while time.monotonic() < started + PATIENCE_S:
            wait = self.updater.step()
            for draft in self.said[already:]:
                if draft.release == release and draft.state in ENDS and not _transient(draft):
                    return _ending(draft, time.monotonic() - started)
            time.sleep(min(wait, 0.05))
        raise TimeoutError(f"{release} did not end: {self.updater.snapshot()}")

    def app_memory(self) -> int:
        """Return the app's resident bytes."""
        return int(psutil.Process(self.app.pid).memory_info().rss)

    def _request(self, release: str) -> VerifyDesired:
        self.serial += 1
        clock = SystemClock()
        desired = Desired(
            fleet="bench",
            device="dev-1",
            serial=self.serial,
            issued_at=rfc3339(clock.now() - timedelta(seconds=1)),
            min_tuf=MinTuf(root=1, timestamp=1),
            models={MODEL: DesiredModel(release=release, deployment=f"d{self.serial}", policy=self.policy)},
        )
        return VerifyDesired(
            envelope=sign_document(DESIRED_TYPE, desired, load_signer(self.folder / "deployment.pem")),
            repository=Repository(
                url=f"http://127.0.0.1:{self.server.server_port}",
                tuf_dir=str(self.paths.tuf),
                root=str(self.folder / "root.json"),
                now=rfc3339(clock.now()),
            ),
            device="dev-1",
            fleet="bench",
            serial_floor=self.serial - 1 if self.accepted else 0,
            accepted_sha256=self.accepted[0] if self.accepted else None,
            keys_epoch=self.accepted[1] if self.accepted else None,
            time_floor=self.time_floor,
        )

    def _updater(self) -> Updater:
        import platform  # noqa: PLC0415 - with its only user

        able = Capabilities(architecture=architecture_name(platform.machine()), runtimes=installed())
        return Updater(
            paths=self.paths,
            state=StateDb(self.paths.state_db, on_full=Reserve(self.paths.reserve).give_up),
            workers=self.workers,
            download=Downloader(timeout=20),
            capabilities=lambda: able,
            clock=SystemClock(),
            emit=self.said.append,
            boot_id="boot-1",
            run_id="run-1",
        )

    def _app(self) -> subprocess.Popen[bytes]:
        """Start an app that calls `edgesdk.Model` without a pause to speak of."""
        arguments = ("--store", str(self.paths.store), "--recordings", str(self.recordings), "--pause", "0.0005")
        log = (self.folder / "app.log").open("wb")
        return subprocess.Popen(
            [sys.executable, "-m", "edgesdk.demo.app", *arguments, "--log", str(self.folder / "calls.jsonl")],
            stdout=log, stderr=log,
        )  # fmt: skip


def _transient(draft: StatementDraft) -> bool:
    return draft.state == "failed" and draft.reason is not None and not draft.reason.permanent


def _ending(draft: StatementDraft, seconds: float) -> Ending:
    reason = draft.reason
    return Ending(
        state=draft.state,
        code=reason.code if reason else "",
        message=reason.message if reason else "",
        evidence=draft.evidence,
        seconds=seconds,
    )
