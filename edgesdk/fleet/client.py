"""A client of the hub's HTTP API: what `edge fleet` and scripts use. The hub's errors are raised as they were there."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from edgesdk.errors import CODES, ConfigError, LinkError, error_from_dict
from edgesdk.fleet.api_paths import PREFIX

TIMEOUT_S = 30.0
ENDED = ("done", "halted", "rolled_back")
_WATCH_S = 0.5


class HubClient:
    """Speaks with one hub.

    Args:
        url: For example ``http://127.0.0.1:8080``.
        token: A bearer token; it is never shown.
        ca: The authority's certificate, for ``https://``; the system's when None.

    Raises:
        ConfigError: ``file-missing`` if the certificate cannot be read.
    """

    def __init__(self, url: str, token: str | None, *, ca: Path | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            verify = ssl.create_default_context(cafile=str(ca)) if ca else ssl.create_default_context()
        except OSError as error:
            raise ConfigError("file-missing", f"the certificate {ca} cannot be used: {error}") from error
        # trust_env=False: a token must not go to whatever proxy the environment names.
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT_S, verify=verify, trust_env=False)

    @classmethod
    def find(
        cls, *, url: str | None = None, token: str | None = None, folder: Path | None = None, ca: Path | None = None
    ) -> HubClient:
        """Make a client from a URL and token, from their variables EDGE_HUB and EDGE_TOKEN, or from a hub's folder.

        Raises:
            ConfigError: ``argument-invalid`` if none of these says where the hub is, ``file-missing``.
        """
        if folder is not None:
            from edgesdk.fleet.folder import HubFolder  # noqa: PLC0415 - brings cryptography along

            hub = HubFolder(folder)
            running = hub.running()
            if running is None:
                raise ConfigError("file-missing", f"no hub was started on {folder} yet", hint="Run `edge hub start`.")
            found = Path(running.ca) if running.ca else None
            return cls(url or running.url, token or hub.admin_token(), ca=ca or found)
        url = url or os.environ.get("EDGE_HUB")
        if not url:
            raise ConfigError("argument-invalid", "no hub is named", hint="Pass --dir HUB, or --hub URL and --token.")
        given = os.environ.get("EDGE_CA")
        return cls(url, token or os.environ.get("EDGE_TOKEN"), ca=ca or (Path(given) if given else None))

    def get(self, path: str, **query: Any) -> Any:
        """Read a resource; `path` without the API's prefix."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT_S) -> Any:
        """Create or change a resource; the hub may take `timeout` seconds."""
        return self._call("POST", path, json=dict(body or {}), timeout=timeout)

    def ask(self, device: str, name: str, arguments: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """Ask a device for something now; the answer holds its ``result``, or its ``reason`` why there is none."""
        body = {"name": name, "arguments": dict(arguments), "timeout_s": timeout}
        path = f"/devices/{quote(device, safe='')}/commands"
        found: dict[str, Any] = self.post(path, body, timeout=timeout + TIMEOUT_S)
        return found

    def warnings(self) -> list[str]:
        """Return what is, or will soon be, in the hub's way."""
        health = self._request("GET", "/healthz").json()
        ill = [f"{name}: {state}" for name, state in health["checks"].items() if state != "ok"]
        return [*ill, *health["warnings"]]

    def devices(self) -> list[dict[str, Any]]:
        """List the devices."""
        found: list[dict[str, Any]] = self.get("/devices")
        return found

    def rollouts(self) -> list[dict[str, Any]]:
        """List the rollouts, newest first."""
        found: list[dict[str, Any]] = self.get("/rollouts")
        return found

    def rollout(self, rollout: str) -> dict[str, Any]:
        """Describe one rollout."""
        found: dict[str, Any] = self.get(f"/rollouts/{quote(rollout, safe='')}")
        return found

    def watch(self, rollout: str) -> Iterator[dict[str, Any]]:
        """Yield a rollout each time it changed, until it has ended. A hub that restarts meanwhile is waited for."""
        last: dict[str, Any] | None = None
        while True:
            try:
                found = self.rollout(rollout)
            except LinkError as error:
                if error.code != "hub-unreachable" or last is None:
                    raise
            else:
                if found != last:
                    last = found
                    yield found
                if found["state"] in ENDED:
                    return
            time.sleep(_WATCH_S)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._request(method, path, **options)
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _error(answer)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, f"{self.url}{PREFIX}{path}", **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise LinkError("hub-unreachable", f"the hub at {self.url} does not answer: {error}") from error


def _error(answer: httpx.Response) -> Exception:
    try:
        told = answer.json()["error"]
        if told["code"] in CODES:
            return error_from_dict(told)
    except (ValueError, KeyError, TypeError):
        told = {}
    message = told.get("message") or f"status {answer.status_code}"
    return LinkError("hub-refused", f"the hub refused {answer.request.url.path}: {message}")
