"""Fetches repository files over HTTP(S) with limits on every wait and on the whole.

No redirects, no compression, no retries: the caller decides when to try again. A server that trickles (headers
included) is cut off at the deadline, because the socket itself is shut down then.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from edgesdk.errors import ConfigError
from edgesdk.proxies import Route, route

CHUNK = 64 * 1024  # bytes
OK = 200


class HttpFetcher(FetcherInterface):
    """python-tuf's network side.

    Args:
        ca_file: PEM file of the only authority to trust for ``https``; None: the system's.
        timeout: Longest wait for one answer of the network, in seconds.
        deadline: Longest time for one file, in seconds.
        environment: Names proxies (`edgesdk.proxies`); left out: this process's.
    """

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        timeout: float = 20.0,
        deadline: float = 120.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._ca_file = ca_file
        self._timeout = timeout
        self._deadline = deadline

    def _fetch(self, url: str) -> Iterator[bytes]:
        way = self._route(url)
        connection = way.connection
        cut = _Cut(connection, self._deadline)
        try:
            with _network_errors(url + way.via, cut):
                connection.connect()
                cut.start()
                headers = {"User-Agent": "edgesdk", "Connection": "close"} | way.headers
                connection.request("GET", way.target, headers=headers)
                response = connection.getresponse()
        except BaseException:
            cut.finish()
            raise
        if response.status != OK:
            response.close()
            cut.finish()
            raise DownloadHTTPError(f"{url} answered {response.status}", response.status)
        return _chunks(response, url, cut)

    def _route(self, url: str) -> Route:
        try:
            parts = urlsplit(url)
            path = quote(parts.path or "/", safe="/%") + (f"?{parts.query}" if parts.query else "")
            return route(url, timeout=self._timeout, context=self._context, environment=self._environment, path=path)
        except (ConfigError, ValueError) as error:
            raise DownloadError(f"no way to fetch from the repository: {error}") from error

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)


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
