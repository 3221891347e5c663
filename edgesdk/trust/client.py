"""The verifying client of a TUF repository: what devices and hubs believe about releases.

python-tuf does the verification; this module adds what it leaves to its user: expiry is judged at a time that the
caller passes (devices' clocks lie), every error becomes one of ours, what was verified is durable, and a client without
network can use what it verified last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, TargetFile, Updater, UpdaterConfig
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from edgesdk.durable import make_folder, sync_file, sync_folder
from edgesdk.errors import LinkError, TrustError
from edgesdk.protocol.messages import MinTuf
from edgesdk.trust.fetcher import HttpFetcher
from edgesdk.trust.mapping import tuf_errors
from edgesdk.trust.metadata import METADATA, TARGETS

_NOT_FOUND = 404
_LIMITS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=512_000,  # bytes
    timestamp_max_length=16_384,
    snapshot_max_length=2_000_000,
    targets_max_length=5_000_000,
)


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of the metadata in force; a desired document names the lowest that are acceptable."""

    root: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Target:
    """One file of the repository as signed metadata describes it. `length` in bytes."""

    path: str
    length: int
    sha256: str
    url: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where a client keeps what it verified, and where the repository is served."""

    metadata: Path
    targets: Path
    metadata_url: str
    targets_url: str


class UpdateClient:
    """Verifies a repository.

    Args:
        state_dir: Folder for verified metadata and small targets; one process at a time.
        base_url: Where the repository is served; ``metadata/`` and ``targets/`` are below it.
        places: All four places, where they are not below `state_dir` and `base_url`.
        trusted_root: Root metadata pinned at enrolment; newer roots are reached from it, step by signed step.
        now: The time at which expiry is judged: the caller's best knowledge, not necessarily the system's clock.
        fetcher: Network side; `HttpFetcher` when left out.

    Raises:
        TrustError: ``tuf-metadata`` or ``signature-invalid`` if the pinned root does not verify by itself.
    """

    def __init__(
        self,
        state_dir: Path,
        base_url: str,
        *,
        trusted_root: bytes,
        now: Callable[[], datetime],
        fetcher: FetcherInterface | None = None,
        places: Places | None = None,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._places = places or Places(
            state_dir / METADATA, state_dir / TARGETS, f"{self._url}/{METADATA}", f"{self._url}/{TARGETS}"
        )
        self._root = trusted_root
        self._now = now
        self._fetcher = fetcher or HttpFetcher()
        with tuf_errors("the client's folder"):
            make_folder(self._places.metadata, mode=0o700)
            make_folder(self._places.targets, mode=0o700)
        self._updater = self._new_updater(self._fetcher)
        self._refreshed = False

    def refresh(self, *, offline: bool = False) -> Versions:
        """Fetch and verify the newest metadata; returns its versions.

        Args:
            offline: Fetch nothing: use what was verified last, if it has not expired.

        Raises:
            TrustError: ``tuf-expired``, ``tuf-rollback``, ``signature-invalid``, ``tuf-metadata``.
            LinkError: ``http-failed``, ``http-slow``, ``http-status``, ``download-length``.
            DeploymentError: ``disk-full``, ``store-corrupt``.
        """
        self._refreshed = False
        self._updater = self._new_updater(_Local(self._places.metadata) if offline else self._fetcher)
        with tuf_errors(f"the repository {self._url}"):
            self._updater.refresh()
            self._make_durable()
        self._refreshed = True
        trusted = _trusted(self._updater)
        return Versions(root=trusted.root.version, timestamp=trusted.timestamp.version)

    def target(self, path: str) -> Target:
        """Return what signed metadata says of a target (refreshes first if that was not done).

        Raises:
            TrustError: ``tuf-target-missing``, and what `refresh` raises.
        """
        found = self._find(path)
        sha256 = _sha256(found)
        folder, _, name = path.rpartition("/")
        prefixed = f"{folder}/{sha256}.{name}" if folder else f"{sha256}.{name}"
        return Target(path, found.length, sha256, f"{self._places.targets_url}/{quote(prefixed)}")

    def read_target(self, path: str, max_bytes: int) -> bytes:
        """Return a small target's bytes, verified; they are fetched only once.

        Raises:
            TrustError: ``tuf-target-missing``, ``tuf-target-mismatch``, and what `refresh` raises.
            LinkError: ``message-too-large`` beyond `max_bytes`, and what `refresh` raises.
        """
        found = self._find(path)
        if found.length > max_bytes:
            raise LinkError("message-too-large", f"the target {path} has {found.length} bytes; {max_bytes} is the most")
        _sha256(found)
        with tuf_errors(f"the target {path}", target=True):
            cached = self._updater.find_cached_target(found) or self._updater.download_target(found)
            data = Path(cached).read_bytes()
            found.verify_length_and_hashes(data)  # what is returned is what was verified
        return data

    def _find(self, path: str) -> TargetFile:
        if not self._refreshed:
            self.refresh()
        with tuf_errors(f"the repository {self._url}"):
            found = self._updater.get_targetinfo(path)
        if found is None:
            raise TrustError("tuf-target-missing", f"the repository {self._url} lists no target {path}")
        return found

    def _new_updater(self, fetcher: FetcherInterface) -> Updater:
        with tuf_errors("the pinned root"):
            updater = Updater(
                metadata_dir=str(self._places.metadata),
                metadata_base_url=f"{self._places.metadata_url}/",
                target_dir=str(self._places.targets),
                target_base_url=f"{self._places.targets_url}/",
                fetcher=fetcher,
                config=_LIMITS,
                bootstrap=self._root,
            )
        _trusted(updater).reference_time = self._now()
        return updater

    def _make_durable(self) -> None:
        """Protection against rollback must outlive a power cut; python-tuf renames without fsync."""
        for path in self._places.metadata.glob("*.json"):
            sync_file(path)
        sync_folder(self._places.metadata)


class _Local(FetcherInterface):
    """Serves a client its own verified files, so that the same code verifies them again without network."""

    def __init__(self, metadata: Path) -> None:
        self._metadata = metadata

    def _fetch(self, url: str) -> Iterator[bytes]:
        asked = url.rpartition("/")[2]
        name = asked.lstrip("0123456789.")  # kept under their names without version
        if name in {"timestamp.json", "snapshot.json", "targets.json"}:
            with contextlib.suppress(FileNotFoundError):
                return iter([(self._metadata / name).read_bytes()])
        raise DownloadHTTPError(f"{asked} was not fetched before, and there is no network", _NOT_FOUND)


def check_not_frozen(versions: Versions, minimum: MinTuf) -> None:
    """Refuse metadata older than the hub knows of: a mirror or a cache is held back (pure).

    Raises:
        TrustError: ``tuf-frozen``.
    """
    if versions.root < minimum.root or versions.timestamp < minimum.timestamp:
        raise TrustError(
            "tuf-frozen",
            f"the repository has root {versions.root} and timestamp {versions.timestamp}, expected at least"
            f" {minimum.root} and {minimum.timestamp}",
        )


def _sha256(found: TargetFile) -> str:
    """Return the hash by which bundles are known everywhere; others beside it are verified too where bytes are read."""
    digest = found.hashes.get("sha256")
    if digest is None:
        raise TrustError("tuf-metadata", f"the target {found.path} has hashes {sorted(found.hashes)}, expected sha256")
    return digest


def _trusted(updater: Updater) -> TrustedMetadataSet:
    """The one place that reaches into python-tuf.

    It has no public way to choose the time at which expiry is judged, nor to ask for the versions in force. The set
    reads its clock once, when it is made, and compares with `reference_time` from then on; the pinned root, the only
    thing loaded by then, is not judged by time. `tests/unit/trust/test_client.py` fails if that ever changes.
    """
    return updater._trusted_set  # noqa: SLF001 - see above
