"""The hub's HTTP API: who may do what, enrolment, limits, the repository's files."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec
import pytest

from edgesdk.clock import SystemClock
from edgesdk.errors import EdgeError
from edgesdk.fleet.client import HubClient
from edgesdk.trust.enrolment import check_response, make_request, parse_token


@pytest.fixture
def hub(start_hub):
    return start_hub()


def api_token(hub, role):
    return hub.client.post("/api-tokens", {"name": f"a {role}", "role": role})["token"]


READS = ["/api/v1/devices", "/api/v1/rollouts", "/api/v1/releases", "/metrics"]
PUBLIC = ["/api/v1/healthz", "/api/v1/ca", "/repo/metadata/timestamp.json", "/api/v1/openapi.json"]


@pytest.mark.parametrize("path", [*READS, "/api/v1/audit"])
def test_a_token_is_needed(quiet_hub, path):
    """Without a token, or with a wrong or revoked one, the answer is 401 and repeats nothing."""
    for token in (None, "edgehub_wrong", ""):
        answer = quiet_hub.raw(token).get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "hub-refused")
        assert "edgehub_wrong" not in answer.text


@pytest.mark.parametrize("path", PUBLIC)
def test_public_routes_need_none(quiet_hub, path):
    """Health, the authority, the repository and the API's description are open."""
    assert quiet_hub.raw().get(path).status_code == 200


@pytest.mark.parametrize(
    ("role", "method", "path", "allowed"),
    [
        ("viewer", "GET", "/api/v1/devices", True),
        ("viewer", "POST", "/api/v1/rollback", False),
        ("viewer", "POST", "/api/v1/tokens", False),
        ("publisher", "GET", "/api/v1/releases", True),
        ("publisher", "POST", "/api/v1/rollouts", False),
        ("operator", "POST", "/api/v1/rollouts/r-0/pause", True),
        ("operator", "POST", "/api/v1/devices/none/revoke", False),
        ("operator", "POST", "/api/v1/api-tokens", False),
        ("operator", "GET", "/api/v1/audit", False),
        ("admin", "GET", "/api/v1/audit", True),
    ],
)
def test_roles(quiet_hub, role, method, path, allowed):
    """Each role does what it is for; too small a role is answered with 403."""
    body = {"model": "digits", "release": "1.0.0", "name": "x", "role": "admin"}
    answer = quiet_hub.raw(api_token(quiet_hub, role)).request(method, path, json=body if method == "POST" else None)
    assert (answer.status_code != 403) is allowed
    assert answer.status_code != 401


def test_revoked_token_is_refused_and_the_last_one_stays(quiet_hub):
    """A revoked token no longer opens anything; nobody revokes the token in use."""
    made = quiet_hub.client.post("/api-tokens", {"name": "x", "role": "admin"})
    other = quiet_hub.raw(made["token"])
    assert other.delete(f"/api/v1/api-tokens/{made['id']}").status_code == 409
    assert quiet_hub.raw(quiet_hub.client_token).delete(f"/api/v1/api-tokens/{made['id']}").status_code == 204
    assert other.get("/api/v1/devices").status_code == 401


def test_enrolment_token_works_once(hub, tmp_path):
    """The device that enrolled can check the answer; the token is refused a second time, without a device made."""
    token = parse_token(hub.client.post("/tokens")["token"])
    request = make_request(token, tmp_path / "a", "cam")
    answer = hub.raw().post("/api/v1/enroll", content=msgspec.json.encode(request))
    assert answer.status_code == 200
    from edgesdk.trust.enrolment import EnrolResponse  # noqa: PLC0415

    check_response(token, msgspec.json.decode(answer.content, type=EnrolResponse), tmp_path / "a")
    again = make_request(token, tmp_path / "b", "cam")
    refused = hub.raw().post("/api/v1/enroll", content=msgspec.json.encode(again))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "token-invalid")
    assert len(hub.client.devices()) == 1


def test_enrolment_with_anothers_proof_is_refused_and_keeps_the_token(quiet_hub, tmp_path):
    """A request whose proof is for another token is refused; the token can still be used by its owner."""
    first, second = (parse_token(quiet_hub.client.post("/tokens")["token"]) for _ in range(2))
    stolen = msgspec.structs.replace(make_request(first, tmp_path / "a", "cam"), secret=second.secret)
    refused = quiet_hub.raw().post("/api/v1/enroll", content=msgspec.json.encode(stolen))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "possession")
    good = make_request(second, tmp_path / "b", "cam")
    assert quiet_hub.raw().post("/api/v1/enroll", content=msgspec.json.encode(good)).status_code == 200


def test_unknown_and_expired_tokens_are_refused(quiet_hub, tmp_path, wait_for):
    """A token that the hub never made, or that has run out, enrols nobody."""
    made = parse_token(quiet_hub.client.post("/tokens", {"valid_seconds": 1})["token"])
    end = SystemClock().now() + timedelta(seconds=1.1)
    invented = msgspec.structs.replace(made, secret="x" * 32)
    wait_for(lambda: SystemClock().now() > end, "the token's end")
    for number, token in enumerate((invented, made)):
        request = make_request(token, tmp_path / str(number), "cam")
        answer = quiet_hub.raw().post("/api/v1/enroll", content=msgspec.json.encode(request))
        assert answer.json()["error"]["code"] == "token-invalid"


