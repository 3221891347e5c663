"""One device of the explorer's world: the real agent's store, state, downloads and updater, with scripted testing.

Real: `Updater` and all below it, `StateDb` on SQLite, `Downloader` over HTTP, the trust worker's `verify_bundle` (here
called in this process, so that its file system calls are explored too). Scripted: the judgement of a newcomer, the
app that says how it does, signatures, and the clock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from edgesdk_agent.ota import download
from edgesdk_agent.ota.backoff import Backoff
from edgesdk_agent.ota.status import ModelStatus
from edgesdk_agent.ota.updater import Updater
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.records import Accepted
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.workers import trust
from edgesdk_agent.workers.messages import Judgement, JudgeNewcomer, Offer, VerifiedBundle, VerifyBundle

from crash.repository import CONTENTS, MODEL, offer_of
from edgesdk.errors import DeploymentError, EdgeError
from edgesdk.generation import TrialPolicy, generation_dir, generation_id
from edgesdk.protocol.evidence import Counters, Evidence
from edgesdk.protocol.messages import Desired, DesiredModel, MinTuf, Reason
from edgesdk.targets.matching import Capabilities, InstalledRuntime

POLICY = TrialPolicy(min_seconds=1, max_seconds=100, min_calls=10, max_bad_rate=0.01)
CAPABILITIES = Capabilities(
    architecture="x86_64", runtimes=(InstalledRuntime(name="onnxruntime", package="onnxruntime", version="1.32.0"),)
)
UPDATER_FAILED_S = 5.0
MAX_STEPS = 80
OVER = {"idle", "refused", "committed", "rolled_back"}
SYNC_BYTES = CHUNK = 8 * 1024  # the agent's own are larger; with these a small download is synced on its way too


@dataclass(frozen=True, slots=True)
class Want:
    """What a desired document asks for.

    Attributes:
        release: None: no release of the model.
        config: Runtime options; part of the generation.
        anchored: The model's policy names an anchor set.
    """

    release: str | None
    config: str = ""
    anchored: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return {"threads": self.config} if self.config else {}


class ScriptedWorkers:
    """The trust worker's verification for real, the testing worker's verdict from the bundle."""

    def verify_bundle(self, request: VerifyBundle) -> VerifiedBundle:
        try:
            return trust.verify_bundle(request)
        except EdgeError:
            raise
        except OSError as error:  # the real worker is a child: its errors arrive as this one
            raise DeploymentError("worker-failed", f"the trust worker failed: {error}") from error

    def test(self, request: JudgeNewcomer) -> Judgement:
        behaviour = json.loads((Path(request.newcomer) / "golden" / "behaviour.json").read_bytes())
        if behaviour["content"] == "worse":
            reason = Reason(code="golden-truth-loss", message="loses 30 of 200 examples", permanent=True)
            return Judgement(passed=False, reason=reason)
        return Judgement(passed=True, backend="scripted")


class ManualClock:
    """Time that passes when the explorer says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.seconds, UTC)


