"""Publishing: what is written, what is refused, and that nothing is signed on top of what was not verified."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile

from edgesdk.bundle.manifest import DEPLOYMENT_KEYS_TARGET, ModelPolicy
from edgesdk.errors import ConfigError, ReleaseError, TrustError
from edgesdk.trust.deployment import decode_deployment_keys
from edgesdk.trust.keys import public_key_of, tuf_key
from edgesdk.trust.repository import (
    Options,
    init_repository,
    publish_model_policy,
    publish_release,
    refresh,
    rotate,
    set_deployment_keys,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHA256 = ["sha256"]


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_publishing_the_same_bytes_again_changes_nothing(repo, make_release):
    """A repeated run is safe: nothing is written, and it says so."""
    before = tree(repo.path)
    again = publish_release(repo.path, repo.keys, make_release(), options=repo.options)
    assert (again.changed, again.targets) == (False, ())
    assert tree(repo.path) == before


def test_a_published_release_never_changes(repo, make_release):
    """Other bytes under the same version are refused before anything is written."""
    before = tree(repo.path)
    with pytest.raises(ReleaseError, match="release-immutable"):
        publish_release(repo.path, repo.keys, make_release(weight=b"v"), options=repo.options)
    assert tree(repo.path) == before


def test_a_lost_file_of_a_published_release_is_restored(repo, make_release):
    """Publishing again repairs damaged and missing target files."""
    files = list((repo.path / "targets").rglob("*.*"))
    before = tree(repo.path)
    next(path for path in files if path.suffix == ".edge").unlink()
    next(path for path in files if path.suffix == ".json").write_bytes(b"damaged")
    assert not publish_release(repo.path, repo.keys, make_release(), options=repo.options).changed
    assert tree(repo.path) == before


def test_a_release_of_the_future_is_refused(repo, make_release):
    """Devices take a build time as proof that the time has come; one in 2099 would outdate all metadata."""
    with pytest.raises(ReleaseError, match="release-invalid"):
        publish_release(
            repo.path, repo.keys, make_release("9.0.0", built_at="2099-01-01T00:00:00Z"), options=repo.options
        )


def test_a_damaged_release_is_refused(repo, make_release):
    """A bundle that is not what its index says is not signed."""
    folder = make_release("2.0.0")
    bundle = folder / "digits-2.0.0.edge"
    bundle.chmod(0o644)
    bundle.write_bytes(bundle.read_bytes()[:-1] + b"!")
    before = tree(repo.path)
    with pytest.raises(ReleaseError):
        publish_release(repo.path, repo.keys, folder, options=repo.options)
    assert tree(repo.path) == before


def test_an_unsigned_target_in_the_repository_is_not_signed_upon(repo, make_release):
    """Whoever can write the folder cannot slip a target into the next signed metadata."""
    name = repo.path / "metadata" / "2.targets.json"
    metadata = repo.metadata("2.targets.json")
    metadata.signed.targets["evil"] = TargetFile.from_data("evil", b"evil", SHA256)
    name.write_bytes(metadata.to_bytes())
    with pytest.raises(TrustError):
        publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)


def test_a_swapped_root_does_not_lure_a_publisher(repo, make_release):
    """A root of the attacker that lists the publisher's real key beside his own: the pinned root does not reach it."""
    thief = CryptoSigner.generate_ed25519()
    root = repo.metadata("1.root.json").signed
    for role in root.roles:
        root.add_key(tuf_key(public_key_of(thief)), role)
    targets = repo.metadata("2.targets.json").signed
    targets.targets["evil"] = TargetFile.from_data("evil", b"evil", SHA256)
    files = {"1.root.json": _by(thief, root), "2.targets.json": _by(thief, targets)}
    snapshot = repo.metadata("2.snapshot.json").signed
    snapshot.meta["targets.json"] = MetaFile.from_data(2, files["2.targets.json"], SHA256)
    files["2.snapshot.json"] = _by(thief, snapshot)
    timestamp = repo.metadata("timestamp.json").signed
    timestamp.snapshot_meta = MetaFile.from_data(2, files["2.snapshot.json"], SHA256)
    files["timestamp.json"] = _by(thief, timestamp)
    for name, data in files.items():
        (repo.path / "metadata" / name).write_bytes(data)
    with pytest.raises(TrustError, match="signature-invalid"):
        publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)


def _by(signer, signed) -> bytes:
    metadata = Metadata(signed)
    metadata.sign(signer)
    return metadata.to_bytes()


def test_an_older_repository_is_not_built_upon(repo, make_release):
    """A restored backup would make metadata that devices refuse as rollback; the publisher is told first."""
    shutil.copytree(repo.path, repo.path.with_name("backup"))
    publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    with pytest.raises(TrustError, match="tuf-rollback"):
        publish_release(repo.path.with_name("backup"), repo.keys, make_release("3.0.0"), options=repo.options)


