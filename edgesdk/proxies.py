"""HTTP(S) connections, directly or through the proxy that the environment names.

``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` (lower case first) as other programs read them: a proxy is
``http://[USER:PASSWORD@]HOST[:PORT]``; ``NO_PROXY`` lists hosts and their domains with commas, ``*`` is all. Loopback
addresses are never asked of a proxy. ``https`` goes through a tunnel (CONNECT, RFC 9110 section 9.3.6), so a proxy sees
the host and nothing else.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from ssl import SSLContext
from urllib.parse import SplitResult, unquote, urlsplit

from edgesdk.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `headers` may hold credentials and are never shown."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """A connection that is not open yet, what to ask on it, and headers that the proxy wants.

    Attributes:
        via: Words for errors that name the proxy, without its credentials; "": there is none.
    """

    connection: HTTPConnection
    target: str
    headers: dict[str, str]
    via: str = ""


def route(
    url: str, *, timeout: float, context: Callable[[], SSLContext], environment: Mapping[str, str], path: str = ""
) -> Route:
    """Return how to ask for an address.

    Args:
        url: An ``http`` or ``https`` address.
        timeout: Seconds without an answer.
        context: Makes the TLS side, where it is needed.
        environment: Names the proxies.
        path: Path and query as they are to be sent; left out: those of `url`.

    Raises:
        ConfigError: ``argument-invalid`` for another kind of address, ``config-invalid`` for the proxy's.
    """
    parts = _split(url)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or host is None:
        raise ConfigError("argument-invalid", f"{_shown(url)!r} is no http or https address")
    asked = path or (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = proxy_for(url, environment)
    near, port = (proxy.host, proxy.port) if proxy else (host, parts.port)
    via = f" through the proxy {near}:{port}" if proxy else ""
    if parts.scheme == "https":
        secure = HTTPSConnection(near, port, timeout=timeout, context=context())
        if proxy:
            secure.set_tunnel(host, parts.port, headers=proxy.headers)
        return Route(secure, asked, {}, via)
    plain = HTTPConnection(near, port, timeout=timeout)
    if proxy is None:
        return Route(plain, asked, {})
    return Route(plain, f"http://{parts.netloc.rpartition('@')[2]}{asked}", proxy.headers, via)


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for an address; None: go there directly (pure).

    Raises:
        ConfigError: ``config-invalid`` if the environment names something that is no proxy.
    """
    parts = _split(url)
    named = _variable(environment, f"{parts.scheme}_proxy")
    host = (parts.hostname or "").rstrip(".").lower()
    if not named or _is_loopback(host) or _excluded(host, parts.port, _variable(environment, "no_proxy")):
        return None
    try:
        found = urlsplit(named if "://" in named else f"http://{named}")
        port = found.port or 80
    except ValueError as error:
        raise ConfigError("config-invalid", "the proxy's address has no usable port") from error
    if found.scheme != "http" or not found.hostname:
        words = f"the proxy for {parts.scheme} has the scheme {found.scheme!r}; expected http://HOST:PORT"
        raise ConfigError("config-invalid", words)
    return Proxy(found.hostname, port, _authorization(found))


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(secret.encode()).decode("ascii")}


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _excluded(host: str, port: int | None, listed: str) -> bool:
    for entry in (each.strip().lower() for each in listed.split(",")):
        name, _, only = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        name = name.removeprefix("*").lstrip(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}")) and only in {"", str(port)}):
            return True
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError("argument-invalid", f"{_shown(url)!r} is no http or https address") from error
    return parts


def _shown(url: str) -> str:
    """Return an address without what could be a secret."""
    return url.partition("?")[0].rpartition("@")[2][:120]
