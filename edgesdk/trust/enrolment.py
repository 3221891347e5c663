"""Enrolment: how a device that knows only a token becomes a member of a fleet.

The token (a secret; text ``edge1.…``) pins the hub's certificate authority and the first TUF root. The device makes
its keys, which never leave it, and proves that it holds both: the TLS key signs the certificate request, the statement
key signs a document that names this token and this certificate request. The hub answers with an identity, which the
device checks against its token and its keys before it keeps it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.clock import parse_rfc3339
from edgesdk.errors import TrustError
from edgesdk.protocol.messages import DeviceId, FleetId
from edgesdk.trust.ca import fingerprint, issued_by, load_certificate, load_request, make_request_pem
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

TOKEN_PREFIX = "edge1."  # noqa: S105 - not a secret
MAX_TOKEN = 4096  # characters
PURPOSE: Final = "edge.enrolment/1"
TLS_KEY = "tls.pem"
STATEMENT_KEY = "statement.pem"

Pem = Annotated[str, Meta(max_length=16 * 1024)]


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A one-time enrolment token. Its `repr` hides the secret.

    Attributes:
        hub: URL of the hub.
        fleet: The fleet that the device joins.
        ca_sha256: Fingerprint of the hub's authority; None only where the hub speaks plain HTTP on loopback.
        root_sha256: SHA-256 of the first trusted root metadata, byte for byte.
        secret: At least 128 random bits, as text; the hub keeps only its hash.
        expires_at: RFC 3339.
    """

    hub: Annotated[str, Meta(pattern=r"^https?://", max_length=500)]
    fleet: FleetId
    root_sha256: Hex32
    secret: Annotated[str, Meta(min_length=22, max_length=128)]
    expires_at: str
    ca_sha256: Hex32 | None = None

    def __repr__(self) -> str:
        return f"Token(hub={self.hub!r}, fleet={self.fleet!r}, id={self.id}, expires_at={self.expires_at!r})"

    @property
    def id(self) -> str:
        """Name of the token that may be logged and stored: the SHA-256 of its secret."""
        return token_id(self.secret)

    def to_text(self) -> str:
        """Return the text that is handed to a device."""
        return TOKEN_PREFIX + base64.urlsafe_b64encode(canonical_json(self)).decode().rstrip("=")


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device sends to the hub. Its `repr` hides the secret.

    Attributes:
        secret: The token's secret.
        name: What the operator will see beside the device id; no identity.
        csr_pem: Certificate request, signed by the TLS key.
        statement_public: The Ed25519 statement key.
        proof: Hexadecimal Ed25519 signature over canonical JSON ``{purpose, token_id, csr_sha256, statement_public}``.
    """

    secret: Annotated[str, Meta(max_length=128)]
    name: Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9 ._-]*$(?!\n)")]
    csr_pem: Pem
    statement_public: Hex32
    proof: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]

    def __repr__(self) -> str:
        return f"EnrolRequest(name={self.name!r}, token={token_id(self.secret)[:12]})"


class EnrolResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub answers: the device's identity and where things are.

    Attributes:
        device: The id that the hub made; also the certificate's common name and the MQTT client id.
        enrolment: Id of this enrolment; statements name it.
        root_json: The trusted TUF root, byte for byte the file that the token's `root_sha256` pins.
    """

    device: DeviceId
    fleet: FleetId
    enrolment: Annotated[str, Meta(min_length=1, max_length=64)]
    certificate_pem: Pem
    ca_pem: Pem
    broker_url: Annotated[str, Meta(max_length=500)]
    repository_url: Annotated[str, Meta(max_length=500)]
    root_json: Annotated[str, Meta(max_length=512_000)]


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose proofs hold. Whether the token is known, unused and unexpired is for the hub to decide."""

    token_id: str
    name: str
    csr_pem: str
    statement_key: PublicKey


class _Proof(msgspec.Struct, frozen=True, kw_only=True):
    purpose: Literal["edge.enrolment/1"]
    token_id: str
    csr_sha256: str
    statement_public: str


def token_id(secret: str) -> str:
    """Return the name under which a hub stores a token: the SHA-256 of its secret."""
    return sha256_hex(secret.encode())


def parse_token(text: str) -> Token:
    """Read a token's text; whether it has expired is for `check_token`.

    Raises:
        TrustError: ``token-invalid``; the message repeats nothing of the token.
    """
    text = text.strip()
    if not text.startswith(TOKEN_PREFIX) or len(text) > MAX_TOKEN:
        raise TrustError("token-invalid", f"not an enrolment token: it starts with {TOKEN_PREFIX!r}")
    body = text.removeprefix(TOKEN_PREFIX)
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        token = msgspec.json.decode(data, type=Token)
        parse_rfc3339(token.expires_at)
    except (binascii.Error, ValueError, RecursionError):  # the cause would show parts of the secret
        raise TrustError("token-invalid", "the enrolment token is cut or mistyped") from None
    return token


def check_token(token: Token, now: datetime) -> None:
    """Refuse an expired token. A device with an unproven clock leaves this to the hub.

    Raises:
        TrustError: ``token-invalid``.
    """
    if now >= parse_rfc3339(token.expires_at):
        raise TrustError("token-invalid", f"the enrolment token expired at {token.expires_at}")


def make_request(token: Token, keys_dir: Path, name: str) -> EnrolRequest:
    """Make the device's keys (or use those an interrupted enrolment left) and the request that proves them.

    Writes ``tls.pem`` (P-256) and ``statement.pem`` (Ed25519) into `keys_dir`, mode 0600, unencrypted: a device
    restarts without a person.

    Raises:
        TrustError: ``key-permissions`` or ``key-invalid`` if keys are there and unusable.
    """
    tls_path, statement_path = keys_dir / TLS_KEY, keys_dir / STATEMENT_KEY
    tls = load_tls_key(tls_path) if tls_path.exists() else generate_tls_key(tls_path)
    if not statement_path.exists():
        generate_key(statement_path, None)
    signer = load_signer(statement_path)
    csr = make_request_pem(tls).decode()
    public = public_key_of(signer).public_hex
    proof = signer.sign(_proven(token.secret, csr, public)).signature
    return EnrolRequest(secret=token.secret, name=name, csr_pem=csr, statement_public=public, proof=proof)


def check_request(request: EnrolRequest) -> CheckedRequest:
    """Check on the hub that the sender holds both private keys, for this token and no other.

    Raises:
        TrustError: ``possession`` if either proof fails.
    """
    load_request(request.csr_pem)
    key = public_key(request.statement_public)
    message = _proven(request.secret, request.csr_pem, request.statement_public)
    try:
        tuf_key(key).verify_signature(Signature(key.keyid, request.proof), message)
    except UnverifiedSignatureError as error:
        raise TrustError("possession", "the statement key did not sign this token and certificate request") from error
    return CheckedRequest(token_id(request.secret), request.name, request.csr_pem, key)


def check_response(token: Token, response: EnrolResponse, keys_dir: Path) -> None:
    """Check on the device what the hub answered, before anything of it is kept.

    Raises:
        TrustError: ``ca-mismatch`` if authority or certificate are not what token and keys say, ``tuf-metadata`` if
            the root is not the pinned one, ``audience`` if it is for another fleet.
    """
    if response.fleet != token.fleet:
        raise TrustError("audience", f"the hub enrolled into fleet {response.fleet}, the token is for {token.fleet}")
    if sha256_hex(response.root_json.encode()) != token.root_sha256:
        raise TrustError("tuf-metadata", "the hub's TUF root is not the one that the token pins")
    if token.ca_sha256 is not None and fingerprint(response.ca_pem) != token.ca_sha256:
        raise TrustError("ca-mismatch", "the hub's certificate authority is not the one that the token pins")
    certificate = load_certificate(response.certificate_pem)
    if not issued_by(response.certificate_pem, response.ca_pem):
        raise TrustError("ca-mismatch", "the device certificate is not signed by the hub's authority")
    if certificate.public_key() != load_tls_key(keys_dir / TLS_KEY).public_key():
        raise TrustError("ca-mismatch", "the device certificate is for another key")
    if certificate.subject.rfc4514_string() != f"CN={response.device}":
        raise TrustError("ca-mismatch", f"the certificate names {certificate.subject.rfc4514_string()[:80]!r}")


def _proven(secret: str, csr_pem: str, statement_public: str) -> bytes:
    return canonical_json(
        _Proof(
            purpose=PURPOSE,
            token_id=token_id(secret),
            csr_sha256=sha256_hex(csr_pem.encode()),
            statement_public=statement_public,
        )
    )
