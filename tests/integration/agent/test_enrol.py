"""Enrolment against a hub on loopback, over HTTP and over TLS, honest and not."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgesdk_agent.enrol import enrol
from edgesdk_agent.identity import Identity, load_identity
from edgesdk_agent.lock import only_agent
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.state import StateDb

from edgesdk.canonical import sha256_hex
from edgesdk.clock import SystemClock, rfc3339
from edgesdk.errors import ConfigError, DeploymentError, LinkError, TrustError
from edgesdk.trust.ca import Authority, init_ca
from edgesdk.trust.enrolment import EnrolRequest, EnrolResponse, Token, check_request

ROOT_JSON = '{"signed": {}}'


@dataclass
class Hub:
    """Answers as the hub does; `change` spoils its answer."""

    authority: Authority
    server: ThreadingHTTPServer
    tls: bool
    change: Callable[[EnrolResponse], EnrolResponse] = lambda answer: answer
    refusal: dict[str, str] | None = None
    ca_pem: bytes | None = None
    requests: list[EnrolRequest] = field(default_factory=list)

    def token(self, **changes: Any) -> str:
        scheme = "https" if self.tls else "http"
        base = Token(
            hub=f"{scheme}://127.0.0.1:{self.server.server_address[1]}",
            fleet="lab",
            ca_sha256=self.authority.sha256,
            root_sha256=sha256_hex(ROOT_JSON.encode()),
            secret=secrets.token_urlsafe(32),
            expires_at=rfc3339(datetime.now(UTC) + timedelta(hours=1)),
        )
        return msgspec.structs.replace(base, **changes).to_text()

    def answer(self, request: EnrolRequest) -> EnrolResponse:
        checked = check_request(request)
        self.requests.append(request)
        return self.change(
            EnrolResponse(
                device="dev-1",
                fleet="lab",
                enrolment=f"e-{len(self.requests)}",
                certificate_pem=self.authority.issue_device(checked.csr_pem, "dev-1").decode(),
                ca_pem=self.authority.certificate_pem.decode(),
                broker_url="mqtts://127.0.0.1:8883",
                repository_url="https://127.0.0.1/repo/",
                root_json=ROOT_JSON,
            )
        )


@pytest.fixture(params=["http", "https"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    authority = init_ca(tmp_path / "ca")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            assert self.path == "/api/v1/ca"
            self._send(200, made.ca_pem or authority.certificate_pem)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if made.refusal:
                self._send(403, json.dumps({"error": made.refusal}).encode())
            else:
                answer = made.answer(msgspec.json.decode(body, type=EnrolRequest))
                self._send(200, msgspec.json.encode(answer))

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust us hangs up: that is its right."""

    server = Server(("127.0.0.1", 0), Handler)
    tls = request.param == "https"
    if tls:
        issued = authority.issue_server(["127.0.0.1"])
        (tmp_path / "server.pem").write_bytes(issued.key_pem + issued.certificate_pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "server.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    made = Hub(authority, server, tls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def take_part(paths: Paths, token: str, *, force: bool = False) -> Identity:
    return enrol(paths, token, name="bench 1", force=force, clock=SystemClock())


def test_a_device_gets_an_identity(hub: Hub, tmp_path: Path) -> None:
    """Identity, certificate, authority and root are kept; private files are private; keys never left."""
    paths = Paths(tmp_path / "device")
    identity = take_part(paths, hub.token())
    assert load_identity(paths) == identity
    assert (identity.device, identity.fleet, identity.enrolment) == ("dev-1", "lab", "e-1")
    assert {file.name for file in paths.keys.iterdir()} == {
        "tls.pem",
        "statement.pem",
        "device.pem",
        "ca.pem",
        "root.json",
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in paths.keys.iterdir()} == {0o600}
    assert stat.S_IMODE(paths.state.stat().st_mode) == 0o700
    assert (paths.keys / "root.json").read_text() == ROOT_JSON
    private = (paths.keys / "tls.pem").read_text() + (paths.keys / "statement.pem").read_text()
    sent = msgspec.json.encode(hub.requests[0]).decode()
    assert not any(line in sent for line in private.splitlines() if "KEY" not in line)


def test_an_identity_is_not_replaced_by_accident(hub: Hub, tmp_path: Path) -> None:
    """A second enrolment needs --force; then keys are new and what belonged to the old one is forgotten."""
    paths = Paths(tmp_path / "device")
    take_part(paths, hub.token())
    old = (paths.keys / "statement.pem").read_bytes()
    state = StateDb(paths.state_db)
    state.first_sight("command-1", expires_at="2099", now="2026")
    state.close()
    with pytest.raises(ConfigError) as caught:
        take_part(paths, hub.token())
    assert caught.value.code == "file-exists"
    assert take_part(paths, hub.token(), force=True).enrolment == "e-2"
    assert (paths.keys / "statement.pem").read_bytes() != old
    assert StateDb(paths.state_db).first_sight("command-1", expires_at="2099", now="2026")


def test_a_running_agent_keeps_its_identity(hub: Hub, tmp_path: Path) -> None:
    """While an agent runs nothing is changed under it."""
    paths = Paths(tmp_path / "device")
    paths.make()
    with only_agent(paths.lock), pytest.raises(DeploymentError) as caught:
        take_part(paths, hub.token())
    assert caught.value.code == "agent-running"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda a: msgspec.structs.replace(a, root_json='{"other": 1}'), "tuf-metadata"),
        (lambda a: msgspec.structs.replace(a, fleet="other"), "audience"),
        (lambda a: msgspec.structs.replace(a, certificate_pem=a.ca_pem), "ca-mismatch"),
    ],
)
def test_a_dishonest_hub_changes_nothing(
    hub: Hub, tmp_path: Path, spoil: Callable[[EnrolResponse], EnrolResponse], code: str
) -> None:
    """An answer that does not fit the token is refused; an old identity stays as it was."""
    paths = Paths(tmp_path / "device")
    before = take_part(paths, hub.token())
    hub.change = spoil
    with pytest.raises(TrustError) as caught:
        take_part(paths, hub.token(), force=True)
    assert caught.value.code == code
    assert load_identity(paths) == before


