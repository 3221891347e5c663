"""What the trust worker believes of a repository, desired documents and commands; the only way in for all three.

Whether the bytes come from a server or from a file that was carried here: the same checks, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from tuf.ngclient import FetcherInterface

from edgesdk.bundle.manifest import (
    DEPLOYMENT_KEYS_TARGET,
    RELEASE_SCHEMA,
    ModelPolicy,
    ReleaseIndex,
    bundle_target,
    policy_target,
    release_target,
)
from edgesdk.canonical import sha256_hex
from edgesdk.clock import parse_rfc3339, rfc3339
from edgesdk.errors import EdgeError, LinkError, ReleaseError, TrustError
from edgesdk.protocol.messages import COMMAND_TYPE, DESIRED_TYPE, Command, Desired, Reason, decode
from edgesdk.protocol.topics import ALL
from edgesdk.trust.client import Target, UpdateClient, check_not_frozen
from edgesdk.trust.deployment import DeploymentKeys, decode_deployment_keys
from edgesdk.trust.dsse import verify_document
from edgesdk.trust.fetcher import HttpFetcher
from edgesdk_agent.workers.messages import (
    Offer,
    Repository,
    TargetFile,
    TufVersions,
    VerifiedCommand,
    VerifiedDesired,
    VerifyCommand,
    VerifyDesired,
)

MAX_DOCUMENT = 1024 * 1024
NUDGES = {"ping", "deploy-now"}
T = TypeVar("T")


class Moment:
    """The time at which expiry is judged; verified signed times can only move it forward."""

    def __init__(self, now: str) -> None:
        self.moment = parse_rfc3339(now)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.moment

    def reach(self, floor: str) -> bool:
        """Take a verified time; says whether it is later than what was judged by so far."""
        later = bool(floor) and parse_rfc3339(floor) > self.moment
        if later:
            self.moment = parse_rfc3339(floor)
        return later


def verify_desired(request: VerifyDesired) -> VerifiedDesired:
    """Verify a desired document and look up what it names; see `VerifyDesired`."""
    now = Moment(request.repository.now)
    return verify_with(update_client(request.repository, now), now, request)


def verify_with(client: UpdateClient, now: Moment, request: VerifyDesired) -> VerifiedDesired:
    """Verify a desired document against a repository, wherever its bytes come from: a server, or a file."""
    versions = client.refresh(offline=request.repository.offline)
    keys = _deployment_keys(client)
    payload = verify_document(request.envelope, DESIRED_TYPE, keys.keys, keys.threshold)
    desired = decode(payload, Desired)
    digest = sha256_hex(payload)
    _check_audience(desired.fleet, desired.device, request.fleet, {request.device})
    _check_serial(desired.serial, digest, keys.epoch, request)
    floor = max_time(request.time_floor, desired.issued_at)
    if now.reach(floor):
        versions = client.refresh(offline=request.repository.offline)
    if desired.expires_at is not None and parse_rfc3339(desired.expires_at) < now():
        raise TrustError("document-expired", f"the desired document {desired.serial} expired at {desired.expires_at}")
    check_not_frozen(versions, desired.min_tuf)
    offers = {
        name: find_offer(client, name, wanted.release)
        for name, wanted in desired.models.items()
        if wanted.release is not None
    }
    built = [offer.index.built_at for offer in offers.values() if offer.index is not None]
    return VerifiedDesired(
        desired=desired,
        offers=offers,
        payload_sha256=digest,
        keys_epoch=keys.epoch,
        time_floor=max_time(floor, *built),
        tuf=TufVersions(root=versions.root, timestamp=versions.timestamp),
    )


def verify_command(request: VerifyCommand) -> VerifiedCommand:
    """Verify a command; see `VerifyCommand`."""
    now = Moment(request.repository.now)
    client = update_client(request.repository, now)
    client.refresh(offline=request.repository.offline)
    keys = _deployment_keys(client)
    command = decode(verify_document(request.envelope, COMMAND_TYPE, keys.keys, keys.threshold), Command)
    _check_audience(command.fleet, command.device, request.fleet, {request.device, ALL})
    if command.device == ALL and command.name not in NUDGES:
        raise TrustError("audience", f"the command {command.name!r} to all devices; only {sorted(NUDGES)} may be")
    if command.run != request.run and not (command.run is None and command.name in NUDGES):
        raise TrustError("audience", f"the command {command.id} is for run {command.run!r}, not {request.run!r}")
    now.reach(command.issued_at)
    if parse_rfc3339(command.expires_at) < now():
        raise TrustError("document-expired", f"the command {command.id} expired at {command.expires_at}")
    return VerifiedCommand(command=command)


def max_time(*moments: str) -> str:
    """Return the latest of RFC 3339 time stamps, normalised; empty ones are left out.

    Raises:
        LinkError: ``message-invalid`` if one is no time stamp.
    """
    try:
        return max(rfc3339(parse_rfc3339(moment)) for moment in moments if moment)
    except ValueError as error:
        raise LinkError("message-invalid", f"a signed document has a bad time stamp: {error}") from error


def update_client(
    repository: Repository, now: Callable[[], datetime], fetcher: FetcherInterface | None = None
) -> UpdateClient:
    """Return the client of a repository; `fetcher` takes the place of the network."""
    return UpdateClient(
        Path(repository.tuf_dir),
        repository.url,
        trusted_root=Path(repository.root).read_bytes(),
        now=now,
        fetcher=fetcher or HttpFetcher(ca_file=Path(repository.ca) if repository.ca else None),
    )


def _deployment_keys(client: UpdateClient) -> DeploymentKeys:
    return decode_deployment_keys(client.read_target(DEPLOYMENT_KEYS_TARGET, MAX_DOCUMENT))


def _check_audience(fleet: str, device: str, own_fleet: str, own_names: set[str]) -> None:
    if fleet != own_fleet or device not in own_names:
        raise TrustError("audience", f"the document is for {fleet}/{device}, not for {own_fleet}/{min(own_names)}")


def _check_serial(serial: int, digest: str, epoch: int, request: VerifyDesired) -> None:
    """Refuse a replay. Deployment keys of a later epoch reset the floor, so that a thief's 2^63-1 is not for ever."""
    if request.keys_epoch is not None and epoch > request.keys_epoch:
        return
    known = serial == request.serial_floor and request.accepted_sha256 in {None, digest}
    if serial <= request.serial_floor and not known:
        raise TrustError(
            "serial-replayed", f"the desired document has serial {serial}, accepted was {request.serial_floor}"
        )


