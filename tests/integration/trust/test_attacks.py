"""The attacks that TUF names (specification 1.5.2), each over real HTTP, and clocks that lie."""

from __future__ import annotations

import hashlib
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from edgesdk.errors import EdgeError, LinkError, TrustError
from edgesdk.protocol.messages import MinTuf
from edgesdk.trust.change import Expiry
from edgesdk.trust.client import UpdateClient, Versions, check_not_frozen
from edgesdk.trust.repository import publish_release, refresh, rotate

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # the time of the fixtures' repositories
TARGET = "models/digits/1.0.0/release.json"


def refusal(client: UpdateClient) -> EdgeError:
    with pytest.raises(EdgeError) as caught:
        client.refresh()
    return caught.value


def test_an_honest_repository_is_believed(repo, serve, make_release):
    """The published bytes arrive, and the location of a bundle is told without fetching it."""
    server = serve(repo.path)
    client = repo.client(server.url)
    assert client.refresh() == Versions(root=1, timestamp=2)
    assert client.read_target(TARGET, 100_000) == (make_release() / "release.json").read_bytes()
    bundle = client.target("models/digits/1.0.0/digits-1.0.0.edge")
    assert bundle.length == (make_release() / "digits-1.0.0.edge").stat().st_size
    assert bundle.url == f"{server.url}/targets/models/digits/1.0.0/{bundle.sha256}.digits-1.0.0.edge"
    assert (repo.path / "targets/models/digits/1.0.0" / f"{bundle.sha256}.digits-1.0.0.edge").exists()


def test_a_small_target_is_fetched_once(repo, serve):
    """A second client on the same state reads it from disk; a damaged copy is fetched again."""
    server = serve(repo.path)
    first = repo.client(server.url).read_target(TARGET, 100_000)
    fetched = [path for path in server.seen if path.startswith("/targets/")]
    assert repo.client(server.url).read_target(TARGET, 100_000) == first
    assert [path for path in server.seen if path.startswith("/targets/")] == fetched
    next((repo.clients / "device" / "targets").iterdir()).write_bytes(b"damaged")
    assert repo.client(server.url).read_target(TARGET, 100_000) == first


def test_arbitrary_content_is_refused(repo, serve):
    """Arbitrary software attack: a target's bytes are replaced by as many others."""
    server = serve(repo.path)
    client = repo.client(server.url)
    target = client.target(TARGET)
    server.replace(target.url.removeprefix(server.url), b"x" * target.length)
    with pytest.raises(TrustError, match="tuf-target-mismatch"):
        client.read_target(TARGET, 100_000)
    assert list((repo.clients / "device" / "targets").iterdir()) == []


def test_a_target_longer_than_wanted_is_not_fetched(repo, serve):
    """The caller's limit holds before the first byte."""
    server = serve(repo.path)
    with pytest.raises(LinkError, match="message-too-large"):
        repo.client(server.url).read_target(TARGET, 10)
    assert not [path for path in server.seen if path.startswith("/targets/")]


@pytest.mark.parametrize("path", ["/metadata/timestamp.json", "/metadata/2.root.json", "/metadata/2.targets.json"])
def test_endless_data_is_cut_off(repo, serve, path):
    """Endless data attack: an answer without length or end is cut at the limit of its kind."""

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * 65536)

    server = serve(repo.path)
    server.answers[path] = endless
    assert refusal(repo.client(server.url)).code == "download-length"


@pytest.mark.parametrize(
    ("algorithms", "honest", "code"),
    [
        (("sha256", "sha512"), True, None),
        (("sha256", "sha512"), False, "tuf-target-mismatch"),
        (("sha512",), True, "tuf-metadata"),
    ],
)
def test_hashes_beside_sha256_are_verified_too(repo, serve, algorithms, honest, code):
    """A target is known by its SHA-256; another hash may stand beside it and must hold, but not in its place."""
    data = next((repo.path / "targets/models/digits/1.0.0").glob("*.release.json")).read_bytes()
    hashes = {name: hashlib.new(name, data).hexdigest() for name in algorithms}
    relist(repo, hashes if honest else hashes | {"sha512": "0" * 128})
    client = repo.client(serve(repo.path).url)
    if code is None:
        assert client.read_target(TARGET, 100_000) == data
        return
    with pytest.raises(TrustError, match=code):
        client.read_target(TARGET, 100_000)


