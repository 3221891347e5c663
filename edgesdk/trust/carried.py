"""A repository carried in a file: what goes into it, and how a client reads it instead of a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface

from edgesdk.bundle.export import DESIRED_NAME, METADATA_FOLDER, TARGETS_FOLDER, Export, write_export
from edgesdk.bundle.manifest import (
    DEPLOYMENT_KEYS_TARGET,
    ModelPolicy,
    ReleaseIndex,
    bundle_target,
    policy_target,
    release_target,
)
from edgesdk.bundle.writer import BundleFile
from edgesdk.clock import rfc3339
from edgesdk.errors import ConfigError, ReleaseError, TrustError
from edgesdk.trust.metadata import METADATA, ROLES, TARGETS, Current, load_current, root_path
from edgesdk.trust.repository import first_root

_NOT_FOUND = 404


def export_release(
    repo: Path,
    model: str,
    release: str,
    out: Path,
    *,
    now: datetime,
    variants: Sequence[str] = (),
    desired: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> BundleFile:
    """Write one file with all that a device needs to verify and run a release of this repository.

    Args:
        repo: Folder of the repository; it is verified first.
        model: The model.
        release: The release.
        out: The file; an existing one is replaced.
        now: Nothing that has expired is exported.
        variants: Which variants; empty: all.
        desired: The signed desired document (DSSE) of one device.
        device: Whose document it is.

    Raises:
        TrustError: ``tuf-target-missing``, ``tuf-target-mismatch``, ``tuf-expired`` or another ``tuf-…`` code.
        ConfigError: ``file-missing``, or ``argument-invalid`` for a variant that the release does not have.
        ReleaseError: ``release-invalid``, ``bundle-limit``.
    """
    current = load_current(repo, first_root(repo))
    for role in ROLES:
        if getattr(current, role).is_expired(now):
            expired = rfc3339(getattr(current, role).expires)
            raise TrustError("tuf-expired", f"the repository's {role} expired at {expired}")
    index = _index(repo, current, model, release)
    chosen = tuple(each for each in index.variants if not variants or each.variant in variants)
    missing = sorted(set(variants) - {each.variant for each in chosen})
    if missing:
        known = ", ".join(each.variant for each in index.variants)
        raise ConfigError("argument-invalid", f"{model} {release} has no variant {missing[0]!r}; it has {known}")
    names = [DEPLOYMENT_KEYS_TARGET, release_target(model, release)]
    names += [bundle_target(model, release, each.bundle) for each in chosen]
    names += _policy_targets(repo, current, model)
    files: dict[str, bytes | Path] = {}
    for name in names:
        entry = _listed(current, name)
        files[f"{TARGETS_FOLDER}/{_digest(entry)}"] = _file(repo, entry)
    files |= {f"{METADATA_FOLDER}/{path.name}": path for path in _metadata(repo, current)}
    if desired is not None:
        files[DESIRED_NAME] = msgspec.json.encode(desired)
    shown = tuple(each.variant for each in chosen)
    return write_export(out, files, model=model, release=release, variants=shown, device=device)


class ExportFetcher(FetcherInterface):
    """Serves a client from an exported file what it would ask of a server.

    Args:
        export: The open file.
        base_url: Of the repository that the client believes to speak to.
    """

    def __init__(self, export: Export, base_url: str) -> None:
        self._export = export
        self._base = base_url.rstrip("/") + "/"

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = entry_name(url, self._base)
        if name not in self._export.entries:
            raise DownloadHTTPError(f"the imported file has no {name}", _NOT_FOUND)
        return self._chunks(name)

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            yield from self._export.chunks(name)
        except ReleaseError as error:
            raise DownloadError(f"{name} of the imported file cannot be read: {error}") from error


def entry_name(url: str, base: str) -> str:
    """Return the name in an exported file of what a repository serves at `url` (pure).

    ``BASE/metadata/2.root.json`` is ``metadata/2.root.json``; ``BASE/targets/models/m/HASH.name`` is ``targets/HASH``.
    """
    folder, _, rest = url.removeprefix(base).partition("/")
    last = rest.rpartition("/")[2]
    return f"{TARGETS_FOLDER}/{last.partition('.')[0]}" if folder == TARGETS else f"{METADATA_FOLDER}/{last}"


def _metadata(repo: Path, current: Current) -> Iterator[Path]:
    for version in range(1, current.root.version + 1):
        yield root_path(repo, version)
    folder = repo / METADATA
    yield folder / "timestamp.json"
    yield folder / f"{current.snapshot.version}.snapshot.json"
    yield folder / f"{current.targets.version}.targets.json"


def _index(repo: Path, current: Current, model: str, release: str) -> ReleaseIndex:
    data = _file(repo, _listed(current, release_target(model, release))).read_bytes()
    try:
        return msgspec.json.decode(data, type=ReleaseIndex)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReleaseError("release-invalid", f"the index of {model} {release} is invalid: {error}") from error


def _policy_targets(repo: Path, current: Current, model: str) -> list[str]:
    name = policy_target(model)
    if name not in current.targets.targets:
        return []
    try:
        policy = msgspec.json.decode(_file(repo, _listed(current, name)).read_bytes(), type=ModelPolicy)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReleaseError("release-invalid", f"the policy of {model} is invalid: {error}") from error
    return [name, policy.anchor.path] if policy.anchor is not None else [name]


def _listed(current: Current, name: str) -> TargetFile:
    found = current.targets.targets.get(name)
    if found is None:
        raise TrustError("tuf-target-missing", f"the repository lists no target {name}")
    return found


def _digest(entry: TargetFile) -> str:
    return str(entry.hashes["sha256"])


def _file(repo: Path, entry: TargetFile) -> Path:
    """Return a target's file, its length and hash checked."""
    folder, _, name = entry.path.rpartition("/")
    path = repo / TARGETS / folder / f"{_digest(entry)}.{name}"
    try:
        with path.open("rb") as file:
            entry.verify_length_and_hashes(file)
    except (OSError, RepositoryError) as error:
        raise TrustError("tuf-target-mismatch", f"{path} is not the target that is signed: {error}") from error
    return path
