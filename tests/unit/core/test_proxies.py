"""Which proxy an address is asked of, and what the environment may say."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConfigError
from edgesdk.proxies import Proxy, proxy_for, route

HTTP, HTTPS = "http://repo.example/x", "https://repo.example:8443/x"
NAMED = {"http_proxy": "http://p:1", "HTTPS_PROXY": "p.example"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (HTTP, {}, None),
        (HTTP, NAMED, ("p", 1)),
        (HTTPS, NAMED, ("p.example", 80)),
        (HTTP, {"http_proxy": "http://low:1", "HTTP_PROXY": "http://up:2"}, ("low", 1)),
        (HTTP, NAMED | {"no_proxy": "example"}, None),
        (HTTP, NAMED | {"NO_PROXY": "other, .repo.example"}, None),
        (HTTP, NAMED | {"no_proxy": "*.example"}, None),
        (HTTP, NAMED | {"no_proxy": "po.example,xrepo.example, "}, ("p", 1)),
        (HTTPS, NAMED | {"no_proxy": "repo.example:8443"}, None),
        (HTTPS, NAMED | {"no_proxy": "repo.example:443"}, ("p.example", 80)),
        (HTTP, NAMED | {"no_proxy": "*"}, None),
        ("http://127.0.0.1/x", NAMED, None),
        ("http://127.8.8.8/x", NAMED, None),
        ("http://[::1]:8/x", NAMED, None),
        ("http://localhost/x", NAMED, None),
        ("http://10.0.0.1/x", NAMED, ("p", 1)),
    ],
)
def test_the_proxy_of_an_address(url: str, environment: dict[str, str], expected: tuple[str, int] | None) -> None:
    """Lower case first, domains and ports excluded, loopback never asked of a proxy."""
    found = proxy_for(url, environment)
    assert (found and (found.host, found.port)) == expected


@pytest.mark.parametrize("named", ["socks5://p:1", "https://p:1", "http://", "http://p:port", "http://p:99999"])
def test_what_is_no_proxy_is_refused(named: str) -> None:
    """A proxy that cannot be spoken to is an error, not a silent direct connection."""
    with pytest.raises(ConfigError) as caught:
        proxy_for(HTTP, {"http_proxy": named})
    assert caught.value.code == "config-invalid"


def test_credentials_go_to_the_proxy_and_nowhere_else() -> None:
    """They are in one header, decoded, and in no text."""
    found = proxy_for(HTTP, {"http_proxy": "http://me:se%40cret@p:1"})
    assert found is not None
    assert found.headers == {"Proxy-Authorization": "Basic bWU6c2VAY3JldA=="}
    assert "cret" not in repr(found)
    with pytest.raises(ConfigError) as caught:
        proxy_for(HTTP, {"http_proxy": "http://me:secret@p:port"})
    assert "secret" not in str(caught.value)


def test_what_is_asked_of_whom() -> None:
    """Directly: the path. Through a proxy: the whole address without credentials, or a tunnel that hides the path."""

    def way(url: str, environment: dict[str, str]):
        return route(url, timeout=1, context=ssl.create_default_context, environment=environment)

    direct = way("http://repo.example/a?b=c", {})
    assert (direct.connection.host, direct.target, direct.headers) == ("repo.example", "/a?b=c", {})
    plain = way("http://me:pw@repo.example:81/a?b=c", {"http_proxy": "http://x:y@p:1"})
    assert (plain.connection.host, plain.connection.port) == ("p", 1)
    assert plain.target == "http://repo.example:81/a?b=c"
    assert set(plain.headers) == {"Proxy-Authorization"}
    tunnel = way(HTTPS, {"https_proxy": "http://x:y@p:1"})
    assert (tunnel.connection.host, tunnel.target, tunnel.headers) == ("p", "/x", {})
    for bad in ("ftp://repo.example/x", "nonsense", "http:///x", "http://h:port/x"):
        with pytest.raises(ConfigError):
            way(bad, {})


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_environment_breaks_it(named: str, listed: str) -> None:
    """Whatever the environment says, the answer is a proxy, none, or one kind of error."""
    try:
        assert isinstance(proxy_for(HTTP, {"http_proxy": named, "no_proxy": listed}), Proxy | None)
    except ConfigError as error:
        assert error.code == "config-invalid"
