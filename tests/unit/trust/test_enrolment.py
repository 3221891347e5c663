"""Enrolment: tokens, proofs, and what a device accepts."""

import base64
import secrets
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from edgesdk.canonical import sha256_hex
from edgesdk.errors import TrustError
from edgesdk.trust.ca import init_ca, make_request_pem
from edgesdk.trust.enrolment import (
    EnrolResponse,
    Token,
    check_request,
    check_response,
    check_token,
    make_request,
    parse_token,
)
from edgesdk.trust.keys import public_key_of

ROOT = '{"signed":"root"}'


def token(**changes) -> Token:
    values = {
        "hub": "https://hub.local:8443",
        "fleet": "demo",
        "root_sha256": sha256_hex(ROOT.encode()),
        "secret": secrets.token_urlsafe(24),
        "expires_at": "2026-11-24T00:00:00Z",
    }
    return Token(**{**values, **changes})


def test_a_token_survives_its_text_and_hides_its_secret():
    """Text and back; neither `repr` nor `str` shows the secret."""
    made = token(ca_sha256="c" * 64)
    assert parse_token(f" {made.to_text()}\n") == made
    assert made.to_text().startswith("edge1.")
    assert made.secret not in repr(made)
    assert made.secret not in str(made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "edge1.",
        "edge2.AAAA",
        "edge1.!!!!",
        "edge1." + "A" * 5000,
        token().to_text()[:-7],
        token(hub="ftp://x").to_text(),
    ],
)
def test_a_wrong_token_is_refused_without_repeating_it(text):
    """Cut, mistyped, too long or of another scheme: token-invalid, and the error quotes nothing."""
    with pytest.raises(TrustError, match="token-invalid") as caught:
        parse_token(text)
    assert caught.value.__cause__ is None


def test_an_expired_token_is_refused():
    """At its expiry a token is over."""
    made = token()
    check_token(made, datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC))
    with pytest.raises(TrustError, match="token-invalid"):
        check_token(made, datetime(2026, 11, 24, tzinfo=UTC))


@given(st.text(max_size=200))
def test_any_text_gives_a_token_or_a_trust_error(text):
    """The parser of what a person types raises nothing but TrustError."""
    with pytest.raises(TrustError):
        parse_token("edge1." + text)


def test_a_request_proves_both_keys_and_is_repeatable(tmp_path):
    """The hub accepts it; after an interruption the same keys are used again; its `repr` hides the secret."""
    made = token()
    request = make_request(made, tmp_path, "bench 1")
    checked = check_request(request)
    assert (checked.token_id, checked.name) == (made.id, "bench 1")
    assert make_request(made, tmp_path, "bench 1").statement_public == request.statement_public
    assert sorted(path.name for path in tmp_path.iterdir()) == ["statement.pem", "tls.pem"]
    assert made.secret not in repr(request)


def test_a_request_survives_its_json(tmp_path):
    """What goes over HTTP is what was made, and an unknown field is refused."""
    request = make_request(token(), tmp_path, "a")
    assert msgspec.json.decode(msgspec.json.encode(request), type=type(request)) == request
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(request), "device": "me"}, type(request))


def test_a_proof_is_bound_to_token_request_and_key(tmp_path):
    """A proof moved to another token, another certificate request or another key fails."""
    request = make_request(token(), tmp_path, "a")
    other_csr = make_request_pem(ec.generate_private_key(ec.SECP256R1())).decode()
    stranger = public_key_of(CryptoSigner.generate_ed25519()).public_hex
    for change in ({"secret": "x" * 24}, {"csr_pem": other_csr}, {"statement_public": stranger}, {"proof": "0" * 128}):
        with pytest.raises(TrustError, match="possession"):
            check_request(msgspec.structs.replace(request, **change))


@pytest.fixture
def enrolled(tmp_path):
    authority = init_ca(tmp_path / "ca")
    made = token(ca_sha256=authority.sha256)
    request = make_request(made, tmp_path / "keys", "a")
    response = EnrolResponse(
        device="dev-1",
        fleet="demo",
        enrolment="e1",
        certificate_pem=authority.issue_device(request.csr_pem, "dev-1").decode(),
        ca_pem=authority.certificate_pem.decode(),
        broker_url="mqtts://hub.local:8883",
        repository_url="https://hub.local:8443/repo/",
        root_json=ROOT,
    )
    return authority, made, response, tmp_path


def test_an_honest_answer_is_accepted(enrolled):
    """Token, authority, certificate, key and root agree."""
    _, made, response, folder = enrolled
    check_response(made, response, folder / "keys")


def test_a_dishonest_answer_is_refused(enrolled):
    """Another fleet, root, authority, issuer, key or name: each has its code."""
    authority, made, response, folder = enrolled
    other = init_ca(folder / "other")
    foreign_csr = make_request_pem(ec.generate_private_key(ec.SECP256R1()))
    own_csr = make_request(made, folder / "keys", "a").csr_pem
    wrong = [
        ({"fleet": "theirs"}, "audience"),
        ({"root_json": ROOT + " "}, "tuf-metadata"),
        ({"ca_pem": other.certificate_pem.decode()}, "ca-mismatch"),
        ({"certificate_pem": other.issue_device(own_csr, "dev-1").decode()}, "ca-mismatch"),
        ({"certificate_pem": authority.issue_device(foreign_csr, "dev-1").decode()}, "ca-mismatch"),
        ({"certificate_pem": authority.issue_device(own_csr, "dev-2").decode()}, "ca-mismatch"),
    ]
    for change, code in wrong:
        with pytest.raises(TrustError, match=code):
            check_response(made, msgspec.structs.replace(response, **change), folder / "keys")


def test_a_token_of_another_version_is_not_guessed_at():
    """An unknown field in a token is refused instead of ignored."""
    body = base64.urlsafe_b64encode(b'{"hub":"https://h","extra":1}').decode()
    with pytest.raises(TrustError, match="token-invalid"):
        parse_token("edge1." + body)