def relist(repo, hashes):
    """Publish the target with other hashes, all of it correctly signed."""
    folder = repo.path / "metadata"
    targets, snapshot = (repo.metadata(f"2.{role}.json").signed for role in ("targets", "snapshot"))
    timestamp = repo.metadata("timestamp.json").signed
    targets.targets[TARGET].hashes = hashes
    for name, signed in (("targets", targets), ("snapshot", snapshot), ("timestamp", timestamp)):
        signed.version = 3
        data = repo.signed(name, signed, repo.keyids(name))
        (folder / (f"3.{name}.json" if name != "timestamp" else "timestamp.json")).write_bytes(data)
        if name == "targets":
            snapshot.meta["targets.json"] = MetaFile.from_data(3, data, ["sha256"])
        elif name == "snapshot":
            timestamp.snapshot_meta = MetaFile.from_data(3, data, ["sha256"])


def test_an_endless_target_is_cut_off(repo, serve):
    """The same for a target: never more bytes than the signed length."""
    server = serve(repo.path)
    client = repo.client(server.url)
    target = client.target(TARGET)
    server.replace(target.url.removeprefix(server.url), b"x" * (target.length + 1))
    with pytest.raises(LinkError, match="download-length"):
        client.read_target(TARGET, 100_000)


def test_an_extraneous_target_does_not_exist(repo, serve):
    """A file that lies in the repository but is not listed cannot be asked for."""
    (repo.path / "targets" / "extra.json").write_bytes(b"{}")
    with pytest.raises(TrustError, match="tuf-target-missing"):
        repo.client(serve(repo.path).url).target("extra.json")


def test_a_rollback_is_refused(repo, serve, make_release):
    """Rollback attack: the whole repository, correctly signed, as it was before; the newer one heals."""
    shutil.copytree(repo.path, repo.path.with_name("old"))
    publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    server, old = serve(repo.path), serve(repo.path.with_name("old"))
    assert repo.client(server.url).refresh().timestamp == 3
    assert refusal(repo.client(old.url)).code == "tuf-rollback"
    assert repo.client(server.url).refresh().timestamp == 3


def test_a_fast_forward_is_healed_by_rotation(repo, serve):
    """Fast-forward attack: a thief of the online keys signs version 2^30; new keys make the real one valid again."""
    server = serve(repo.path)
    thief = repo.metadata("timestamp.json").signed
    thief.version = 2**30
    server.replace("/metadata/timestamp.json", repo.signed("timestamp", thief, repo.keyids("timestamp")))
    assert repo.client(server.url).refresh().timestamp == 2**30
    server.answers.clear()
    assert refusal(repo.client(server.url)).code == "tuf-rollback"
    rotate(repo.path, repo.keys, "timestamp", options=repo.options)
    assert repo.client(server.url).refresh() == Versions(root=2, timestamp=3)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_a_frozen_repository_expires(new_repo, serve, role):
    """Freeze attack: each role ends at its own expiry to the second, though all others are still good."""
    days = {name: 5 if name == role else 1000 for name in ("root", "targets", "snapshot", "timestamp")}
    repo = new_repo(expiry=Expiry(**days))
    server = serve(repo.path)
    expiry = NOW + timedelta(days=5)
    assert repo.client(server.url, now=expiry - timedelta(seconds=1)).refresh().timestamp == 1
    error = refusal(repo.client(server.url, now=expiry))
    assert error.code == "tuf-expired"
    assert role in error.message


def test_a_frozen_mirror_is_seen_through_the_hub(repo, serve, make_release):
    """A mirror that is held back but unexpired is below the versions that a desired document names."""
    shutil.copytree(repo.path, repo.path.with_name("mirror"))
    published = publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    minimum = MinTuf(root=published.versions["root"], timestamp=published.versions["timestamp"])
    check_not_frozen(repo.client(serve(repo.path).url, "a").refresh(), minimum)
    held_back = repo.client(serve(repo.path.with_name("mirror")).url, "b").refresh()
    with pytest.raises(TrustError, match="tuf-frozen"):
        check_not_frozen(held_back, minimum)


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_metadata_of_different_times_cannot_be_mixed(repo, serve, make_release, role):
    """Mix-and-match attack: an older, correctly signed file under the newer file's name."""
    old = (repo.path / "metadata" / f"2.{role}.json").read_bytes()
    publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    server = serve(repo.path)
    server.replace(f"/metadata/3.{role}.json", old)
    assert refusal(repo.client(server.url)).code == "tuf-metadata"


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_strangers_key_signs_nothing(repo, serve, role):
    """Wrong key: metadata that is right in everything but its signature."""
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    forged = Metadata(repo.metadata(name).signed)
    forged.sign(CryptoSigner.generate_ed25519())
    server = serve(repo.path)
    server.replace(f"/metadata/{name}", forged.to_bytes())
    assert refusal(repo.client(server.url)).code in {"signature-invalid", "tuf-metadata"}


