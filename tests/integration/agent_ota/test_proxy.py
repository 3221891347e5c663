"""Downloads and repository files through a real proxy, plain and by a tunnel."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from agent_ota_world import RangeServer
from edgesdk_agent.ota.download import Downloader
from tuf.api.exceptions import DownloadError

from edgesdk.errors import LinkError
from edgesdk.trust.ca import init_ca
from edgesdk.trust.fetcher import HttpFetcher

DATA = bytes(range(256)) * 256
HOST = "repository.invalid"
CREDENTIALS = "Basic bWU6c2VjcmV0"


class Proxy(socketserver.ThreadingTCPServer):
    """Takes every host for one server on loopback; wants credentials; notes what it was asked."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def environment(self, credentials: str = "me:secret@") -> dict[str, str]:
        address = f"http://{credentials}127.0.0.1:{self.server_address[1]}"
        return {"http_proxy": address, "https_proxy": address}


class _Handler(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        head: list[str] = []
        while (text := self.rfile.readline().decode().strip()) != "":
            head.append(text)
        self.server.asked.append(line)
        if f"Proxy-Authorization: {CREDENTIALS}" not in head:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self.server.behind)) as upstream:
            method, target, _ = line.split()
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                kept = [each for each in head if not each.startswith("Proxy-")]
                upstream.sendall(
                    "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode()
                )
            threading.Thread(target=_pump, args=(self.connection, upstream), daemon=True).start()
            _pump(upstream, self.connection)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, RangeServer, Proxy]]:
    """A server that only the proxy can find, by its scheme."""
    context = None
    if request.param == "https":
        issued = init_ca(tmp_path / "ca").issue_server([HOST])
        (tmp_path / "server.pem").write_bytes(issued.key_pem + issued.certificate_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
    server = RangeServer(tls=context)
    server.files["/bundle"] = DATA
    proxy = Proxy(server.port)
    yield f"{request.param}://{HOST}/bundle", server, proxy
    proxy.shutdown()
    proxy.server_close()
    server.close()


def authority(tmp_path: Path) -> Path | None:
    file = tmp_path / "ca" / "ca.pem"
    return file if file.exists() else None


def test_a_download_goes_through_the_proxy_and_resumes(tmp_path: Path, site) -> None:
    """Name resolution is the proxy's; a cut is resumed through it; https shows it nothing but the host."""
    url, server, proxy = site
    downloader = Downloader(ca=authority(tmp_path), timeout=5, environment=proxy.environment())
    server.cut_after = len(DATA) // 2
    with pytest.raises(LinkError):
        downloader.fetch(url, tmp_path / "file", length=len(DATA))
    server.cut_after = None
    assert downloader.fetch(url, tmp_path / "file", length=len(DATA)).complete
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.sent <= len(DATA) * 1.02
    method = "CONNECT" if url.startswith("https") else "GET"
    assert {line.split()[0] for line in proxy.asked} == {method}
    assert all("bundle" not in line for line in proxy.asked if method == "CONNECT")


def test_repository_files_go_through_the_proxy(tmp_path: Path, site) -> None:
    """The update client's fetcher takes the same way."""
    url, _server, proxy = site
    fetcher = HttpFetcher(ca_file=authority(tmp_path), environment=proxy.environment())
    assert fetcher.download_bytes(url, len(DATA)) == DATA
    assert len(proxy.asked) == 1


def test_a_proxy_that_refuses_is_a_network_error(tmp_path: Path, site) -> None:
    """Without credentials nothing comes; it is transient, and no secret is in the words."""
    url, server, proxy = site
    downloader = Downloader(ca=authority(tmp_path), timeout=5, environment=proxy.environment("me:wrong@"))
    with pytest.raises(LinkError) as caught:
        downloader.fetch(url, tmp_path / "file", length=len(DATA))
    assert caught.value.code in {"http-failed", "http-status"}
    assert "wrong" not in str(caught.value)
    with pytest.raises(DownloadError):
        HttpFetcher(ca_file=authority(tmp_path), environment=proxy.environment("")).download_bytes(url, 100)
    assert server.sent == 0
