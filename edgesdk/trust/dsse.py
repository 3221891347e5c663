"""Signed documents: DSSE envelopes (github.com/secure-systems-lab/dsse, v1.0.2) around canonical JSON.

The payload type is part of what is signed, so a statement can never pass for a desired document. A threshold counts
distinct *keys*: the same key listed or signing twice counts once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature

from edgesdk.canonical import canonical_json
from edgesdk.errors import TrustError
from edgesdk.trust.keys import PublicKey, tuf_key

MAX_ENVELOPE = 256 * 1024  # bytes; a message is at most 128 KB
MAX_SIGNATURES = 32


class _Signed(msgspec.Struct, frozen=True):
    """One signature of an envelope."""

    keyid: Annotated[str, Meta(max_length=128)]
    sig: Annotated[str, Meta(max_length=1024)]


class _Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """The JSON form of an envelope."""

    payload: str
    payload_type: Annotated[str, Meta(max_length=200)]
    signatures: Annotated[tuple[_Signed, ...], Meta(max_length=MAX_SIGNATURES)]


def sign_document(payload_type: str, document: msgspec.Struct | bytes, signer: CryptoSigner) -> dict[str, Any]:
    """Sign a document and return its envelope as a plain dict: ``{"payload", "payloadType", "signatures"}``.

    Args:
        payload_type: For example `edgesdk.protocol.messages.DESIRED_TYPE`.
        document: A struct (encoded as canonical JSON) or ready bytes.
        signer: From `edgesdk.trust.keys.load_signer`.
    """
    payload = document if isinstance(document, bytes) else canonical_json(document)
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return dict(envelope.to_dict())


def verify_document(
    envelope: Mapping[str, Any] | bytes, payload_type: str, keys: Sequence[PublicKey], threshold: int = 1
) -> bytes:
    """Return the payload of an envelope that at least `threshold` distinct keys of `keys` signed.

    Raises:
        TrustError: ``payload-type`` if it is of another kind, ``signature-missing`` if too few of the keys signed it,
            ``signature-invalid`` if too few do because a signature does not verify, or if it is no envelope at all.
    """
    if threshold < 1:
        raise TrustError("signature-missing", f"a threshold of {threshold} would trust anybody")
    parsed = _parse(envelope)
    if parsed.payload_type != payload_type:
        raise TrustError(
            "payload-type", f"expected a document of type {payload_type}, got {parsed.payload_type[:80]!r}"
        )
    payload = _base64(parsed.payload)
    trusted = {key.keyid: key for key in keys}
    offered = [signed for signed in parsed.signatures if signed.keyid in trusted]
    message = Envelope(payload, payload_type, {}).pae()
    valid = {signed.keyid for signed in offered if _verifies(trusted[signed.keyid], signed.sig, message)}
    if len(valid) >= threshold:
        return payload
    invalid = {signed.keyid for signed in offered} - valid
    if invalid:
        raise TrustError("signature-invalid", f"the signature of key {min(invalid)[:12]} does not verify")
    raise TrustError(
        "signature-missing", f"{len(valid)} of {len(trusted)} trusted keys signed it, expected {threshold}"
    )


def _verifies(key: PublicKey, signature: str, message: bytes) -> bool:
    try:
        tuf_key(key).verify_signature(Signature(key.keyid, _base64(signature).hex()), message)
    except UnverifiedSignatureError:
        return False
    return True


def _parse(envelope: Mapping[str, Any] | bytes) -> _Envelope:
    try:
        if isinstance(envelope, bytes):
            if len(envelope) > MAX_ENVELOPE:
                raise TrustError(
                    "signature-invalid", f"an envelope of {len(envelope)} bytes; {MAX_ENVELOPE} is the most"
                )
            return msgspec.json.decode(envelope, type=_Envelope)
        return msgspec.convert(envelope, _Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError("signature-invalid", f"not a DSSE envelope: {error}") from error


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TrustError("signature-invalid", f"not a DSSE envelope: {error}") from error