def test_a_threshold_needs_its_keys_before_anything_is_written(new_repo, make_release):
    """One of three keys lost: publishing goes on; two lost: key-threshold, nothing written. A stick brings one back."""
    repo = new_repo(threshold=2)
    publish_release(repo.path, repo.keys, make_release(), options=repo.options)
    first, second, _ = sorted(repo.keys.glob("targets-*.pem"))
    stick = repo.keys.with_name("stick")
    stick.mkdir()
    first.rename(stick / first.name)
    publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    second.unlink()
    before = tree(repo.path / "metadata")
    with pytest.raises(TrustError, match="key-threshold"):
        publish_release(repo.path, repo.keys, make_release("3.0.0"), options=repo.options)
    assert tree(repo.path / "metadata") == before
    publish_release(repo.path, [repo.keys, stick], make_release("3.0.0"), options=repo.options)


def test_keys_do_not_lie_in_what_is_served(tmp_path):
    """A key folder inside the repository would be published."""
    with pytest.raises(ConfigError, match="argument-invalid"):
        init_repository(tmp_path / "repo", tmp_path / "repo" / "keys")


def test_init_makes_one_repository_per_key_folder(repo, tmp_path):
    """An existing repository, and keys that belong to another one, are refused."""
    with pytest.raises(ConfigError, match="file-exists"):
        init_repository(repo.path, repo.keys, options=repo.options)
    with pytest.raises(ConfigError, match="file-exists"):
        init_repository(tmp_path / "other", repo.keys, options=repo.options)


def test_encrypted_keys_publish_with_their_passphrase_only(tmp_path, make_release):
    """Every private key is encrypted; without the passphrase nothing is signed."""
    repo, keys, options = tmp_path / "repo", tmp_path / "keys", Options(now=lambda: NOW)
    init_repository(repo, keys, passphrase="a long one", options=options)
    assert all(b"ENCRYPTED" in path.read_bytes() for path in keys.glob("*.pem"))
    with pytest.raises(TrustError, match="key-passphrase"):
        publish_release(repo, keys, make_release(), options=options)
    assert publish_release(repo, keys, make_release(), passphrase="a long one", options=options).changed
    rotate(repo, keys, "timestamp", passphrase="a long one", options=options)
    assert all(b"ENCRYPTED" in path.read_bytes() for path in keys.glob("*.pem"))


def test_deployment_keys_come_in_epochs(new_repo, serve):
    """The first set is epoch 1, a real change the next; the same set again changes nothing."""
    repo = new_repo()
    a, b = (public_key_of(CryptoSigner.generate_ed25519()) for _ in range(2))
    client = repo.client(serve(repo.path).url)

    def published():
        client.refresh()
        return decode_deployment_keys(client.read_target(DEPLOYMENT_KEYS_TARGET, 10_000))

    set_deployment_keys(repo.path, repo.keys, [a], options=repo.options)
    assert (published().epoch, published().keys) == (1, (a,))
    assert not set_deployment_keys(repo.path, repo.keys, [a], options=repo.options).changed
    set_deployment_keys(repo.path, repo.keys, [b, a], threshold=2, options=repo.options)
    assert (published().epoch, published().threshold) == (2, 2)
    with pytest.raises(TrustError, match="tuf-metadata"):
        set_deployment_keys(repo.path, repo.keys, [b, b], threshold=2, options=repo.options)


def test_deployment_keys_can_be_there_from_the_start(tmp_path):
    """`init` with a hub's key makes a repository from which devices can verify at once."""
    key = public_key_of(CryptoSigner.generate_ed25519())
    repo = tmp_path / "repo"
    init_repository(repo, tmp_path / "keys", deployment_keys=[key])
    assert json.loads(next((repo / "targets/trust").iterdir()).read_bytes())["keys"] == [msgspec.to_builtins(key)]


def test_a_policy_names_its_anchor_and_its_reason(repo, serve, make_anchor):
    """The anchor bundle becomes a target; each change has the next version; a reason is required."""
    anchor = make_anchor()
    publish_model_policy(repo.path, repo.keys, "digits", anchor=anchor.path, reason="first", options=repo.options)
    client = repo.client(serve(repo.path).url)
    policy = msgspec.json.decode(client.read_target("models/digits/policy.json", 10_000), type=ModelPolicy)
    assert (policy.version, policy.reason) == (1, "first")
    target = client.target(policy.anchor.path)
    assert (target.sha256, target.length) == (anchor.sha256, anchor.size)
    publish_model_policy(repo.path, repo.keys, "digits", anchor=None, reason="it was wrong", options=repo.options)
    client.refresh()
    policy = msgspec.json.decode(client.read_target("models/digits/policy.json", 10_000), type=ModelPolicy)
    assert (policy.version, policy.anchor) == (2, None)
    with pytest.raises(ConfigError, match="argument-invalid"):
        publish_model_policy(repo.path, repo.keys, "digits", anchor=None, reason=" ", options=repo.options)


@pytest.mark.parametrize("model", ["../../etc", "", "Digits", "a/b"])
def test_a_policy_is_for_a_model(repo, model):
    """A name that is none cannot become a path."""
    before = tree(repo.path)
    with pytest.raises(ConfigError, match="argument-invalid"):
        publish_model_policy(repo.path, repo.keys, model, anchor=None, reason="r", options=repo.options)
    assert tree(repo.path) == before


