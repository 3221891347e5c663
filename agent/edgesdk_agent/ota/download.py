"""Resumable downloads over HTTP(S): ranges with `If-Range`, an exact length, and what was received kept across crashes.

Beside the file a sidecar keeps the server's validator (a strong ETag): bytes are only appended to a file of the same
validator, otherwise it starts anew. Contents are judged by whoever asked (hash, signature); this room only sees to it
that exactly `length` bytes of one version of a resource arrive, and that few arrive twice.

RFC 9110: 13.1.5 (If-Range wants a strong validator), 14.4 (Content-Range), 15.3.7 (206).
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import msgspec

from edgesdk.errors import LinkError
from edgesdk.proxies import route
from edgesdk_agent.ota.allowance import Allowance
from edgesdk_agent.store.atomic import disk_errors, fsync_folder, write_atomic

CHUNK = 64 * 1024
SYNC_BYTES = 4 << 20
OK, PARTIAL, RANGE_NOT_SATISFIABLE = 200, 206, 416
REDIRECTS = (301, 302, 307, 308)
MAX_REDIRECTS = 3
SLOW_S, SLOW_BYTES = 60.0, 4096
"""A server that sends less in such a time is given up: the next try may find another, and people see why."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes in the file belong to; `imported` keeps a file that no deployment needs yet."""

    url: str
    length: int
    validator: str
    imported: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of `Downloader.fetch`."""

    url: str
    path: Path
    length: int
    stop: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a download ended.

    Attributes:
        complete: Whether the file is whole; False if it was stopped.
        received: Bytes that came over the network in this call.
    """

    complete: bool
    received: int


