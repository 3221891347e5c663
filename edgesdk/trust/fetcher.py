"""Fetches repository files over HTTP(S) with limits on every wait and on the whole.

No redirects, no compression, no retries: the caller decides when to try again. A server that trickles (headers
included) is cut off at the deadline, because the socket itself is shut down then.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

CHUNK = 64 * 1024  # bytes
OK = 200


class HttpFetcher(FetcherInterface):
    """python-tuf's network side.

    Args:
        ca_file: PEM file of the only authority to trust for ``https``; None: the system's.
        timeout: Longest wait for one answer of the network, in seconds.
        deadline: Longest time for one file, in seconds.
    """

    def __init__(self, *, ca_file: Path | None = None, timeout: float = 20.0, deadline: float = 120.0) -> None:
        self._ca_file = ca_file
        self._timeout = timeout
        self._deadline = deadline

    def _fetch(self, url: str) -> Iterator[bytes]:
        connection, path = self._connection(url)
        cut = _Cut(connection, self._deadline)
        try:
            with _network_errors(url, cut):
                connection.connect()
                cut.start()
                connection.request("GET", path, headers={"User-Agent": "edgesdk", "Connection": "close"})
                response = connection.getresponse()
        except BaseException:
            cut.finish()
            raise
        if response.status != OK:
            response.close()
            cut.finish()
            raise DownloadHTTPError(f"{url} answered {response.status}", response.status)
        return _chunks(response, url, cut)

    def _connection(self, url: str) -> tuple[HTTPConnection, str]:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise DownloadError(f"{url} is no http or https address")
        path = quote(parts.path or "/", safe="/%") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http":
            return HTTPConnection(parts.hostname, parts.port, timeout=self._timeout), path
        context = ssl.create_default_context(cafile=self._ca_file)
        return HTTPSConnection(parts.hostname, parts.port, timeout=self._timeout, context=context), path


class _Cut:
    """Shuts a connection's socket when its time is up."""

    def __init__(self, connection: HTTPConnection, seconds: float) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self.seconds = seconds
        self.happened = False

    def start(self) -> None:
        self._socket = self._connection.sock
        self._timer.start()

    def finish(self) -> None:
        self._timer.cancel()
        self._connection.close()

    def _shut(self) -> None:
        self.happened = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already: the transfer ended in this moment
                # The plain socket's method: the one of SSLSocket would pull the TLS state from under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _chunks(response: HTTPResponse, url: str, cut: _Cut) -> Iterator[bytes]:
    expected, received = response.length, 0
    try:
        with _network_errors(url, cut):
            while chunk := response.read1(CHUNK):
                received += len(chunk)
                yield chunk
        if cut.happened:
            raise _too_slow(url, cut)
        if expected is not None and received != expected:  # http.client ends silently on an early close
            raise DownloadError(f"{url} ended after {received} bytes, expected {expected}")
    finally:
        response.close()
        cut.finish()


@contextlib.contextmanager
def _network_errors(url: str, cut: _Cut) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise SlowRetrievalError(f"{url} sent nothing for too long") from error
    except (OSError, HTTPException, ValueError) as error:
        if cut.happened:
            raise _too_slow(url, cut) from error
        raise DownloadError(f"{url} could not be fetched: {type(error).__name__}: {error}") from error


def _too_slow(url: str, cut: _Cut) -> SlowRetrievalError:
    return SlowRetrievalError(f"{url} was not complete after {cut.seconds:g} seconds")
