"""New keys for devices that are enrolled, and what an enrolment is worth."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from edgesdk.errors import TrustError
from edgesdk.fleet import certificates
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.tables import Certificate, Device, PendingKey
from edgesdk.trust.ca import Authority
from edgesdk.trust.keys import PublicKey, public_key
from edgesdk.trust.rotation import RotationRequest, RotationResponse, check_rotation


def rotate(registry: Registry, authority: Authority, request: RotationRequest, *, fleet: str) -> RotationResponse:
    """Certify new keys of a device; they count beside the old ones until they were seen in use.

    Raises:
        TrustError: ``device-unknown`` (revoked, or another enrolment), ``possession`` or ``rotation-replayed``.
    """
    with registry.writing() as session:
        device = session.get(Device, request.device, with_for_update=True)
        if device is None or device.revoked_at is not None or (device.fleet, request.fleet) != (fleet, fleet):
            raise TrustError("device-unknown", f"{request.device} is not enrolled in {fleet}, or is revoked")
        if device.enrolment != request.enrolment:
            raise TrustError("device-unknown", f"{request.device} speaks of an enrolment that has ended")
        pending = session.get(PendingKey, device.id)
        _check_signer(request, device, pending)
        if pending is not None and pending.enrolment == device.enrolment and request.number <= pending.number:
            raise TrustError("rotation-replayed", f"rotation {request.number} of {device.id} was used before")
        taken = session.scalars(select(Device).where(Device.statement_public == request.statement_public)).first()
        if taken is not None:
            raise TrustError("possession", "the new statement key is registered already")
        certificate = authority.issue_device(request.csr_pem, device.id)
        serial = certificates.record(registry, session, certificate, device.id)
        session.merge(
            PendingKey(
                device=device.id,
                enrolment=device.enrolment,
                number=request.number,
                statement_public=request.statement_public,
                certificate_serial=serial,
                seen=False,
            )
        )
        registry.audit(session, f"device {device.id}", "device.rotate", device.id, certificate=serial)
    return RotationResponse(certificate_pem=certificate.decode(), ca_pem=authority.certificate_pem.decode())


def pending_key(registry: Registry, device: Device) -> str | None:
    """Return the public key of a rotation that was not seen in use yet."""
    with registry.reading() as session:
        row = session.get(PendingKey, device.id)
    return row.statement_public if row and not row.seen and row.enrolment == device.enrolment else None


def promote(registry: Registry, device_id: str, public: str) -> None:
    """Note that a new key was seen in use: the old key and the old certificates count no more."""
    with registry.writing() as session:
        device, row = session.get_one(Device, device_id, with_for_update=True), session.get_one(PendingKey, device_id)
        if row.seen or row.statement_public != public:
            return
        row.seen = True
        device.statement_public, device.certificate_serial = public, row.certificate_serial
        _revoke_others(registry, session, device_id, row.certificate_serial)
        registry.audit(session, f"device {device_id}", "device.rotated", device_id, certificate=row.certificate_serial)


def standing(registry: Registry, enrolment: str) -> str:
    """Return what an enrolment is worth: ``enrolled``, ``revoked``, or ``unknown`` (ended, or of another hub)."""
    with registry.reading() as session:
        device = session.scalars(select(Device).where(Device.enrolment == enrolment)).one_or_none()
    if device is None:
        return "unknown"
    return "revoked" if device.revoked_at is not None else "enrolled"


def _check_signer(request: RotationRequest, device: Device, pending: PendingKey | None) -> None:
    """A device that has changed its keys, but was not heard since, signs with keys that are still pending."""
    keys: list[PublicKey] = [public_key(device.statement_public)]
    if pending is not None and not pending.seen and pending.enrolment == device.enrolment:
        keys.append(public_key(pending.statement_public))
    refused: TrustError | None = None
    for key in keys:
        try:
            check_rotation(request, key)
        except TrustError as error:
            refused = refused or error
        else:
            return
    assert refused is not None
    raise refused


def _revoke_others(registry: Registry, session: Session, device_id: str, serial: str) -> None:
    others = (Certificate.subject == device_id, Certificate.serial != serial, Certificate.revoked_at.is_(None))
    session.execute(update(Certificate).where(*others).values(revoked_at=registry.now()))