class Downloader:
    """Fetches files, resuming what earlier calls, earlier processes or earlier boots left.

    Args:
        ca: PEM file of the authority for ``https``; None: the system's.
        client_cert: PEM files (certificate, key) that this device shows; None: none.
        bytes_per_second: Limit on bandwidth; 0: none.
        timeout: Seconds without a byte after which the connection is given up.
        sleep: Waits for the bandwidth limit.
        monotonic: The clock of that limit.
        environment: Names proxies (`edgesdk.proxies`); left out: this process's.
        allowance: What a day may download; None: as much as it takes.
    """

    def __init__(
        self,
        *,
        ca: Path | None = None,
        client_cert: tuple[Path, Path] | None = None,
        bytes_per_second: int = 0,
        timeout: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self._allowance = allowance
        self._environment = os.environ if environment is None else environment
        self._ca = ca
        self._client_cert = client_cert
        self._rate = bytes_per_second
        self._timeout = timeout
        self._sleep = sleep
        self._monotonic = monotonic

    def fetch(self, url: str, path: Path, *, length: int, stop: Callable[[], bool] = lambda: False) -> Fetched:
        """Fetch `url` into `path` until it has `length` bytes, or `stop` says so (asked after every chunk).

        Raises:
            LinkError: ``http-failed``, ``http-status``, ``http-slow``, ``download-cut`` or ``download-length``; what
                was received stays and is used by the next call.
            DeploymentError: ``disk-full``; ``download-budget``, what was received stays here too.
        """
        job = _Job(url, path, length, stop)
        with disk_errors(str(path)):
            offset, validator = _resume_point(job)
            if offset == length and path.exists():
                return Fetched(complete=True, received=0)
            if self._allowance:
                self._allowance.check()
            return self._transfer(job, offset, validator)

    def _transfer(self, job: _Job, offset: int, validator: str) -> Fetched:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        try:
            connection, response = self._get(job.url, headers)
        except (OSError, http.client.HTTPException) as error:
            raise LinkError("http-failed", f"GET {_shown(job.url)} failed: {error!r}") from error
        try:
            offset = _accept(response, job, offset)
            _begin(job, _validator(response), offset)
            return self._copy(response, job, offset)
        finally:
            connection.close()

    def _get(self, url: str, headers: dict[str, str]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        for _ in range(MAX_REDIRECTS + 1):
            way = route(url, timeout=self._timeout, context=self._context, environment=self._environment)
            connection, parts = way.connection, urlsplit(url)
            try:
                connection.request("GET", way.target, headers=headers | way.headers)
                response = connection.getresponse()
            except BaseException:
                connection.close()
                raise
            location = response.getheader("Location")
            if response.status not in REDIRECTS or not location:
                return connection, response
            connection.close()
            if parts.scheme == "https" and urlsplit(location).scheme != "https":
                raise LinkError("http-status", f"{_shown(url)} redirects from https to something else")
            url = location
        raise LinkError("http-status", f"{_shown(url)} redirects more than {MAX_REDIRECTS} times")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
        if self._client_cert:
            context.load_cert_chain(*self._client_cert)
        return context

    def _copy(self, response: http.client.HTTPResponse, job: _Job, offset: int) -> Fetched:
        """Append the body. `http.client.read(n)` ends silently on an early close, so only the count is believed."""
        start, began, unsynced, pace = offset, self._monotonic(), 0, _Pace(self._monotonic, self._rate)
        with job.path.open("r+b") as file:
            file.seek(offset)
            try:
                while chunk := self._read(response, job.url):
                    if offset + len(chunk) > job.length:
                        raise LinkError("download-length", f"{_shown(job.url)} sends more than {job.length} bytes")
                    file.write(chunk)
                    offset, unsynced = offset + len(chunk), unsynced + len(chunk)
                    pace.check(len(chunk), _shown(job.url))
                    if unsynced >= SYNC_BYTES:
                        _sync(file)
                        unsynced = 0
                    if offset < job.length and job.stop():
                        return Fetched(complete=False, received=offset - start)
                    self._count(len(chunk), whole=offset == job.length)
                    self._slow_down(offset - start, began)
            finally:
                _sync(file)
                if self._allowance:
                    self._allowance.save()
        if offset < job.length:
            raise LinkError("download-cut", f"{_shown(job.url)} ended after {offset} of {job.length} bytes")
        return Fetched(complete=True, received=offset - start)

    def _count(self, received: int, *, whole: bool) -> None:
        if self._allowance:
            self._allowance.count(received)
            if not whole:
                self._allowance.check()

    @staticmethod
    def _read(response: http.client.HTTPResponse, url: str) -> bytes:
        try:
            return response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise LinkError("download-cut", f"{_shown(url)} was cut: {error!r}") from error

    def _slow_down(self, received: int, began: float) -> None:
        if self._rate:
            ahead = received / self._rate - (self._monotonic() - began)
            if ahead > 0:
                self._sleep(ahead)


class _Pace:
    """Notices a server that trickles: the time-out is for each read, and a byte now and then satisfies it."""

    def __init__(self, monotonic: Callable[[], float], limit: int) -> None:
        self._monotonic = monotonic
        self._least = min(SLOW_BYTES, limit * SLOW_S / 2) if limit else SLOW_BYTES
        self._since, self._received = monotonic(), 0

    def check(self, received: int, where: str) -> None:
        self._received += received
        took = self._monotonic() - self._since
        if took < SLOW_S:
            return
        if self._received < self._least:
            raise LinkError("http-slow", f"{where} sent {self._received} bytes in {took:.0f} s")
        self._since, self._received = self._monotonic(), 0


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def discard(path: Path) -> None:
    """Forget a download: the file and its sidecar."""
    _sidecar(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def adopt(path: Path, url: str) -> None:
    """Take a whole file that came another way for a finished download, and keep it until one uses it.

    Raises:
        DeploymentError: ``disk-full``.
    """
    with disk_errors(str(path)):
        sidecar = _Sidecar(url=url, length=path.stat().st_size, validator="", imported=True)
        write_atomic(_sidecar(path), msgspec.json.encode(sidecar), mode=0o600)
        fsync_folder(path.parent)


def imported(folder: Path) -> set[str]:
    """Return the names of the files in a download folder that were adopted and are still to be used."""
    found = set()
    for sidecar in folder.glob("*.json"):
        try:
            known = msgspec.json.decode(sidecar.read_bytes(), type=_Sidecar)
        except (OSError, msgspec.DecodeError):
            continue
        if known.imported:
            found.add(sidecar.stem)
    return found


def _resume_point(job: _Job) -> tuple[int, str]:
    """Return how many bytes of which validator are here; ``(0, "")`` to start anew."""
    try:
        known = msgspec.json.decode(_sidecar(job.path).read_bytes(), type=_Sidecar)
        size = job.path.stat().st_size
    except (OSError, msgspec.DecodeError):
        return 0, ""
    if known.length != job.length or size > job.length:
        return 0, ""
    if size == job.length:
        return size, known.validator
    return (size, known.validator) if known.validator and known.url == job.url else (0, "")


def _accept(response: http.client.HTTPResponse, job: _Job, offset: int) -> int:
    """Judge the answer's head; return the offset at which its body begins."""
    where = _shown(job.url)
    if response.status == PARTIAL:
        found = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range") or "")
        if found and int(found[1]) == offset and found[3] in {str(job.length), "*"}:
            return offset
        raise LinkError("http-status", f"{where}: expected bytes from {offset} of {job.length}, got another range")
    if response.status == RANGE_NOT_SATISFIABLE:
        raise LinkError("http-status", f"{where} is shorter than its {job.length} bytes")
    if response.status != OK:
        raise LinkError("http-status", f"{where}: expected 200 or 206, got {response.status}")
    announced = response.getheader("Content-Length")
    if announced is not None and announced != str(job.length):
        raise LinkError("download-length", f"{where} announces {announced} bytes, expected {job.length}")
    return 0


def _validator(response: http.client.HTTPResponse) -> str:
    """Return a strong validator, or "" (then the download cannot be resumed)."""
    etag = response.getheader("ETag") or ""
    return "" if etag.startswith("W/") else etag


def _begin(job: _Job, validator: str, offset: int) -> None:
    """Before the first byte: an empty file, and what its bytes will belong to."""
    if offset:
        return
    job.path.write_bytes(b"")
    sidecar = _Sidecar(url=job.url, length=job.length, validator=validator)
    write_atomic(_sidecar(job.path), msgspec.json.encode(sidecar), mode=0o600)
    fsync_folder(job.path.parent)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _shown(url: str) -> str:
    """Return an address without user, password and query, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
