"""The network side over TLS: only the fleet's authority is believed."""

from __future__ import annotations

import functools
import ssl
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tuf.api.exceptions import DownloadError

from edgesdk.trust.ca import init_ca
from edgesdk.trust.fetcher import HttpFetcher


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def tls(tmp_path):
    """A TLS server whose certificate the authority in `ca` issued for 127.0.0.1."""
    authority = init_ca(tmp_path / "ca")
    issued = authority.issue_server(["127.0.0.1"])
    (tmp_path / "server.pem").write_bytes(issued.key_pem + issued.certificate_pem)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(b"content")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "www")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port, tmp_path / "ca" / "ca.pem"
    server.shutdown()
    server.server_close()


def test_the_fleets_authority_is_believed(tls):
    """Our own server certificate is accepted by OpenSSL when its authority is pinned."""
    port, ca = tls
    assert HttpFetcher(ca_file=ca).download_bytes(f"https://127.0.0.1:{port}/file", 100) == b"content"


def test_another_authority_is_not(tls, tmp_path):
    """A pinned stranger, and the system's authorities, refuse the same server."""
    port, _ = tls
    init_ca(tmp_path / "other")
    for fetcher in (HttpFetcher(ca_file=tmp_path / "other" / "ca.pem"), HttpFetcher()):
        with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
            fetcher.download_bytes(f"https://127.0.0.1:{port}/file", 100)


def test_another_host_name_is_not(tls):
    """The certificate is for 127.0.0.1, so `localhost` is somebody else."""
    port, ca = tls
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        HttpFetcher(ca_file=ca).download_bytes(f"https://localhost:{port}/file", 100)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "127.0.0.1/x", "http://"])
def test_only_http_is_spoken(url):
    """Other schemes, files above all, are refused."""
    with pytest.raises(DownloadError):
        HttpFetcher().download_bytes(url, 100)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named(scheme):
    """Who does not answer is the proxy, so the error names it, and never its password."""
    environment = {f"{scheme}_proxy": "http://user:geheim@127.0.0.1:9"}
    with pytest.raises(DownloadError, match=r"through the proxy 127\.0\.0\.1:9 could not be fetched") as caught:
        HttpFetcher(environment=environment).download_bytes(f"{scheme}://repo.example/file", 100)
    assert "geheim" not in str(caught.value)
