"""Publishing: everything that `edge repo` does to a TUF repository. Consistent snapshots, Ed25519, static files.

REPO/metadata/N.root.json N.targets.json N.snapshot.json timestamp.json
REPO/targets/models/MODEL/RELEASE/SHA256.NAME …

Every function locks the repository, verifies it from the root pinned in the key folder, makes one change and writes it
so that clients see the old or the new repository (see `edgesdk.trust.change`). `keys` is one key folder or several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from edgesdk.bundle.archive import open_bundle
from edgesdk.bundle.manifest import (
    DEPLOYMENT_KEYS_TARGET,
    MODEL_POLICY_SCHEMA,
    AnchorSet,
    ModelName,
    ModelPolicy,
    bundle_target,
    policy_target,
    release_target,
)
from edgesdk.bundle.release import RELEASE_NAME, load_release
from edgesdk.canonical import canonical_json
from edgesdk.clock import parse_rfc3339
from edgesdk.errors import ConfigError, ReleaseError
from edgesdk.trust.change import (
    SHA256,
    Change,
    Options,
    Published,
    change,
    locked,
    replace_keys,
    sign,
    store_target,
)
from edgesdk.trust.deployment import DEPLOYMENT_SCHEMA, DeploymentKeys, decode_deployment_keys
from edgesdk.trust.keyring import KeyRing
from edgesdk.trust.keys import PublicKey
from edgesdk.trust.metadata import METADATA, ROLES, Role, load_root, root_path

__all__ = [
    "Options",
    "Published",
    "Role",
    "first_root",
    "init_repository",
    "parse_role",
    "publish_model_policy",
    "publish_release",
    "refresh",
    "rotate",
    "set_deployment_keys",
]

KeyFolders = Path | Sequence[Path]
PEOPLE: Final[tuple[Role, ...]] = ("root", "targets")  # the roles that a threshold of people signs
MAX_THRESHOLD = 8
SKEW = timedelta(days=1)


def init_repository(
    repo: Path,
    keys: KeyFolders,
    *,
    passphrase: str | None = None,
    threshold: int = 1,
    deployment_keys: Sequence[PublicKey] = (),
    options: Options | None = None,
) -> Published:
    """Make the keys and an empty repository; a run that was interrupted is completed by the next.

    Args:
        repo: Folder of the repository.
        keys: Where the private keys go (the first folder).
        passphrase: Encrypts the private keys; None leaves them open, for demos and CI.
        threshold: How many keys must sign root and targets. Above one there is a spare key of each, so that one lost
            key is not the end.
        deployment_keys: Whose desired documents count; see `set_deployment_keys`.
        options: Expiry, time and writing.

    Raises:
        ConfigError: ``file-exists`` if there is a repository, or the key folder is another one's;
            ``argument-invalid`` if the key folder lies in the repository.
    """
    options = options or Options()
    ring = KeyRing(keys, passphrase, options.write)
    ring.check_apart(repo)
    if not 1 <= threshold <= MAX_THRESHOLD:
        raise ConfigError("argument-invalid", f"a threshold of {threshold}; expected 1 to {MAX_THRESHOLD}")
    with locked(repo):
        if root_path(repo, 1).exists():
            raise ConfigError("file-exists", f"{repo} is a repository already")
        if ring.has_published():
            raise ConfigError("file-exists", f"the keys in {ring} belong to another repository")
        if not ring.has_root():
            ring.pin_root(_first_root(ring, threshold, options))
        _write_first(repo, ring, deployment_keys, options)
    with change(repo, ring, options) as made:
        made.remember()
        return made.result()


def first_root(repo: Path) -> bytes:
    """Return the root metadata that devices pin at enrolment, byte for byte.

    Raises:
        ConfigError: ``file-missing``.
    """
    try:
        return root_path(repo, 1).read_bytes()
    except FileNotFoundError:
        raise ConfigError("file-missing", f"{repo} is no repository", hint="Make it: `edge repo init`.") from None


def publish_release(
    repo: Path,
    keys: KeyFolders,
    release_dir: Path,
    *,
    passphrase: str | None = None,
    options: Options | None = None,
) -> Published:
    """Publish a release folder. A published release never changes; publishing the same bytes again changes nothing.

    Raises:
        ReleaseError: ``release-immutable`` if other bytes are published under this version, ``release-invalid`` if it
            claims to be built in the future (devices take its build time as proof), and what `load_release` raises.
        ConfigError: ``file-missing``.
        TrustError: See `edgesdk.trust.change.change`; ``key-threshold``, ``key-passphrase``.
    """
    options = options or Options()
    index = load_release(release_dir)
    if parse_rfc3339(index.built_at) > options.now() + SKEW:
        raise ReleaseError("release-invalid", f"{release_dir} says it was built at {index.built_at}, in the future")
    files = {
        bundle_target(index.model, index.release, entry.bundle): release_dir / entry.bundle for entry in index.variants
    }
    files[release_target(index.model, index.release)] = release_dir / RELEASE_NAME
    with change(repo, KeyRing(keys, passphrase, options.write), options) as made:
        _check_immutable(made, files)
        for path, file in files.items():
            made.put(path, file)
        return _finish(made)


def publish_model_policy(
    repo: Path,
    keys: KeyFolders,
    model: str,
    *,
    anchor: Path | None,
    reason: str,
    passphrase: str | None = None,
    options: Options | None = None,
) -> Published:
    """Publish a model's policy: the anchor set that judges its every release, and why it is this one.

    Args:
        repo: Folder of the repository.
        keys: Key folders.
        model: Name of the model.
        anchor: A bundle whose truth set counts; None removes the anchor set.
        reason: Why; signed and kept with the policy.
        passphrase: Of the private keys.
        options: Expiry, time and writing.

    Raises:
        ConfigError: ``argument-invalid`` without a reason, or if the model's name cannot be one.
        ReleaseError: ``release-invalid`` if the bundle has no truth set or is of another model.
        TrustError: As `publish_release`.
    """
    if not reason.strip():
        raise ConfigError("argument-invalid", "a policy changes only with a reason", hint="Pass --reason.")
    try:
        msgspec.convert(model, ModelName)
    except msgspec.ValidationError as error:
        raise ConfigError("argument-invalid", f"{model[:80]!r} is no model name: {error}") from error
    options = options or Options()
    with change(repo, KeyRing(keys, passphrase, options.write), options) as made:
        entry = None if anchor is None else _put_anchor(made, model, anchor, reason)
        old = made.read(policy_target(model))
        version = 1 if old is None else msgspec.json.decode(old, type=ModelPolicy).version + 1
        policy = ModelPolicy(schema=MODEL_POLICY_SCHEMA, model=model, version=version, anchor=entry, reason=reason)
        made.put(policy_target(model), canonical_json(policy))
        return _finish(made)


def set_deployment_keys(
    repo: Path,
    keys: KeyFolders,
    deployment_keys: Sequence[PublicKey],
    *,
    threshold: int = 1,
    passphrase: str | None = None,
    options: Options | None = None,
) -> Published:
    """Name the keys whose desired documents and commands devices obey. A real change starts a new epoch.

    Raises:
        TrustError: ``tuf-metadata`` if the threshold cannot be met; else as `publish_release`.
    """
    options = options or Options()
    with change(repo, KeyRing(keys, passphrase, options.write), options) as made:
        data = made.read(DEPLOYMENT_KEYS_TARGET)
        old = None if data is None else decode_deployment_keys(data)
        if old is None or (old.threshold, set(old.keys)) != (threshold, set(deployment_keys)):
            epoch = 1 if old is None else old.epoch + 1
            made.put(DEPLOYMENT_KEYS_TARGET, _deployment(deployment_keys, threshold, epoch))
        return _finish(made)


def refresh(
    repo: Path,
    keys: KeyFolders,
    *,
    role: Role = "snapshot",
    passphrase: str | None = None,
    options: Options | None = None,
) -> Published:
    """Sign metadata anew before it expires: `role` and what depends on it (snapshot: also the time stamp).

    Raises:
        ConfigError: ``argument-invalid`` for root, which is renewed by `rotate`.
        TrustError: As `publish_release`.
    """
    if role == "root":
        raise ConfigError(
            "argument-invalid", f"cannot refresh {role}", hint="Root is renewed by `edge repo rotate root`."
        )
    options = options or Options()
    with change(repo, KeyRing(keys, passphrase, options.write), options) as made:
        made.commit(role)
        return made.result()


def rotate(
    repo: Path,
    keys: KeyFolders,
    roles: Role | Sequence[Role],
    *,
    passphrase: str | None = None,
    options: Options | None = None,
) -> Published:
    """Replace the keys of roles by new ones (as many, same threshold); one next root says so.

    A new root is signed by the old and the new threshold. Another role's metadata is signed by old and new keys
    *before* the new root appears, so that it verifies from either root and no client fails in between. Where the old
    keys are lost the root comes first and the metadata right after it, signed by the new keys alone; if that is
    interrupted clients find nothing new (``signature-invalid``) until the same rotation is run again.

    Raises:
        TrustError: As `publish_release`.
        ConfigError: ``argument-invalid`` without a role.
    """
    options = options or Options()
    ring = KeyRing(keys, passphrase, options.write)
    wanted: list[Role] = [role for role in ROLES if role in ({roles} if isinstance(roles, str) else set(roles))]
    if not wanted:
        raise ConfigError("argument-invalid", "no role to rotate")
    below = [role for role in wanted if role != "root"]
    with change(repo, ring, options, replacing=below) as made:
        signers = made.root_signers()
        lost = [role for role in below if not made.has_keys(role)]
        if below:
            made.check(below[0], but=below)
        created = {role: [ring.create(role) for _ in made.root.roles[role].keyids] for role in wanted}
        new = {role: ring.signers(role, [key.keyid for key in each], len(each)) for role, each in created.items()}
        if below and not lost:
            made.commit(below[0], {role: new[role] for role in below})
        for role, each in created.items():
            replace_keys(made.root, role, each)
        made.commit_root([*signers, *new.get("root", ())], then=below[0] if lost else None)
        return made.result()


def parse_role(text: str) -> Role:
    """Return the role of this name.

    Raises:
        ConfigError: ``argument-invalid``.
    """
    for role in ROLES:
        if role == text:
            return role
    raise ConfigError("argument-invalid", f"there is no role {text[:40]!r}; expected one of {', '.join(ROLES)}")


def _finish(made: Change) -> Published:
    if made.pending:
        made.commit("targets")
    else:
        made.remember()
    return made.result(changed=made.pending)


def _check_immutable(made: Change, files: Mapping[str, Path]) -> None:
    for path, file in files.items():
        old = made.targets.targets.get(path)
        if old is not None and old != TargetFile.from_file(path, str(file), SHA256):
            raise ReleaseError("release-immutable", f"{path} is published with other content than {file}")


def _put_anchor(made: Change, model: str, anchor: Path, reason: str) -> AnchorSet:
    with open_bundle(anchor) as bundle:
        bundle.verify()
        if bundle.manifest.model != model:
            raise ReleaseError("release-invalid", f"{anchor} is of model {bundle.manifest.model}, expected {model}")
        if bundle.manifest.golden.truth is None:
            raise ReleaseError("release-invalid", f"{anchor} has no truth set to judge by")
        sha256, size = bundle.sha256(), bundle.size
    path = f"models/{model}/anchors/{sha256}.edge"
    made.put(path, anchor)
    return AnchorSet(path=path, sha256=sha256, size=size, reason=reason)


def _deployment(keys: Sequence[PublicKey], threshold: int, epoch: int) -> bytes:
    document = DeploymentKeys(schema=DEPLOYMENT_SCHEMA, epoch=epoch, threshold=threshold, keys=tuple(keys))
    data = canonical_json(document)
    decode_deployment_keys(data)
    return data


def _first_root(ring: KeyRing, threshold: int, options: Options) -> bytes:
    root = Root(consistent_snapshot=True)
    for role in ROLES:
        needed = threshold if role in PEOPLE else 1
        made = [ring.create(role) for _ in range(needed + (1 if needed > 1 else 0))]
        replace_keys(root, role, made)
        root.roles[role].threshold = needed
    signers = ring.signers("root", root.roles["root"].keyids, root.roles["root"].threshold)
    return sign("root", root, signers, options)


def _write_first(repo: Path, ring: KeyRing, deployment_keys: Sequence[PublicKey], options: Options) -> None:
    """Write version 1 of everything; the root, which makes it a repository, last."""
    data = ring.trusted_root()
    root = load_root(data)
    targets = Targets()
    if deployment_keys:
        document = _deployment(deployment_keys, 1, 1)
        targets.targets[DEPLOYMENT_KEYS_TARGET] = TargetFile.from_data(DEPLOYMENT_KEYS_TARGET, document, SHA256)
        store_target(repo, targets.targets[DEPLOYMENT_KEYS_TARGET], document, options)
    signers = {
        role: ring.signers(role, root.roles[role].keyids, root.roles[role].threshold)
        for role in ROLES
        if role != "root"
    }
    metadata = repo / METADATA
    targets_data = sign("targets", targets, signers["targets"], options)
    options.write(metadata / "1.targets.json", targets_data)
    snapshot = Snapshot(meta={"targets.json": MetaFile.from_data(1, targets_data, SHA256)})
    snapshot_data = sign("snapshot", snapshot, signers["snapshot"], options)
    options.write(metadata / "1.snapshot.json", snapshot_data)
    timestamp = Timestamp(snapshot_meta=MetaFile.from_data(1, snapshot_data, SHA256))
    options.write(metadata / "timestamp.json", sign("timestamp", timestamp, signers["timestamp"], options))
    options.write(root_path(repo, 1), data)
