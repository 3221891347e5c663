"""Changing a device's keys: the old statement key signs for the new ones, the hub certifies them.

The device proves that it holds the old and the new statement key and the new TLS key. Until the hub has seen a
statement signed by the new key both count, so a power cut at any moment of a rotation leaves a device that is believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.errors import TrustError
from edgesdk.protocol.messages import DeviceId, FleetId
from edgesdk.trust.ca import issued_by, load_certificate, load_request, make_request_pem
from edgesdk.trust.enrolment import STATEMENT_KEY, TLS_KEY, Pem
from edgesdk.trust.keys import (
    Hex32,
    PublicKey,
    generate_key,
    generate_tls_key,
    load_signer,
    load_tls_key,
    public_key,
    public_key_of,
    tuf_key,
)

SignatureHex = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]


class RotationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device sends to the hub.

    Attributes:
        number: Grows with every request of an enrolment, so that an old one cannot be sent again.
        csr_pem: Certificate request, signed by the new TLS key.
        statement_public: The new statement key.
        proof: Signature by the new statement key over canonical JSON of `RotationFacts`.
        signature: Signature by the statement key in force over the same.
    """

    device: DeviceId
    fleet: FleetId
    enrolment: Annotated[str, Meta(min_length=1, max_length=64)]
    number: Annotated[int, Meta(ge=1, le=2**62)]
    csr_pem: Pem
    statement_public: Hex32
    proof: SignatureHex
    signature: SignatureHex


class RotationResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate for the new TLS key, and the authority that signed it."""

    certificate_pem: Pem
    ca_pem: Pem


class RotationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What both keys sign."""

    device: str
    fleet: str
    enrolment: str
    number: int
    csr_sha256: str
    statement_public: str
    purpose: Literal["edge.rotation/1"] = "edge.rotation/1"


def make_rotation(keys: Path, fresh: Path, *, device: str, fleet: str, enrolment: str, number: int) -> RotationRequest:
    """Make new keys in `fresh` (or use those that an interrupted rotation left) and the request that proves them.

    Raises:
        TrustError: ``key-permissions`` or ``key-invalid`` for keys that cannot be used.
    """
    tls_path, statement_path = fresh / TLS_KEY, fresh / STATEMENT_KEY
    tls = load_tls_key(tls_path) if tls_path.exists() else generate_tls_key(tls_path)
    if not statement_path.exists():
        generate_key(statement_path, None)
    signer = load_signer(statement_path)
    csr, public = make_request_pem(tls).decode(), public_key_of(signer).public_hex
    facts = RotationFacts(
        device=device,
        fleet=fleet,
        enrolment=enrolment,
        number=number,
        csr_sha256=sha256_hex(csr.encode()),
        statement_public=public,
    )
    signed = canonical_json(facts)
    return RotationRequest(
        device=device,
        fleet=fleet,
        enrolment=enrolment,
        number=number,
        csr_pem=csr,
        statement_public=public,
        proof=signer.sign(signed).signature,
        signature=load_signer(keys / STATEMENT_KEY).sign(signed).signature,
    )


def check_rotation(request: RotationRequest, known: PublicKey) -> None:
    """Check on the hub that the key it knows and all new ones stand behind a request.

    Raises:
        TrustError: ``possession``.
    """
    load_request(request.csr_pem)
    fresh = public_key(request.statement_public)
    if fresh == known:
        raise TrustError("possession", "the new statement key is the old one")
    facts = RotationFacts(
        device=request.device,
        fleet=request.fleet,
        enrolment=request.enrolment,
        number=request.number,
        csr_sha256=sha256_hex(request.csr_pem.encode()),
        statement_public=request.statement_public,
    )
    signed = canonical_json(facts)
    for key, signature, which in ((known, request.signature, "known"), (fresh, request.proof, "new")):
        try:
            tuf_key(key).verify_signature(Signature(key.keyid, signature), signed)
        except UnverifiedSignatureError as error:
            raise TrustError("possession", f"the {which} statement key did not sign this rotation") from error


def check_rotated(response: RotationResponse, fresh: Path, *, device: str, ca_pem: str) -> None:
    """Check on the device what the hub answered, before a key is changed.

    Raises:
        TrustError: ``ca-mismatch``.
    """
    if not issued_by(response.certificate_pem, ca_pem):
        raise TrustError("ca-mismatch", "the new certificate is not signed by the fleet's authority")
    certificate = load_certificate(response.certificate_pem)
    if certificate.public_key() != load_tls_key(fresh / TLS_KEY).public_key():
        raise TrustError("ca-mismatch", "the new certificate is for another key")
    if certificate.subject.rfc4514_string() != f"CN={device}":
        raise TrustError("ca-mismatch", f"the new certificate names {certificate.subject.rfc4514_string()[:80]!r}")