def test_an_anchor_must_judge_this_model(repo, make_anchor):
    """A bundle of another model, or one without a truth set, is no anchor."""
    for anchor in (make_anchor(model="other"), make_anchor(truth=False)):
        with pytest.raises(ReleaseError, match="release-invalid"):
            publish_model_policy(repo.path, repo.keys, "digits", anchor=anchor.path, reason="r", options=repo.options)


def test_refresh_renews_what_expires(repo, serve):
    """After two weeks time stamp and snapshot are renewed; a client of that day is content."""
    later = NOW + timedelta(days=14)
    done = refresh(repo.path, repo.keys, options=repo.at(days=14))
    assert (done.versions["snapshot"], done.versions["timestamp"], done.versions["targets"]) == (3, 3, 2)
    assert repo.client(serve(repo.path).url, now=later).refresh().timestamp == 3


def test_online_keys_alone_refresh(repo, serve, tmp_path):
    """The machine that refreshes holds two keys and the pinned root; it cannot publish."""
    online = tmp_path / "online"
    online.mkdir()
    for path in [*repo.keys.glob("snapshot-*"), *repo.keys.glob("timestamp-*"), repo.keys / "trusted-root.json"]:
        shutil.copy2(path, online)
    assert refresh(repo.path, online, options=repo.options).versions["timestamp"] == 3
    with pytest.raises(TrustError, match="key-threshold"):
        refresh(repo.path, online, role="targets", options=repo.options)


def test_refresh_does_not_hide_what_it_cannot_renew(repo):
    """Expired targets or root: the message names the command that helps."""
    with pytest.raises(TrustError, match="targets expired") as caught:
        refresh(repo.path, repo.keys, options=repo.at(days=100))
    assert "--role targets" in caught.value.hint
    assert refresh(repo.path, repo.keys, role="targets", options=repo.at(days=100)).changed
    with pytest.raises(TrustError, match="root expired") as caught:
        refresh(repo.path, repo.keys, role="targets", options=repo.at(days=400))
    assert "rotate root" in caught.value.hint
    assert rotate(repo.path, repo.keys, "root", options=repo.at(days=400)).versions["root"] == 2


def test_an_old_key_signs_nothing_after_rotation(repo, make_release):
    """The next publication is signed by the new keys only, and needs only them."""
    old = set(repo.keys.glob("targets-*.pem"))
    rotate(repo.path, repo.keys, "targets", options=repo.options)
    for path in old:
        path.unlink()
    publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    newest = repo.metadata("4.targets.json")
    assert list(newest.signatures) == repo.keyids("targets")


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot",), ("snapshot", "timestamp"), ("targets",)])
def test_a_lost_key_is_replaced_by_root(repo, serve, make_release, roles):
    """Root alone signs new keys in: enrolled and new devices follow, and the new keys do what the old ones did."""
    url = serve(repo.path).url
    device = repo.client(url)
    device.refresh()
    for path in [path for role in roles for path in repo.keys.glob(f"{role}-*.pem")]:
        path.unlink()
    done = rotate(repo.path, repo.keys, roles, options=repo.options)
    assert (done.versions["root"], device.refresh().root) == (2, 2)
    publish_release(repo.path, repo.keys, make_release("2.0.0"), options=repo.options)
    refresh(repo.path, repo.keys, options=repo.options)
    for client in (device, repo.client(url, "fresh")):
        client.refresh()
        assert client.target("models/digits/2.0.0/release.json")


def test_lost_and_expired_online_keys_are_replaced_at_once(repo, serve):
    """A month after the machine with both online keys died, one rotation by root brings the repository back."""
    for path in [*repo.keys.glob("snapshot-*.pem"), *repo.keys.glob("timestamp-*.pem")]:
        path.unlink()
    rotate(repo.path, repo.keys, ("snapshot", "timestamp"), options=repo.at(days=30))
    later = NOW + timedelta(days=30)
    assert repo.client(serve(repo.path).url, now=later).refresh().root == 2


def test_a_rotation_that_cannot_be_finished_is_not_begun(repo):
    """Without the time stamp's key, which is not being replaced, a snapshot rotation writes nothing at all."""
    for path in [*repo.keys.glob("snapshot-*.pem"), *repo.keys.glob("timestamp-*.pem")]:
        path.unlink()
    before = tree(repo.path)
    with pytest.raises(TrustError, match="timestamp needs 1") as caught:
        rotate(repo.path, repo.keys, "snapshot", options=repo.options)
    assert caught.value.code == "key-threshold"
    assert tree(repo.path) == before


def test_a_repository_that_is_not_there_is_not_made(repo, tmp_path):
    """A mistyped folder is named and not created."""
    with pytest.raises(ConfigError, match="file-missing"):
        refresh(tmp_path / "mistyped", repo.keys, options=repo.options)
    assert not (tmp_path / "mistyped").exists()


def test_keys_never_reach_the_repository(repo):
    """No file that is served holds a private key."""
    assert not [name for name, data in tree(repo.path).items() if b"PRIVATE" in data]
