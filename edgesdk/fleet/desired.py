"""What each device is asked to run: one signed document per device, kept with its serial in the registry."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from securesystemslib.signer import CryptoSigner
from sqlalchemy.orm import Session

from edgesdk.canonical import canonical_json
from edgesdk.clock import rfc3339
from edgesdk.errors import EdgeError
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.releases import RepositoryView
from edgesdk.fleet.tables import DesiredRow, Device
from edgesdk.protocol.messages import DESIRED_TYPE, Desired, DesiredModel, MinTuf
from edgesdk.trust.dsse import sign_document

ABSURD = 2**62
"""Serials are Unix milliseconds; a device that reports one beyond this was lied to, or lies."""


def next_serial(last: int, reported: int, now: int) -> int:
    """Return the serial of a new desired document: above the hub's last, above the device's, at least the time.

    A hub restored from a backup so starts above what its devices have seen, with the next thing an operator asks
    for; it does not by itself take a fleet back to what the backup knew. An absurd report is not followed: the device,
    if it really accepted such a document, starts anew once the deployment key is rotated.

    Args:
        last: The hub's last serial for this device; 0: none.
        reported: The serial that the device's newest statement answers.
        now: Unix milliseconds.
    """
    return max(last + 1, now, reported + 1 if reported < ABSURD else 0)


class Desk:
    """Writes desired documents, always inside the transaction of what they follow from.

    Args:
        registry: Where they are kept.
        repository: Tells the metadata versions that a device must at least see.
        signer: The deployment key.
        fleet: The name of the fleet.
    """

    def __init__(self, registry: Registry, repository: RepositoryView, signer: CryptoSigner, *, fleet: str) -> None:
        self._registry = registry
        self._repository = repository
        self._signer = signer
        self._fleet = fleet

    def asked(self, session: Session, device: str, model: str) -> DesiredModel | None:
        """Return what a device is asked to run of a model."""
        row = session.get(DesiredRow, device)
        return read_desired(row).models.get(model) if row else None

    def restate(self, session: Session, device_id: str, changes: Mapping[str, DesiredModel | None]) -> None:
        """Sign and keep a newer document of a device; None drops a model from it. Publishing is the controller's."""
        device = session.get_one(Device, device_id, with_for_update=True)
        if device.revoked_at is not None:
            return  # a rollout that began before goes on without it
        row = session.get(DesiredRow, device_id, with_for_update=True)
        models = {**(read_desired(row).models if row else {}), **changes}
        document = Desired(
            fleet=self._fleet,
            device=device_id,
            serial=next_serial(row.serial if row else 0, device.reported_serial, self._registry.now()),
            issued_at=rfc3339(self._registry.clock.now()),
            min_tuf=self._min_tuf(row),
            models={name: model for name, model in models.items() if model is not None},
        )
        if row is None:
            row = DesiredRow(device=device_id, published_serial=0)
            session.add(row)
        row.serial, row.document = document.serial, canonical_json(document).decode()
        row.envelope = msgspec.json.encode(sign_document(DESIRED_TYPE, document, self._signer)).decode()

    def _min_tuf(self, row: DesiredRow | None) -> MinTuf:
        try:
            return self._repository.versions()
        except EdgeError:
            # A halt must not wait for a repository that is broken or has expired.
            return read_desired(row).min_tuf if row else MinTuf(root=1, timestamp=1)


def clear(row: DesiredRow) -> None:
    """Ask the device for nothing any more: an empty retained message takes the document off the broker."""
    row.document = canonical_json(msgspec.structs.replace(read_desired(row), models={})).decode()
    row.envelope, row.serial = "", row.serial + 1


def read_desired(row: DesiredRow) -> Desired:
    """Return the document of a row."""
    return msgspec.json.decode(row.document, type=Desired)
