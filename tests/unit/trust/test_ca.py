"""The certificate authority."""

import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgesdk.errors import ConfigError, TrustError
from edgesdk.trust.ca import fingerprint, init_ca, issued_by, load_ca, load_certificate, make_request_pem

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return init_ca(tmp_path_factory.mktemp("ca"), now=lambda: NOW)


def usage(certificate: x509.Certificate) -> list:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_an_authority_is_made_once_and_loads_again(tmp_path):
    """Its key is private and encrypted on request; a second init refuses; the loaded one is the same."""
    made = init_ca(tmp_path, passphrase="secret")
    assert stat.S_IMODE((tmp_path / "ca.key.pem").stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="file-exists"):
        init_ca(tmp_path, passphrase="secret")
    assert load_ca(tmp_path, passphrase="secret").sha256 == made.sha256 == fingerprint(made.certificate_pem)
    with pytest.raises(TrustError, match="key-passphrase"):
        load_ca(tmp_path)


def test_a_key_of_another_authority_is_noticed(tmp_path):
    """Certificate and key must belong together."""
    init_ca(tmp_path / "a")
    init_ca(tmp_path / "b")
    (tmp_path / "a" / "ca.pem").write_bytes((tmp_path / "b" / "ca.pem").read_bytes())
    with pytest.raises(TrustError, match="key-invalid"):
        load_ca(tmp_path / "a")


def test_the_hub_decides_the_common_name(authority):
    """The request's subject, alternative names and CA wish are ignored: CN injection has nothing to inject into."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "hub"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "CN=hub")]
    )
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hub")]), critical=False)
        .sign(key, SHA256())
    )
    certificate = load_certificate(authority.issue_device(csr.public_bytes(Encoding.PEM), "dev-1"))
    assert certificate.subject.rfc4514_string() == "CN=dev-1"
    assert certificate.public_key() == key.public_key()
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert usage(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize("device", ["hub", "subscriber", "", "a" * 65, "Dev", "a/b", "a,CN=hub", "a\n", "a_b"])
def test_a_device_cannot_be_called_like_a_role_or_break_the_rules(authority, device):
    """The broker's rules are by name, so a device named `hub` would be the hub."""
    csr = make_request_pem(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match="argument-invalid"):
        authority.issue_device(csr, device)


def test_a_request_must_be_signed_by_its_own_p256_key(authority):
    """A tampered request, another kind of key and rubbish are refused as missing proof of possession."""
    der = x509.load_pem_x509_csr(make_request_pem(ec.generate_private_key(ec.SECP256R1()))).public_bytes(Encoding.DER)
    broken = der[:-1] + bytes([der[-1] ^ 1])
    tampered = x509.load_der_x509_csr(broken).public_bytes(Encoding.PEM)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    wrong_curve = builder.sign(ec.generate_private_key(ec.SECP384R1()), SHA256()).public_bytes(Encoding.PEM)
    wrong_kind = builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
    for csr in (tampered, wrong_curve, wrong_kind, b"rubbish"):
        with pytest.raises(TrustError, match="possession"):
            authority.issue_device(csr, "dev-1")


def test_servers_carry_names_and_addresses(authority):
    """A server certificate has its hosts as alternative names, is only for servers, and hides its key in `repr`."""
    issued = authority.issue_server(["hub.local", "127.0.0.1", "::1"])
    certificate = load_certificate(issued.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.local"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert usage(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert "PRIVATE" not in repr(issued)
    with pytest.raises(ConfigError, match="argument-invalid"):
        authority.issue_server([])


def test_roles_are_client_certificates(authority):
    """The role is the common name; there is no other role."""
    certificate = load_certificate(authority.issue_client("subscriber").certificate_pem)
    assert certificate.subject.rfc4514_string() == "CN=subscriber"
    assert usage(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(ConfigError, match="argument-invalid"):
        authority.issue_client("admin")


def test_issued_by_tells_authorities_apart(authority, tmp_path):
    """A certificate of another authority with the same name is not ours."""
    other = init_ca(tmp_path)
    pem = authority.issue_client("hub").certificate_pem
    assert issued_by(pem, authority.certificate_pem)
    assert not issued_by(pem, other.certificate_pem)


def test_nothing_outlives_the_authority(authority, tmp_path):
    """Validity starts a day early for late clocks and never ends after the authority's."""
    init_ca(tmp_path, now=lambda: NOW)
    late = load_ca(tmp_path, now=lambda: NOW + timedelta(days=3600))
    certificate = load_certificate(late.issue_client("hub").certificate_pem)
    assert certificate.not_valid_after_utc == load_certificate(late.certificate_pem).not_valid_after_utc
    assert certificate.not_valid_before_utc == NOW + timedelta(days=3599)