def test_another_authority_is_refused(hub: Hub, tmp_path: Path) -> None:
    """A hub whose authority is not the pinned one is refused; over TLS before any secret is sent."""
    hub.ca_pem = init_ca(tmp_path / "other").certificate_pem
    with pytest.raises(TrustError) as caught:
        take_part(Paths(tmp_path / "device"), hub.token(ca_sha256="0" * 64))
    assert caught.value.code == "ca-mismatch"
    assert (hub.requests == []) is hub.tls


def test_the_hubs_refusal_is_passed_on(hub: Hub, tmp_path: Path) -> None:
    """A used token is refused in the hub's own words; an unknown refusal keeps its status."""
    hub.refusal = {"code": "token-invalid", "message": "the token was used", "hint": "Make another."}
    with pytest.raises(TrustError, match="was used"):
        take_part(Paths(tmp_path / "device"), hub.token())
    hub.refusal = {"code": "from-the-future", "message": "?", "hint": ""}
    with pytest.raises(LinkError, match="403"):
        take_part(Paths(tmp_path / "device"), hub.token())


def test_an_interrupted_enrolment_goes_on_with_its_keys(hub: Hub, tmp_path: Path) -> None:
    """Keys that were made before the hub could be reached are used by the next try."""
    paths = Paths(tmp_path / "device")
    with pytest.raises(LinkError) as caught:
        take_part(paths, hub.token(hub="http://127.0.0.1:9", ca_sha256=None))
    assert caught.value.code == "hub-unreachable"
    made = (paths.state / "keys.new" / "statement.pem").read_bytes()
    take_part(paths, hub.token())
    assert (paths.keys / "statement.pem").read_bytes() == made


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_what_root_enrols_belongs_to_the_agents_user(hub: Hub, tmp_path: Path) -> None:
    """With sudo the new identity still belongs to whoever owns the agent's folder."""
    paths = Paths(tmp_path / "device")
    paths.make()
    os.chown(paths.root, 4242, 4242)
    take_part(paths, hub.token())
    assert {path.stat().st_uid for path in (paths.state, *paths.state.rglob("*"))} == {4242}


def test_a_folder_that_cannot_be_used_is_a_configuration_error(hub: Hub, tmp_path: Path) -> None:
    """A file where the folder should be is said, not traced."""
    (tmp_path / "device").write_text("")
    with pytest.raises(ConfigError) as caught:
        take_part(Paths(tmp_path / "device"), hub.token())
    assert caught.value.code == "config-invalid"


def test_the_command(hub: Hub, tmp_path: Path) -> None:
    """`edge-agent enroll -` takes the token from standard input and prints who the device is; a bad one exits 5."""
    command = [sys.executable, "-m", "edgesdk_agent", "enroll", "-", "--root", str(tmp_path / "device"), "--json"]
    done = subprocess.run(command, input=hub.token(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"] == "dev-1"
    secret = hub.token()[:-9]
    bad = subprocess.run(command, input=secret, capture_output=True, text=True, check=False)
    assert bad.returncode == 5
    assert json.loads(bad.stderr)["error"]["code"] == "token-invalid"
    assert secret[:40] not in bad.stderr
