"""Signed documents."""

import base64
import copy
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from edgesdk.errors import TrustError
from edgesdk.trust.dsse import MAX_ENVELOPE, sign_document, verify_document
from edgesdk.trust.keys import public_key_of

KIND = "application/vnd.edgesdk.test.v1+json"
ALICE, BOB, MALLORY = (CryptoSigner.generate_ed25519() for _ in range(3))
KEYS = [public_key_of(ALICE), public_key_of(BOB)]


class Note(msgspec.Struct):
    text: str
    count: int


def both(payload: bytes = b"{}") -> dict:
    envelope = sign_document(KIND, payload, ALICE)
    envelope["signatures"] += sign_document(KIND, payload, BOB)["signatures"]
    return envelope


def test_a_signed_struct_comes_back_as_canonical_json():
    """What was signed is canonical JSON of the struct, and verifying gives exactly these bytes, from dict or text."""
    envelope = sign_document(KIND, Note("ü", 3), ALICE)
    assert verify_document(envelope, KIND, KEYS) == '{"count":3,"text":"ü"}'.encode()
    assert verify_document(json.dumps(envelope).encode(), KIND, KEYS) == '{"count":3,"text":"ü"}'.encode()


def test_verifying_does_not_change_the_envelope():
    """The same dict can be verified again and stored."""
    envelope = sign_document(KIND, b"{}", ALICE)
    before = copy.deepcopy(envelope)
    verify_document(envelope, KIND, KEYS)
    assert envelope == before


def test_the_payload_type_must_match_and_is_signed():
    """Another kind is refused, and relabelling breaks the signature."""
    envelope = sign_document(KIND, b"{}", ALICE)
    with pytest.raises(TrustError, match="payload-type"):
        verify_document(envelope, "application/other", KEYS)
    envelope["payloadType"] = "application/other"
    with pytest.raises(TrustError, match="signature-invalid"):
        verify_document(envelope, "application/other", KEYS)


def test_a_changed_payload_is_refused():
    """One changed byte of the payload."""
    envelope = sign_document(KIND, b'{"n":1}', ALICE)
    envelope["payload"] = base64.b64encode(b'{"n":2}').decode()
    with pytest.raises(TrustError, match="signature-invalid"):
        verify_document(envelope, KIND, KEYS)


def test_an_unknown_key_does_not_count():
    """Signed correctly, by somebody nobody trusts."""
    with pytest.raises(TrustError, match="signature-missing"):
        verify_document(sign_document(KIND, b"{}", MALLORY), KIND, KEYS)


def test_a_stranger_cannot_use_a_trusted_key_id():
    """Mallory's signature under Alice's key id."""
    envelope = sign_document(KIND, b"{}", MALLORY)
    envelope["signatures"][0]["keyid"] = KEYS[0].keyid
    with pytest.raises(TrustError, match="signature-invalid"):
        verify_document(envelope, KIND, KEYS)


def test_a_threshold_counts_distinct_keys():
    """Two keys meet two; one key signing twice, or listed twice, does not."""
    assert verify_document(both(), KIND, KEYS, threshold=2) == b"{}"
    once = sign_document(KIND, b"{}", ALICE)
    twice = {**once, "signatures": once["signatures"] * 2}
    with pytest.raises(TrustError, match="signature-missing"):
        verify_document(twice, KIND, [KEYS[0], KEYS[0]], threshold=2)


def test_a_threshold_below_one_trusts_nobody():
    """A threshold of zero is a mistake, never a pass."""
    with pytest.raises(TrustError):
        verify_document(both(), KIND, KEYS, threshold=0)


def test_one_bad_signature_does_not_spoil_enough_good_ones():
    """Anybody on the way can append rubbish; the threshold of good signatures still counts."""
    envelope = both()
    envelope["signatures"].append({"keyid": KEYS[0].keyid, "sig": base64.b64encode(b"0" * 64).decode()})
    assert verify_document(envelope, KIND, KEYS, threshold=2) == b"{}"


def test_sizes_are_bounded():
    """An oversized envelope and a flood of signatures are refused before any cryptography."""
    with pytest.raises(TrustError, match="signature-invalid"):
        verify_document(b" " * (MAX_ENVELOPE + 1), KIND, KEYS)
    envelope = both()
    envelope["signatures"] *= 20
    with pytest.raises(TrustError, match="signature-invalid"):
        verify_document(envelope, KIND, KEYS)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_a_trust_error(data):
    """The parser of untrusted bytes raises nothing but TrustError."""
    with pytest.raises(TrustError):
        verify_document(data, KIND, KEYS)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), inner, max_size=5
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_gives_an_answer_or_a_trust_error(value):
    """The same for JSON that looks like an envelope."""
    with pytest.raises(TrustError):
        verify_document(json.dumps(value).encode(), KIND, KEYS)
