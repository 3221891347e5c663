"""Downloads over TLS with the fleet's authority, and from the server that the hub uses."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from agent_ota_world import RangeServer
from edgesdk_agent.ota.download import Downloader
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

from edgesdk.errors import LinkError
from edgesdk.trust.ca import Authority, init_ca

DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fleet's certificate authority."""
    return init_ca(tmp_path / "ca")


@pytest.fixture
def tls_server(tmp_path: Path, authority: Authority) -> Iterator[RangeServer]:
    """A server that shows a certificate of the authority and wants one of the client."""
    issued = authority.issue_server(["127.0.0.1"])
    pem = tmp_path / "server.pem"
    pem.write_bytes(issued.key_pem + issued.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.load_verify_locations(tmp_path / "ca" / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = RangeServer(tls=context)
    server.files["/bundle"] = DATA
    yield server
    server.close()


def test_mutual_tls(tmp_path: Path, authority: Authority, tls_server: RangeServer) -> None:
    """With the fleet's authority and a certificate of its own a device downloads."""
    issued = authority.issue_client("subscriber")
    (tmp_path / "client.pem").write_bytes(issued.certificate_pem)
    (tmp_path / "client.key").write_bytes(issued.key_pem)
    downloader = Downloader(
        ca=tmp_path / "ca" / "ca.pem", client_cert=(tmp_path / "client.pem", tmp_path / "client.key"), timeout=5
    )
    path = tmp_path / "file"
    assert downloader.fetch(tls_server.url + "/bundle", path, length=len(DATA)).complete
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("trusted", [False, True])
def test_unknown_server_or_client_is_refused(tmp_path: Path, tls_server: RangeServer, *, trusted: bool) -> None:
    """Neither a server of another authority nor a client without a certificate gets or gives a byte."""
    downloader = Downloader(ca=tmp_path / "ca" / "ca.pem" if trusted else None, timeout=5)
    with pytest.raises(LinkError) as caught:
        downloader.fetch(tls_server.url + "/bundle", tmp_path / "file", length=len(DATA))
    assert caught.value.code == "http-failed"
    assert tls_server.sent == 0


def test_redirect_to_plain_http_is_refused(tmp_path: Path, server: RangeServer, authority: Authority) -> None:
    """Https is not left for http by a redirect."""
    issued = authority.issue_server(["127.0.0.1"])
    (tmp_path / "server.pem").write_bytes(issued.key_pem + issued.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    secure = RangeServer(tls=context)
    secure.redirect = server.url + "/bundle"
    server.files["/bundle"] = DATA
    downloader = Downloader(ca=tmp_path / "ca" / "ca.pem", timeout=5)
    with pytest.raises(LinkError, match="redirects from https"):
        downloader.fetch(secure.url + "/bundle", tmp_path / "file", length=len(DATA))
    assert server.sent == 0
    secure.close()


def test_resume_from_the_hubs_kind_of_server(tmp_path: Path) -> None:
    """Starlette's file responses (as the hub serves the repository) are resumed at the byte."""
    (tmp_path / "bundle").write_bytes(DATA)
    app = Starlette(routes=[Route("/bundle", lambda _: FileResponse(tmp_path / "bundle"))])
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server, bound = uvicorn.Server(config), config.bind_socket()
    bound.listen()  # so that a client may come before the server's loop runs
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    url, path = f"http://127.0.0.1:{bound.getsockname()[1]}/bundle", tmp_path / "file"
    downloader = Downloader(timeout=5)
    first = downloader.fetch(url, path, length=len(DATA), stop=lambda: True)
    second = downloader.fetch(url, path, length=len(DATA))
    assert not first.complete
    assert second.complete
    assert first.received + second.received == len(DATA)
    assert path.read_bytes() == DATA
    server.should_exit = True
    thread.join(10)