def find_offer(client: UpdateClient, model: str, release: str) -> Offer:
    """Return what a repository has for one model, or why it has nothing."""
    try:
        return _look_up(client, model, release)
    except EdgeError as error:
        permanent = not isinstance(error, LinkError)
        reason = Reason(code=error.code, message=error.message, hint=error.hint, permanent=permanent)
        return Offer(error=reason)


def _look_up(client: UpdateClient, model: str, release: str) -> Offer:
    index = _decoded(client, release_target(model, release), ReleaseIndex, "release-invalid")
    if (index.schema, index.model, index.release) != (RELEASE_SCHEMA, model, release):
        raise ReleaseError(
            "release-invalid", f"the index of {model} {release} says {index.schema} {index.model} {index.release}"
        )
    if index.critical:
        raise ReleaseError("manifest-critical", f"{model} {release} needs the extensions {', '.join(index.critical)}")
    targets = {}
    for variant in index.variants:
        target = _target_or_none(client, bundle_target(model, release, variant.bundle))
        if target is not None and (target.length, target.sha256) == (variant.size, variant.sha256):
            targets[variant.bundle] = target
    policy = _policy(client, model)
    anchor = client.target(policy.anchor.path) if policy is not None and policy.anchor is not None else None
    return Offer(index=index, targets=targets, policy=policy, anchor=_file(anchor) if anchor else None)


def _policy(client: UpdateClient, model: str) -> ModelPolicy | None:
    if _target_or_none(client, policy_target(model)) is None:
        return None
    policy = _decoded(client, policy_target(model), ModelPolicy, "release-invalid")
    if policy.model != model:
        raise ReleaseError("release-invalid", f"the policy of {model} names {policy.model}")
    return policy


def _decoded(client: UpdateClient, path: str, kind: type[T], code: str) -> T:
    try:
        return msgspec.json.decode(client.read_target(path, MAX_DOCUMENT), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReleaseError(code, f"{path} does not follow its schema: {error}") from error


def _target_or_none(client: UpdateClient, path: str) -> TargetFile | None:
    try:
        return _file(client.target(path))
    except TrustError as error:
        if error.code == "tuf-target-missing":
            return None
        raise


def _file(target: Target) -> TargetFile:
    return TargetFile(path=target.path, url=target.url, length=target.length, sha256=target.sha256)
