"""A real hub on a real repository, and devices that speak the real protocol."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from edgesdk.bundle.manifest import (
    RELEASE_SCHEMA,
    ReleaseIndex,
    Requirements,
    RuntimeRequirement,
    VariantEntry,
    release_target,
)
from edgesdk.canonical import canonical_json
from edgesdk.clock import Clock, SystemClock, rfc3339
from edgesdk.fleet.client import HubClient
from edgesdk.fleet.controller import broker_link
from edgesdk.fleet.folder import HubFolder, Running
from edgesdk.fleet.hub import Hub, Options
from edgesdk.protocol import topics
from edgesdk.protocol.link import Link, LinkTLS, Message
from edgesdk.protocol.messages import (
    COMMAND_TYPE,
    DESIRED_TYPE,
    STATEMENT_TYPE,
    Command,
    Desired,
    DesiredModel,
    Presence,
    Reason,
    Reply,
    Statement,
    StateReport,
    decode,
    encode,
)
from edgesdk.trust.change import Options as ChangeOptions
from edgesdk.trust.change import change
from edgesdk.trust.dsse import sign_document, verify_document
from edgesdk.trust.enrolment import STATEMENT_KEY, TLS_KEY, EnrolResponse, Token, make_request, parse_token
from edgesdk.trust.keyring import KeyRing
from edgesdk.trust.keys import load_signer
from edgesdk.trust.repository import init_repository, set_deployment_keys

WAIT = 30.0
"""Seconds after which a test gives up; nothing waits for so long when things work."""


def _wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value once it is true."""
    step, waited = threading.Event(), 0.0
    while not (value := condition()):
        step.wait(0.05)
        waited += 0.05
        assert waited < WAIT, f"waited in vain for {what}"
    return value


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Any], str], Any]:
    """Return the function that waits for a condition and returns its value."""
    return _wait_for


@dataclass
class Site:
    """A repository and a hub's folder that belong together."""

    path: Path
    repo: Path
    keys: Path
    folder: HubFolder

    def publish(self, model: str, release: str) -> None:
        """List a release in the repository."""
        runtime = RuntimeRequirement(name="tflite", min_version="2.14")
        needs = Requirements(runtimes=(runtime,), architectures=("x86_64",))
        entry = VariantEntry(
            variant="linux", target="linux-x86_64-cpu", bundle="linux.edge", size=1, sha256="0" * 64, requirements=needs
        )
        index = ReleaseIndex(
            schema=RELEASE_SCHEMA,
            model=model,
            release=release,
            built_at="2026-11-01T00:00:00Z",
            contract_version="1.0",
            variants=(entry,),
        )
        with change(self.repo, KeyRing(self.keys, None), ChangeOptions()) as made:
            made.put(release_target(model, release), canonical_json(index))
            made.commit("targets")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Make a repository with digits 1.0.0 to 3.0.0 that accepts the hub's key."""
    return _make_site(tmp_path)


def _make_site(path: Path) -> Site:
    repo, keys = path / "repo", path / "keys"
    folder = HubFolder.create(path / "hub", fleet="lab")
    init_repository(repo, keys)
    set_deployment_keys(repo, keys, [folder.deployment_public])
    made = Site(path, repo, keys, folder)
    for release in ("1.0.0", "2.0.0", "3.0.0"):
        made.publish("digits", release)
    return made