class Device:
    """One run of the agent on a folder.

    Args:
        root: The agent's folder.
        bundles: Folder of the bundles; `url` serves it.
        note: Called with every fact that leaves the device, and with what the explorer wants to know.
        life: Number of this run; boots and runs are named by it.
    """

    def __init__(self, root: Path, bundles: Path, url: str, *, note: Callable[[Any], None], life: int = 1) -> None:
        self.paths = Paths(root)
        self.clock = ManualClock()
        self._bundles, self._url, self._note = bundles, url, note
        self._seq = self._serial = 0
        self._removal = False
        self._received: tuple[Accepted, Desired, dict[str, Offer]] | None = None
        download.CHUNK, download.SYNC_BYTES = CHUNK, SYNC_BYTES
        self.paths.make()
        reserve = Reserve(self.paths.reserve)
        self.state = StateDb(self.paths.state_db, on_full=reserve.give_up)
        self.updater = Updater(
            paths=self.paths,
            state=self.state,
            workers=ScriptedWorkers(),
            download=download.Downloader(timeout=20),
            capabilities=lambda: CAPABILITIES,
            clock=self.clock,
            emit=lambda draft: note({"stated": msgspec.to_builtins(draft)}),
            boot_id=f"boot-{life}",
            run_id=f"run-{life}",
            backoff=Backoff(lambda: 0.5),
            on_enter=lambda what: note({"entered": what}),
        )
        self.updater.resume()
        note({"resumed": self.state.rebuilt})

    # ---- what the hub does --------------------------------------------------------------------------------------

    def ask(self, want: Want, serial: int) -> None:
        """Receive a desired document; as in the intake it is made durable, then offered, and tried until it is."""
        accepted = Accepted(
            envelope={"payload": str(serial)},
            serial=serial,
            payload_sha256=f"{serial:064x}",
            keys_epoch=1,
            time_floor="2026-11-23T00:00:00.000Z",
        )
        offers = {}
        if want.release is not None:
            offers[MODEL] = offer_of(self._bundles, self._url, want.release, anchored=want.anchored)
        wanted = DesiredModel(release=want.release, deployment=f"d{serial}", policy=POLICY, config=want.options)
        desired = Desired(
            fleet="f",
            device="d",
            serial=serial,
            issued_at="2026-11-23T00:00:00.000Z",
            min_tuf=MinTuf(root=1, timestamp=1),
            models={MODEL: wanted},
        )
        self._serial = serial
        self._removal = want.release is None
        self._received = (accepted, desired, offers)
        self._accept()

    def _accept(self) -> None:
        if self._received is None:
            return
        accepted, desired, offers = self._received
        try:
            self.state.accept(accepted)
        except Exception as error:  # noqa: BLE001 - the intake logs it and reads the document again
            self._note({"raised": f"accept: {error!r}"})
            return
        self._note({"accepted": accepted.serial})
        self._received = None
        self.updater.offer(desired, offers)

    def publish(self) -> None:
        """Sign and send statements, as the supervisor does between steps; it tries again after any error."""
        try:
            self.state.attach_envelopes({draft.counter: {"signed": True} for draft in self.state.unsigned()})
            sent = [draft.counter for draft, _ in self.state.unsent()]
            if sent:
                self._note({"sent": max(sent)})
                self.state.mark_sent(sent)
        except Exception as error:  # noqa: BLE001 - whatever an injected error becomes
            self._note({"raised": f"publish: {error!r}"})

    # ---- what passes --------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The model's state."""
        found = self.updater.snapshot().get(MODEL)
        return found.state if found else "idle"

    def step(self) -> float:
        """Do one step as the supervisor's thread does; return how long it waits (0: not at all, or after an error)."""
        self._accept()
        try:
            wait = self.updater.step()
        except Exception as error:  # noqa: BLE001 - as the supervisor
            self._note({"raised": f"step: {error!r}"})
            self.clock.seconds += UPDATER_FAILED_S
            wait = 0.0
        self.publish()
        return wait

    def run_until(self, *states: str) -> None:
        """Step until the model is in one of these states."""
        for _ in range(MAX_STEPS):
            if self.status in states:
                return
            self.clock.seconds += min(self.step(), 1000.0)

    def finish(self) -> str:
        """Step, with an app that runs whatever is served, until the deployment is over; return its state."""
        for _ in range(MAX_STEPS):
            try:
                found = self.updater.snapshot().get(MODEL)
            except Exception as error:  # noqa: BLE001 - a status that cannot be told now
                self._note({"raised": f"snapshot: {error!r}"})
                found = None
            if found and found.state == "trial" and found.trial:
                self._live(found.trial)
            wait = self.step()
            found = self.updater.snapshot().get(MODEL)
            if wait > 0 and found and found.serial == self._serial and _over(found, removal=self._removal):
                return found.state
            self.clock.seconds += min(wait, 1000.0)
        return f"not over: {self.status}"

    def _live(self, generation: str) -> None:
        """Let an app run the generation on trial."""
        self._say("loaded", generation)
        self.step()
        self.clock.seconds += 2
        behaviour = generation_dir(self.paths.store, generation) / "golden" / "behaviour.json"
        content = json.loads(behaviour.read_bytes())["content"] if behaviour.exists() else "good"
        self._say("counters", generation, calls=100, nan=50 if content == "nan" else 0)

    def _say(self, kind: Any, generation: str, **counters: Any) -> None:
        self._seq += 1
        said = Evidence(
            v=1,
            kind=kind,
            app="app",
            pid=os.getpid(),
            session=f"s-{generation[:16]}",
            seq=self._seq,
            model=MODEL,
            generation=generation,
            counters=Counters(**counters),
        )
        self.updater.evidence(said)

    def close(self) -> None:
        """End as a process does."""
        self.state.close()


def _over(found: ModelStatus, *, removal: bool) -> bool:
    if removal and found.state == "committed":
        return False  # it waits for room to write that nothing is served any more
    return found.state in OVER or bool(found.state == "failed" and found.reason and found.reason.permanent)


def generation_of(bundles: Path, want: Want) -> str | None:
    """Return the generation that a want makes."""
    if want.release is None:
        return None
    bundle = offer_of(bundles, "", want.release).targets["cpu.edge"]
    return generation_id(bundle.sha256, want.options, POLICY)


def may_be_good(release: str) -> bool:
    """Return whether a release deserves a commit."""
    return CONTENTS[release] == "good"