def test_a_role_cannot_sign_for_another(repo, serve):
    """The snapshot's key does not make a time stamp, and a snapshot is not a time stamp."""
    server = serve(repo.path)
    signed = repo.metadata("timestamp.json").signed
    server.replace("/metadata/timestamp.json", repo.signed("snapshot", signed, repo.keyids("snapshot")))
    assert refusal(repo.client(server.url)).code == "signature-invalid"
    server.replace("/metadata/timestamp.json", (repo.path / "metadata/2.snapshot.json").read_bytes())
    assert refusal(repo.client(server.url)).code == "tuf-metadata"


def test_too_few_signatures_are_refused(new_repo, serve, make_release):
    """Threshold: one stolen targets key of two does not publish, even with the online keys beside it."""
    repo = new_repo(threshold=2)
    publish_release(repo.path, repo.keys, make_release(), options=repo.options)
    server = serve(repo.path)
    assert repo.client(server.url).refresh().timestamp == 2
    evil = repo.metadata("2.targets.json").signed
    evil.version = 3
    _serve_signed(repo, server, repo.signed("targets", evil, repo.keyids("targets"), count=1), 3)
    assert refusal(repo.client(server.url)).code == "signature-invalid"
    evil.version = 4
    _serve_signed(repo, server, repo.signed("targets", evil, repo.keyids("targets"), count=2), 4)
    assert repo.client(server.url).refresh().timestamp == 4


def test_a_trickle_is_cut_at_the_deadline(repo, serve):
    """Slow retrieval attack: body bytes one by one, for ever; the client gives up at its deadline."""
    stop = threading.Event()

    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "10000")
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b" ")

    server = serve(repo.path)
    server.answers["/metadata/timestamp.json"] = trickle
    assert refusal(repo.client(server.url, deadline=0.5)).code == "http-slow"
    stop.set()