@pytest.fixture(params=["devbroker", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request: pytest.FixtureRequest) -> str:
    """Name each broker in turn."""
    return str(request.param)


@dataclass
class LiveHub:
    """A running hub and a client of it."""

    hub: Hub
    running: Running
    client: HubClient
    client_token: str

    def raw(self, token: str | None = None) -> httpx.Client:
        """Return a bare HTTP client of the API."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        verify = ssl.create_default_context(cafile=self.running.ca) if self.running.ca else True
        return httpx.Client(base_url=self.running.url, headers=headers, trust_env=False, timeout=WAIT, verify=verify)

    def end(self, rollout: str) -> dict[str, Any]:
        """Return a rollout once it has ended."""

        def ended() -> dict[str, Any] | None:
            found = self.client.rollout(rollout)
            return found if found["state"] in {"done", "halted", "rolled_back"} else None

        return _wait_for(ended, f"the end of {rollout}")

    def deploy(self, release: str, devices: list[SimDevice], **body: Any) -> dict[str, Any]:
        """Deploy digits."""
        ids = [device.id for device in devices]
        return self.client.post("/rollouts", {"model": "digits", "release": release, "devices": ids, **body})

    def device(self, device: SimDevice) -> dict[str, Any]:
        """Describe a device."""
        return self.client.get(f"/devices/{device.id}")

    def rejected(self, code: str) -> int:
        """Return how many messages were rejected with this code."""
        text = self.raw(self.client_token).get("/metrics").text
        found = re.search(rf'^edge_rejected_messages_total{{code="{code}"}} (\d+)$', text, re.MULTILINE)
        return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def quiet_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Make a site for tests that change nothing on it."""
    return _make_site(tmp_path_factory.mktemp("quiet"))


@pytest.fixture(scope="module")
def quiet_hub(quiet_site: Site) -> Iterator[LiveHub]:
    """Start one hub for all tests of a module that only ask it."""
    with Hub(quiet_site.folder, Options(repo=quiet_site.repo, broker="devbroker")) as hub:
        running, token = hub.start(), quiet_site.folder.admin_token()
        with HubClient(running.url, token) as client:
            yield LiveHub(hub, running, client, token)


@pytest.fixture
def start_hub(site: Site) -> Iterator[Callable[..., LiveHub]]:
    """Start hubs on the site; they stop with the test."""
    started: list[LiveHub] = []

    def start(*, clock: Clock | None = None, **options: Any) -> LiveHub:
        hub = Hub(site.folder, Options(repo=site.repo, **({"broker": "devbroker"} | options)), clock=clock)
        running = hub.start()
        ca = Path(running.ca) if running.ca else None
        token = site.folder.admin_token()
        started.append(LiveHub(hub, running, HubClient(running.url, token, ca=ca), token))
        return started[-1]

    yield start
    for each in started:
        each.client.close()
        each.hub.stop()


Behaviour = Callable[[DesiredModel], str]


@dataclass
class SimDevice:
    """A device in this process: enrolled over HTTP, on the broker, signing with its own key; it runs no model.

    `behave` answers each desired model with the state that the deployment ends in; an empty text is silence.
    """

    folder: Path
    identity: EnrolResponse
    behave: Behaviour
    deployment_keys: list[Any]
    counter: int = 0
    serial: int = 0
    good: dict[str, str] = field(default_factory=dict)
    desired: list[Desired] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: list[Message] = field(default_factory=list)
    reply: Callable[[Command], Reply | None] | None = None
    link: Link | None = None

    @property
    def id(self) -> str:
        """The device's id."""
        return self.identity.device

    def connect(self, *, ca: Path | None = None) -> SimDevice:
        """Go online and say so."""
        tls = None
        if ca is not None:
            cert = self.folder / "device.pem"
            cert.write_text(self.identity.certificate_pem)
            tls = LinkTLS(ca=ca, cert=cert, key=self.folder / TLS_KEY)
        host, port, files = broker_link(self.identity.broker_url, tls)
        self.link = Link(host, port, self.id, tls=files, clean_start=False, on_message=self._message)
        self.link.start()
        assert self.link.wait_online(WAIT)
        for channel in ("desired", "cmd"):
            self.link.subscribe(topics.down("lab", self.id, channel)).result(WAIT)
        self.say_online()
        return self

    def say_online(self) -> Future[int]:
        """Tell the fleet that the device is there."""
        return self._presence(online=True)

    def say_offline(self) -> Future[int]:
        """Tell the fleet what the last will tells."""
        return self._presence(online=False)

    def _presence(self, *, online: bool) -> Future[int]:
        now = rfc3339(SystemClock().now())
        presence = Presence(device=self.id, fleet="lab", online=online, run="run", ts=now, agent="sim")
        return self.send("presence", encode(presence), retain=True)

    def disconnect(self) -> None:
        """Go offline without a word."""
        if self.link is not None:
            self.link.stop()

    def statement(self, model: str, wanted: DesiredModel, state: str, **fields: Any) -> Statement:
        """Make the next statement."""
        self.counter += 1
        bad = state in {"rolled_back", "failed"}
        known: dict[str, Any] = {
            "device": self.id,
            "fleet": "lab",
            "enrolment": self.identity.enrolment,
            "model": model,
            "deployment": wanted.deployment,
            "serial": self.serial,
            "release": wanted.release,
            "generation": None,
            "state": state,
            "good": None,
            "good_release": self.good.get(model),
            "serving": "good",
            "counter": self.counter,
            "run": "run",
            "boot": "boot",
            "ts": rfc3339(SystemClock().now()),
            "time_floor": rfc3339(SystemClock().now()),
            "reason": Reason(code="trial-evidence", message="NaN", permanent=True) if bad else None,
        }
        return Statement(**(known | fields))

    def sign(self, statement: Statement) -> dict[str, Any]:
        """Sign with the device's statement key."""
        return sign_document(STATEMENT_TYPE, statement, load_signer(self.folder / STATEMENT_KEY))

    def report(self, model: str, envelope: dict[str, Any]) -> Future[int]:
        """Publish the state with this statement in it."""
        self.latest[model] = envelope
        report = StateReport(device=self.id, fleet="lab", statements=self.latest)
        return self.send("state", encode(report), retain=True)

    def send(self, channel: topics.Up, payload: bytes, *, retain: bool = False) -> Future[int]:
        """Publish on one of the device's own topics."""
        assert self.link is not None
        return self.link.publish(topics.up("lab", self.id, channel), payload, retain=retain).future

    def answer_to(self, command: Command, **fields: Any) -> Reply:
        """Make the reply to a command: to all is well, whatever `fields` do not say otherwise."""
        known = {"device": self.id, "fleet": "lab", "id": command.id, "ok": True, "ts": "", "result": {"pong": True}}
        return Reply(**(known | fields))

    def command(self, message: Message) -> Command:
        """Verify a command as a device does."""
        return decode(verify_document(message.payload, COMMAND_TYPE, self.deployment_keys), Command)

    def _command(self, message: Message) -> None:
        self.commands.append(message)
        command = self.command(message)
        made = (self.reply or self.answer_to)(command)
        if made is not None:
            self.send("reply", encode(made))

    def _message(self, message: Message) -> None:
        if message.topic == topics.down("lab", self.id, "cmd"):
            self._command(message)
            return
        payload = verify_document(message.payload, DESIRED_TYPE, self.deployment_keys)
        desired = decode(payload, Desired)
        assert (desired.fleet, desired.device) == ("lab", self.id)
        if desired.serial < self.serial:
            self.refused.append(desired.serial)
            return
        if desired.serial == self.serial:
            return
        before = self.desired[-1].models if self.desired else {}
        self.serial = desired.serial
        self.desired.append(desired)
        for model, wanted in desired.models.items():
            if wanted != before.get(model):
                self.answer(model, wanted)

    def answer(self, model: str, wanted: DesiredModel) -> None:
        """End a deployment as `behave` says."""
        state = self.behave(wanted)
        if not state:
            return
        if state == "committed" and wanted.release is not None:
            self.good[model] = wanted.release
        self.report(model, self.sign(self.statement(model, wanted, state)))


@pytest.fixture
def enrol(site: Site) -> Iterator[Callable[..., SimDevice]]:
    """Enrol devices with a hub; they disconnect with the test."""
    made: list[SimDevice] = []

    def make(running: LiveHub, name: str = "cam", behave: Behaviour | None = None) -> SimDevice:
        token = parse_token(running.client.post("/tokens")["token"])
        folder = site.path / f"device-{len(made)}"
        identity = enrol_over_http(running, token, folder, name)
        keys = [site.folder.deployment_public]
        made.append(SimDevice(folder, identity, behave or (lambda _: "committed"), keys))
        return made[-1]

    yield make
    for device in made:
        device.disconnect()


@pytest.fixture
def simulated() -> Iterator[Callable[[HubFolder, Token, Behaviour], SimDevice]]:
    """Enrol and connect a device that knows nothing but a token; it disconnects with the test."""
    made: list[SimDevice] = []

    def make(hub: HubFolder, token: Token, behave: Behaviour) -> SimDevice:
        folder = hub.path.parent / f"device-{len(made)}"
        request = msgspec.json.encode(make_request(token, folder, "cam"))
        answer = httpx.post(f"{token.hub}/api/v1/enroll", content=request, trust_env=False, timeout=WAIT)
        identity = msgspec.json.decode(answer.content, type=EnrolResponse)
        made.append(SimDevice(folder, identity, behave, [hub.deployment_public]).connect())
        return made[-1]

    yield make
    for device in made:
        device.disconnect()


def enrol_over_http(running: LiveHub, token: Token, folder: Path, name: str) -> EnrolResponse:
    """Send an enrolment request and return the answer."""
    request = make_request(token, folder, name)
    with running.raw() as http:
        answer = http.post("/api/v1/enroll", content=msgspec.json.encode(request))
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=EnrolResponse)


@pytest.fixture
def edge() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command `edge` as a user would; what still runs at the end is terminated, with its broker."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        started.append(_edge(*arguments, **environment))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=WAIT)


def _edge(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from edgesdk.cli.main import main; main()", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
