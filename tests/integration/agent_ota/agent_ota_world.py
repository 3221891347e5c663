"""A small world for the updater's tests: real files, a real HTTP server, scripted children, a clock that tests move.

A "bundle" here is a JSON document whose ``content`` says how the release behaves: ``good``, ``worse`` (testing refuses
it), ``crash`` (testing dies), ``nan`` (apps see NaN), ``truncated`` (the trust worker refuses it).
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from edgesdk_agent.boots import End
from edgesdk_agent.ota.backoff import Backoff
from edgesdk_agent.ota.download import Downloader
from edgesdk_agent.ota.preflight import Needs, NotNow
from edgesdk_agent.ota.updater import Updater
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.records import StatementDraft
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.workers.messages import (
    Judgement,
    JudgeNewcomer,
    Offer,
    TargetFile,
    VerifiedBundle,
    VerifyBundle,
)

from edgesdk.bundle.manifest import ReleaseIndex, Requirements, RuntimeRequirement, VariantEntry
from edgesdk.errors import DeploymentError, ReleaseError, TrustError
from edgesdk.generation import TrialPolicy, generation_dir, generation_id, read_slots
from edgesdk.protocol.evidence import Counters, Evidence
from edgesdk.protocol.messages import Desired, DesiredModel, MinTuf, Reason
from edgesdk.targets.matching import Capabilities, InstalledRuntime

MODEL = "wearable"
POLICY = TrialPolicy(min_seconds=1, max_seconds=100, min_calls=10, max_bad_rate=0.01)
CAPABILITIES = Capabilities(
    architecture="x86_64", runtimes=(InstalledRuntime(name="onnxruntime", package="onnxruntime", version="1.32.0"),)
)


class RangeServer:
    """Serves bytes by path with ETag, Range and If-Range, counts what it sends, and can misbehave.

    Attributes:
        files: Contents by path.
        sent: Body bytes sent so far.
        requests: (path, Range header) of every request.
        cut_after: Close the connection after so many body bytes of each answer; None: never.
        status: Answer everything with this status; None: properly.
        ignore_range: Answer ranges with the whole file, as `http.server` does.
        salt: Part of every ETag; change it to change all validators.
        redirect: Answer everything with a redirect to this address; None: properly.
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.sent = 0
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.status: int | None = None
        self.ignore_range = False
        self.salt = ""
        self.redirect: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(world) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                world.requests.append((self.path, wanted))
                data = world.files.get(self.path)
                if world.redirect:
                    self.send_response(302)
                    self.send_header("Location", world.redirect)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if world.status or data is None:
                    self.send_response(world.status or 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                etag = f'"{hashlib.sha256(data + world.salt.encode()).hexdigest()[:16]}"'
                start = 0
                if wanted and not world.ignore_range and self.headers.get("If-Range") in {None, etag}:
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.send_header("ETag", etag)
                self.end_headers()
                body = data[start:]
                if world.cut_after is not None:
                    body = body[: world.cut_after]
                    self.close_connection = True
                self.wfile.write(body)
                world.sent += len(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class ScriptedWorkers:
    """Stands in for the children: verifies and judges the JSON "bundles" of this world."""

    def __init__(self) -> None:
        self.judged: list[JudgeNewcomer] = []

    def verify_bundle(self, request: VerifyBundle) -> VerifiedBundle:
        data = Path(request.path).read_bytes()
        if len(data) != request.length or hashlib.sha256(data).hexdigest() != request.sha256:
            raise TrustError("tuf-target-mismatch", "the file is not the one that was signed")
        bundle = json.loads(data)
        if bundle["content"] == "truncated":
            raise ReleaseError("bundle-truncated", "the bundle ends early")
        destination = Path(request.destination)
        (destination / "golden").mkdir(parents=True)
        (destination / "model.json").write_bytes(data)
        (destination / "golden" / "truth.txt").write_text(bundle["content"])
        return VerifiedBundle(
            release=bundle["release"],
            variant=bundle["variant"],
            contract_version="1.0",
            unpacked_bytes=len(data),
        )

    def test(self, request: JudgeNewcomer) -> Judgement:
        self.judged.append(request)
        content = (Path(request.newcomer) / "golden" / "truth.txt").read_text()
        if content == "crash":
            raise DeploymentError("testing-crashed", "the child died of signal 11")
        if content == "worse":
            reason = Reason(code="golden-truth-loss", message="loses 30 of 200 examples", permanent=True)
            return Judgement(passed=False, reason=reason)
        return Judgement(passed=True, backend="scripted")


class ManualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.seconds, UTC)


class World:
    """One device, its repository, and the updater under test."""

    def __init__(self, root: Path, server: RangeServer, *, on_enter: Callable[[str], None] = lambda _: None) -> None:
        self.paths = Paths(root)
        self.paths.make()
        self.server = server
        self.clock = ManualClock()
        self.workers = ScriptedWorkers()
        self.emitted: list[StatementDraft] = []
        self.asked_again = 0
        self.serial = 0
        self.boots = 0
        self.seq = 0
        self.on_enter = on_enter
        self.contents: dict[str, str] = {}
        self.asked_needs: list[Needs] = []
        self.not_now: NotNow | None = None
        self.start()

    def start(self, *, boot: str | None = None, ended: End = "killed") -> None:
        """Start the agent's updater, as after a crash or a reboot."""
        self.boots += 1
        reserve = Reserve(self.paths.reserve)
        self.state = StateDb(self.paths.state_db, on_full=reserve.give_up)
        self.updater = Updater(
            paths=self.paths,
            state=self.state,
            workers=self.workers,
            download=Downloader(timeout=5),
            capabilities=lambda: CAPABILITIES,
            clock=self.clock,
            emit=self.emitted.append,
            boot_id=boot or f"boot-{self.boots}",
            run_id=f"run-{self.boots}",
            ended=ended,
            backoff=Backoff(lambda: 0.5),
            preflight=self._may_begin,
            ask_again=self._count_asking,
            on_enter=self.on_enter,
        )
        self.updater.resume()

    def _may_begin(self, needs: Needs) -> NotNow | None:
        self.asked_needs.append(needs)
        return self.not_now

    def _count_asking(self) -> None:
        self.asked_again += 1

    def publish(self, release: str, content: str = "good", *, size: int = 0, runtime: str = "onnxruntime") -> Offer:
        """Publish a release with one variant; return the offer that the trust worker would make of it."""
        document = {"release": release, "variant": "cpu", "content": content, "padding": "x" * size}
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        self.contents[digest] = content
        path = f"/targets/{digest}.bundle"
        self.server.files[path] = data
        requirements = Requirements(
            runtimes=(RuntimeRequirement(name=runtime, min_version="1.0"),), architectures=("x86_64",)
        )
        entry = VariantEntry(
            variant="cpu",
            target="linux-x86_64-cpu",
            bundle="cpu.edge",
            size=len(data),
            sha256=digest,
            requirements=requirements,
        )
        index = ReleaseIndex(
            schema="edge.release/1",
            model=MODEL,
            release=release,
            built_at="2026-11-23T00:00:00.000Z",
            contract_version="1.0",
            variants=(entry,),
        )
        target = TargetFile(path=path, url=self.server.url + path, length=len(data), sha256=digest)
        return Offer(index=index, targets={"cpu.edge": target})

    def generation(self, offer: Offer, policy: TrialPolicy = POLICY) -> str:
        assert offer.index
        return generation_id(offer.index.variants[0].sha256, {}, policy)

    def ask(self, offer: Offer | None, *, deployment: str = "", paused: bool = False, retry: bool = False) -> Desired:
        """Want this release (None: no release) in a new desired document."""
        self.serial += 1
        release = offer.index.release if offer and offer.index else ("9.9.9" if offer else None)
        wanted = DesiredModel(
            release=release,
            deployment=deployment or f"d{self.serial}",
            policy=POLICY,
            retry_quarantined=retry,
        )
        desired = Desired(
            fleet="f",
            device="d",
            serial=self.serial,
            issued_at="2026-11-23T00:00:00.000Z",
            min_tuf=MinTuf(root=1, timestamp=1),
            models={MODEL: wanted},
            paused=paused,
        )
        self.updater.offer(desired, {MODEL: offer} if offer else {})
        return desired

    def run(self, *until: str, steps: int = 60) -> str:
        """Step until the model is in one of these states; time passes as the updater asks."""
        for _ in range(steps):
            if self.current() in until:
                return self.current()
            wait = self.updater.step()
            self.clock.seconds += min(wait, 1000.0)
        raise AssertionError(f"still {self.current()!r} after {steps} steps, wanted {until}")

    def settle(self, steps: int = 60) -> str:
        """Step until nothing is to be done at once; return the state."""
        for _ in range(steps):
            if self.updater.step() > 0:
                return self.current()
        raise AssertionError(f"does not settle: {self.current()!r}")

    def current(self) -> str:
        status = self.updater.snapshot().get(MODEL)
        return status.state if status else "idle"

    def slots(self):
        return read_slots(self.paths.store, MODEL)

    def say(
        self,
        kind: str,
        generation: str,
        *,
        session: str = "session-1",
        pid: int = 0,
        app: str = "app",
        reason: dict[str, str] | None = None,
        **counters: object,
    ) -> None:
        """Let an app say something."""
        self.seq += 1
        self.updater.evidence(
            Evidence(
                v=1,
                kind=kind,
                app=app,
                pid=pid or os.getpid(),
                session=session,
                seq=self.seq,
                model=MODEL,
                generation=generation,
                counters=Counters(**counters),
                reason=reason,
            )
        )

    def live(self, generation: str) -> None:
        """Let an app run the generation for a while, as its content makes it behave."""
        bundle = json.loads((generation_dir(self.paths.store, generation) / "model.json").read_bytes())
        self.say("loaded", generation, session=f"s-{generation[:16]}")
        self.updater.step()
        self.clock.seconds += 2
        nan = 50 if bundle["content"] == "nan" else 0
        self.say("counters", generation, session=f"s-{generation[:16]}", calls=100, nan=nan)

    def finish(self, steps: int = 60) -> str:
        """Step until the deployment is over, with an app that runs whatever is served."""
        for _ in range(steps):
            status = self.updater.snapshot().get(MODEL)
            if status and status.state == "trial" and status.trial:
                self.live(status.trial)
            wait = self.updater.step()
            status = self.updater.snapshot().get(MODEL)
            if status is None:
                return "idle"
            over = status.state in {"idle", "refused", "committed", "rolled_back"}
            if wait > 0 and (over or (status.state == "failed" and status.reason and status.reason.permanent)):
                return status.state
            self.clock.seconds += min(wait, 1000.0)
        raise AssertionError(f"not over after {steps} steps: {self.updater.snapshot()}")

    def check_whole(self) -> None:
        """What apps are served is whole: every file of it, with the contents that were signed."""
        slots = self.slots()
        if slots is None or slots.serving is None:
            return
        folder = generation_dir(self.paths.store, slots.serving)
        record = json.loads((folder / "generation.json").read_bytes())
        data = (folder / "model.json").read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["bundle_sha256"]
        assert (folder / "golden" / "truth.txt").read_text() == json.loads(data)["content"]

    def check_truth(self) -> None:
        """What was stated last is what is served."""
        stated, slots = self.state.latest_drafts().get(MODEL), self.slots()
        if stated and slots:
            assert (stated.good, stated.serving) == (slots.good, slots.serve)
            assert stated.state == self.current()
