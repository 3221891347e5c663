"""Verifying a file that was carried here: the trust worker's `VerifyImport`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.bundle.export import DESIRED_NAME, TARGETS_FOLDER, Export, open_export
from edgesdk.durable import sync_folder, write_new
from edgesdk.errors import EdgeError, LinkError, TrustError, error_from_dict
from edgesdk.protocol.topics import MAX_PAYLOAD
from edgesdk.trust.carried import ExportFetcher
from edgesdk_agent.ota.download import discard
from edgesdk_agent.store.atomic import disk_errors
from edgesdk_agent.workers.documents import Moment, find_offer, max_time, update_client, verify_with
from edgesdk_agent.workers.messages import (
    Offer,
    TargetFile,
    VerifiedDesired,
    VerifiedImport,
    VerifyDesired,
    VerifyImport,
)


def verify_import(request: VerifyImport) -> VerifiedImport:
    """Verify the file by the same code as a repository, then copy the targets that are offered.

    Raises:
        ReleaseError: ``bundle-…`` or ``manifest-…`` for the file itself.
        TrustError: Whatever an online device would refuse: ``tuf-rollback``, ``tuf-expired``, ``serial-replayed`` …
        LinkError: ``http-status`` for what is not in the file.
    """
    now = Moment(request.repository.now)
    with open_export(request.path) as export:
        export.verify()
        client = update_client(request.repository, now, ExportFetcher(export, request.repository.url))
        model, release = export.manifest.model, export.manifest.release
        envelope = _envelope(export)
        verified = verify_with(client, now, _as_desired(request, envelope)) if envelope is not None else None
        if verified is None:
            client.refresh()
            offer = find_offer(client, model, release)
        else:
            offer = _asked(verified, model, release)
        if offer.error is not None:
            raise _error(offer)
        floor = verified.time_floor if verified else request.time_floor
        offers = verified.offers.values() if verified else (offer,)
        placed = tuple(_place(export, _targets(offers), Path(request.downloads)))
    built = offer.index.built_at if offer.index else ""
    return VerifiedImport(
        model=model,
        release=release,
        offer=offer,
        placed=placed,
        time_floor=max_time(floor, built),
        verified=verified,
        envelope=envelope,
    )


def _envelope(export: Export) -> dict[str, Any] | None:
    if DESIRED_NAME not in export.entries:
        return None
    data = export.read(DESIRED_NAME, max_bytes=MAX_PAYLOAD)
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LinkError("message-invalid", f"{DESIRED_NAME} is no signed document: {error}") from error


def _as_desired(request: VerifyImport, envelope: dict[str, Any]) -> VerifyDesired:
    return VerifyDesired(
        envelope=envelope,
        repository=request.repository,
        device=request.device,
        fleet=request.fleet,
        serial_floor=request.serial_floor,
        accepted_sha256=request.accepted_sha256,
        keys_epoch=request.keys_epoch,
        time_floor=request.time_floor,
    )


def _asked(verified: VerifiedDesired, model: str, release: str) -> Offer:
    wanted = verified.desired.models.get(model)
    if wanted is None or wanted.release != release or model not in verified.offers:
        raise TrustError("audience", f"the desired document in the file does not ask for {model} {release}")
    return verified.offers[model]


def _error(offer: Offer) -> EdgeError:
    reason = offer.error
    assert reason is not None
    return error_from_dict({"code": reason.code, "message": reason.message, "hint": reason.hint})


def _targets(offers: Iterable[Offer]) -> Iterator[TargetFile]:
    for offer in offers:
        yield from offer.targets.values()
        if offer.anchor is not None:
            yield offer.anchor


def _place(export: Export, targets: Iterable[TargetFile], downloads: Path) -> Iterator[TargetFile]:
    """Copy what the file has of these; what lies there under the same name is replaced."""
    for target in targets:
        name = f"{TARGETS_FOLDER}/{target.sha256}"
        entry = export.entries.get(name)
        if entry is None:
            continue
        if (entry.sha256, entry.size) != (target.sha256, target.length):
            raise TrustError("tuf-target-mismatch", f"{name} has {entry.size} bytes and SHA-256 {entry.sha256}")
        file = downloads / target.sha256
        with disk_errors(str(file)):
            discard(file)
            write_new(file, export.chunks(name))
            sync_folder(downloads)
        yield target