def test_trickled_headers_are_cut_at_the_deadline(repo, serve):
    """The same with header bytes, which no read timeout would ever end."""
    stop = threading.Event()

    def trickle(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not stop.wait(0.02):
            handler.wfile.write(b"x")

    server = serve(repo.path)
    server.answers["/metadata/timestamp.json"] = trickle
    assert refusal(repo.client(server.url, deadline=0.5)).code == "http-slow"
    stop.set()


def test_an_answer_that_ends_early_is_refused(repo, serve):
    """A cut connection is a link error, not a shorter file."""

    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "10000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    server = serve(repo.path)
    server.answers["/metadata/timestamp.json"] = cut
    assert refusal(repo.client(server.url)).code == "http-failed"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_other_answers_than_ok_are_named(repo, serve, status):
    """No redirect is followed; the status is in the message."""
    server = serve(repo.path)
    server.status("/metadata/timestamp.json", status)
    error = refusal(repo.client(server.url))
    assert (error.code, str(status) in error.message) == ("http-status", True)


def test_a_server_that_is_not_there_is_named(repo):
    """Connection refused is a link error with the address."""
    error = refusal(repo.client("http://127.0.0.1:9"))
    assert error.code == "http-failed"
    assert "127.0.0.1:9" in error.message


def test_rubbish_metadata_is_refused(repo, serve):
    """Bytes that are no metadata, and JSON nested too deeply, are tuf-metadata and nothing worse."""
    server = serve(repo.path)
    for rubbish in (b"", b"\xff\xfe", b"[]", b'{"signed": {}}', b"[" * 15_000):
        server.replace("/metadata/timestamp.json", rubbish)
        assert refusal(repo.client(server.url)).code == "tuf-metadata"


@pytest.mark.parametrize(("year", "code"), [(1970, None), (2026, None), (2038, "tuf-expired")])
def test_expiry_is_judged_at_the_callers_time(repo, serve, year, code):
    """A device that boots in 1970 is not bricked; one that believes in 2038 says why it refuses."""
    now = datetime(year, 11, 23, 12, tzinfo=UTC)
    client = repo.client(serve(repo.path).url, now=now)
    if code is None:
        assert client.refresh().timestamp == 2
    else:
        assert refusal(client).code == code


def test_a_time_in_2038_leaves_nothing_behind(repo, serve):
    """When the clock is right again, the same state verifies again."""
    server = serve(repo.path)
    repo.client(server.url).refresh()
    refusal(repo.client(server.url, now=datetime(2038, 1, 19, tzinfo=UTC)))
    assert repo.client(server.url).refresh().timestamp == 2


def test_the_time_is_asked_at_every_refresh(repo, serve):
    """A client that lives long does not judge by the time of its making."""
    times = [NOW, NOW, NOW + timedelta(days=2)]
    client = UpdateClient(repo.clients / "a", serve(repo.path).url, trusted_root=repo.root, now=lambda: times.pop(0))
    client.refresh()
    assert refusal(client).code == "tuf-expired"


def test_a_device_follows_several_roots(repo, serve):
    """From the pinned root through four rotations of root itself and of each role, also in one go."""
    server = serve(repo.path)
    early = repo.client(server.url, "early")
    early.refresh()
    for role in ("root", "timestamp", "snapshot", "targets", "root"):
        rotate(repo.path, repo.keys, role, options=repo.options)
        assert early.refresh().root == repo.client(server.url, f"late-{role}").refresh().root
    assert early.refresh().root == 6
    assert early.read_target(TARGET, 100_000)
    refresh(repo.path, repo.keys, options=repo.options)
    assert early.refresh().root == 6


def test_a_root_must_be_signed_by_its_predecessor(repo, serve):
    """A new root signed only by its own keys is a stranger's."""
    rotate(repo.path, repo.keys, "root", options=repo.options)
    server = serve(repo.path)
    stranger = repo.metadata("2.root.json")
    new_keys = repo.keyids("root")
    server.replace("/metadata/2.root.json", repo.signed("root", stranger.signed, new_keys))
    assert refusal(repo.client(server.url)).code == "signature-invalid"


def test_a_root_cannot_be_skipped(repo, serve):
    """Version 3 served as version 2 is refused."""
    for _ in range(2):
        rotate(repo.path, repo.keys, "root", options=repo.options)
    server = serve(repo.path)
    server.replace("/metadata/2.root.json", (repo.path / "metadata/3.root.json").read_bytes())
    assert refusal(repo.client(server.url)).code in {"signature-invalid", "tuf-rollback"}


def test_a_tampered_pinned_root_is_refused(repo, serve):
    """The pinned root must verify by itself."""
    with pytest.raises(TrustError):
        UpdateClient(
            repo.clients / "x",
            serve(repo.path).url,
            trusted_root=repo.root.replace(b'"version":1', b'"version":2'),
            now=lambda: NOW,
        )


def test_without_network_the_last_verified_state_counts(repo, serve):
    """Offline: what was verified is used until it expires, and nothing is asked of the network."""
    server = serve(repo.path)
    repo.client(server.url).refresh()
    data = repo.client(server.url).read_target(TARGET, 100_000)
    asked = len(server.seen)
    client = repo.client(server.url)
    assert client.refresh(offline=True).timestamp == 2
    assert client.read_target(TARGET, 100_000) == data
    assert len(server.seen) == asked
    with pytest.raises(TrustError, match="tuf-expired"):
        repo.client(server.url, now=NOW + timedelta(days=2)).refresh(offline=True)
    with pytest.raises(LinkError, match="http-status"):
        repo.client(server.url, "never-online").refresh(offline=True)


@pytest.mark.parametrize("damage", [b"", b"rubbish"])
def test_damaged_state_heals(repo, serve, damage):
    """After a power cut the client's files may be anything; the pinned root and the repository restore them."""
    server = serve(repo.path)
    rotate(repo.path, repo.keys, "root", options=repo.options)
    repo.client(server.url).refresh()
    for path in (repo.clients / "device" / "metadata").rglob("*.json"):
        if not path.is_symlink():
            path.write_bytes(damage)
    assert repo.client(server.url).refresh() == Versions(root=2, timestamp=2)


def _serve_signed(repo, server, targets: bytes, version: int) -> None:
    """What a thief of the online keys can do with a targets file: name it in a new snapshot and time stamp."""
    snapshot = repo.metadata("2.snapshot.json").signed
    snapshot.version = version
    snapshot.meta["targets.json"] = MetaFile.from_data(version, targets, ["sha256"])
    snapshot_data = repo.signed("snapshot", snapshot, repo.keyids("snapshot"))
    timestamp = repo.metadata("timestamp.json").signed
    timestamp.version = version
    timestamp.snapshot_meta = MetaFile.from_data(version, snapshot_data, ["sha256"])
    server.replace(f"/metadata/{version}.targets.json", targets)
    server.replace(f"/metadata/{version}.snapshot.json", snapshot_data)
    server.replace("/metadata/timestamp.json", repo.signed("timestamp", timestamp, repo.keyids("timestamp")))