def test_reenrolled_device_keeps_its_id_and_a_revoked_key_does_not_return(hub, enrol, tmp_path):
    """The same statement key is the same device in a new enrolment; once revoked, a new token does not help."""
    device = enrol(hub)
    token = parse_token(hub.client.post("/tokens")["token"])
    body = msgspec.json.encode(make_request(token, device.folder, "cam"))
    again = hub.raw().post("/api/v1/enroll", content=body).json()
    assert again["device"] == device.id
    assert again["enrolment"] != device.identity.enrolment
    hub.client.post(f"/devices/{device.id}/revoke")
    token = parse_token(hub.client.post("/tokens")["token"])
    body = msgspec.json.encode(make_request(token, device.folder, "cam"))
    assert hub.raw().post("/api/v1/enroll", content=body).json()["error"]["code"] == "device-unknown"


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_are_refused(quiet_hub, chunked):
    """More than the limit is answered with 413, announced or streamed."""
    data = b"x" * (300 * 1024)
    content = iter([data[:200_000], data[200_000:]]) if chunked else data
    answer = quiet_hub.raw().post("/api/v1/enroll", content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "message-too-large")


def test_wrong_bodies_say_where(quiet_hub):
    """A malformed body is refused with a code; an enrolment's secret is not repeated."""
    assert (
        quiet_hub.raw().post("/api/v1/enroll", content=b'{"secret": "hush"').json()["error"]["code"]
        == "argument-invalid"
    )
    answer = quiet_hub.raw().post("/api/v1/enroll", content=b'{"secret": "hush", "x": 1}')
    assert "hush" not in answer.text
    with pytest.raises(EdgeError) as caught:
        quiet_hub.client.post("/api-tokens", {"name": "x", "role": "emperor"})
    assert (caught.value.code, "role" in caught.value.message) == ("argument-invalid", True)


def test_audit_names_who_did_what(hub, enrol):
    """Every change is in the audit log with its actor; no secret is."""
    device = enrol(hub)
    token = api_token(hub, "operator")
    operator = HubClient(hub.running.url, token)
    operator.post("/rollouts", {"model": "digits", "release": "1.0.0", "devices": [device.id]})
    entries = hub.client.get("/audit")
    actions = {(each["actor"], each["action"]) for each in entries}
    assert {("a operator", "rollout.create"), ("admin", "enrolment-token.create")} <= actions
    assert token not in str(entries)


def test_metrics_are_prometheus_text(hub, enrol):
    """The text parses as name, labels, value; devices are counted."""
    enrol(hub)
    text = hub.raw(hub.client_token).get("/metrics").text
    assert 'edge_devices{presence="offline"} 1\n' in text
    for line in text.splitlines():
        assert line.startswith(("# HELP edge_", "# TYPE edge_")) or float(line.rsplit(" ", 1)[1]) >= 0


def target(site):
    """Return the URL path and bytes of one target file."""
    file = next((site.repo / "targets").rglob("*.release.json"))
    return f"/repo/{file.relative_to(site.repo)}", file.read_bytes()


def test_targets_can_be_resumed(quiet_hub, quiet_site):
    """Range gives the rest; If-Range gives the rest only while the file is the same; both answers hash as they must."""
    path, data = target(quiet_site)
    with quiet_hub.raw() as http:
        whole = http.get(path)
        etag = whole.headers["etag"]
        assert (whole.content, "immutable" in whole.headers["cache-control"]) == (data, True)
        assert etag == f'"{hashlib.sha256(data).hexdigest()}"'
        part = http.get(path, headers={"range": "bytes=10-", "if-range": etag})
        assert (part.status_code, part.content) == (206, data[10:])
        assert part.headers["content-range"] == f"bytes 10-{len(data) - 1}/{len(data)}"
        other = http.get(path, headers={"range": "bytes=10-", "if-range": '"other"'})
        assert (other.status_code, other.content) == (200, data)
        assert http.get(path, headers={"range": f"bytes={len(data)}-"}).status_code == 416
        assert http.get(path, headers={"if-none-match": etag}).status_code == 304


def test_metadata_is_always_asked_for_anew(hub, site):
    """Metadata may not be cached blindly; unchanged it is 304, changed it is new."""
    with hub.raw() as http:
        first = http.get("/repo/metadata/timestamp.json")
        assert first.headers["cache-control"] == "no-cache"
        known = {"if-none-match": first.headers["etag"]}
        assert http.get("/repo/metadata/timestamp.json", headers=known).status_code == 304
        site.publish("digits", "5.0.0")
        assert http.get("/repo/metadata/timestamp.json", headers=known).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/repo/../hub/admin.token",
        "/repo/%2e%2e/hub/admin.token",
        "/repo/targets/..%2f..%2fhub%2fadmin.token",
        "/repo/targets/%2e%2e/.lock",
        "/repo/.lock",
        "/repo/metadata",
        "/repo/",
        "/repo//etc/passwd",
        "/repo/targets/\0",
        "/repo/metadata/link.json",
    ],
)
def test_nothing_else_is_served(quiet_hub, quiet_site, path):
    """Neither by dots, nor encoded, nor by symbolic link does anything outside metadata and targets come out."""
    link = quiet_site.repo / "metadata" / "link.json"
    if not link.is_symlink():
        link.symlink_to(quiet_site.folder.path / "admin.token")
    raw = path.encode("ascii").replace(b"\0", b"%00")
    import http.client  # noqa: PLC0415 - sends the path as it is

    host = quiet_hub.running.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", raw.decode())
    answer = connection.getresponse()
    assert answer.status in {307, 404}
    assert quiet_hub.client_token.encode() not in answer.read()
    connection.close()
