"""The fleet's certificate authority: P-256 X.509 for mutual TLS with the broker and the hub.

The common name decides what the broker lets a client do, so it is always set here, from what the hub decided; the
subject, extensions and wishes in a device's certificate request are ignored, only its proven key is used.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgesdk.canonical import sha256_hex
from edgesdk.clock import SystemClock
from edgesdk.durable import make_folder, write_atomic, write_private
from edgesdk.errors import ConfigError, TrustError
from edgesdk.trust.keys import load_tls_key, private_pem

Role = Literal["hub", "subscriber"]
ROLES: tuple[Role, ...] = ("hub", "subscriber")
CA_DAYS = 3650
DEVICE_DAYS = 1825
SERVER_DAYS = 825
SKEW = timedelta(days=1)  # a device whose clock runs a little late accepts a new certificate
CA_KEY = "ca.key.pem"
CA_CERTIFICATE = "ca.pem"
_DEVICE = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True)
class Issued:
    """A key made here and its certificate (a server or a role of ours; never a device). `repr` hides the key."""

    key_pem: bytes
    certificate_pem: bytes

    def __repr__(self) -> str:
        return f"Issued(certificate sha256={fingerprint(self.certificate_pem)[:12]})"


class Authority:
    """A certificate authority whose key is loaded; see `init_ca` and `load_ca`.

    Args:
        key: The authority's private key.
        certificate: Its self-signed certificate.
        now: Wall time, for the validity of what is issued.
    """

    def __init__(
        self, key: EllipticCurvePrivateKey, certificate: x509.Certificate, *, now: Callable[[], datetime]
    ) -> None:
        self._key = key
        self._certificate = certificate
        self._now = now

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate, which clients pin."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def sha256(self) -> str:
        """The fingerprint that an enrolment token carries (SHA-256 over the DER certificate)."""
        return fingerprint(self.certificate_pem)

    def issue_device(self, csr_pem: bytes | str, device_id: str, *, days: int = DEVICE_DAYS) -> bytes:
        """Certify a device's proven key under the id that the hub gave it; returns PEM.

        Raises:
            TrustError: ``possession`` if the request is not signed by its own key, or the key is not P-256.
            ConfigError: ``argument-invalid`` if the id is malformed or is a role's name.
        """
        if not _DEVICE.fullmatch(device_id) or device_id in ROLES:
            raise ConfigError(
                "argument-invalid", f"{device_id[:80]!r} cannot be a device id: [a-z0-9-]{{1,64}}, and no role"
            )
        request = load_request(csr_pem)
        certificate = self._sign(device_id, _public(request), days, ExtendedKeyUsageOID.CLIENT_AUTH)
        return certificate.public_bytes(Encoding.PEM)

    def issue_client(self, role: Role, *, name: str = "", days: int = DEVICE_DAYS) -> Issued:
        """Make a key and certificate for the hub or for telemetry subscribers.

        The common name is the role, or ``ROLE.NAME``: a dot is in no device id.

        Raises:
            ConfigError: ``argument-invalid`` for another role.
        """
        if role not in ROLES:
            raise ConfigError("argument-invalid", f"there is no role {role!r}; expected one of {', '.join(ROLES)}")
        key = generate_private_key(SECP256R1())
        subject = f"{role}.{name}" if name else role
        certificate = self._sign(subject, key.public_key(), days, ExtendedKeyUsageOID.CLIENT_AUTH)
        return Issued(private_pem(key, None), certificate.public_bytes(Encoding.PEM))

    def issue_server(self, hosts: Sequence[str], *, days: int = SERVER_DAYS) -> Issued:
        """Make a key and certificate for a server that answers to these host names and IP addresses.

        Raises:
            ConfigError: ``argument-invalid`` without a host, or if one is malformed.
        """
        if not hosts:
            raise ConfigError("argument-invalid", "a server certificate needs at least one host name or address")
        key = generate_private_key(SECP256R1())
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        certificate = self._sign(hosts[0][:64], key.public_key(), days, ExtendedKeyUsageOID.SERVER_AUTH, names)
        return Issued(private_pem(key, None), certificate.public_bytes(Encoding.PEM))

    def revocation_list(self, revoked: Mapping[int, datetime]) -> bytes:
        """Sign the list of serial numbers that count no more, with the time of each; returns PEM.

        Its own date says only which of two lists is the newer one: OpenSSL prefers the later, to the second, and a
        broker that reloads keeps both. So it is the authority's first second plus one for each revocation, which are
        never taken back. It is valid as long as the authority: an expired list would lock everybody out.
        """
        start = self._certificate.not_valid_before_utc + timedelta(seconds=len(revoked))
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(start)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(len(revoked)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial, since in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def _sign(
        self,
        common_name: str,
        key: EllipticCurvePublicKey,
        days: int,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        now = self._now()
        end = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            _builder(common_name, self._certificate.subject, key, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, SHA256())


def init_ca(
    directory: Path,
    *,
    passphrase: str | None = None,
    name: str = "edgesdk fleet CA",
    now: Callable[[], datetime] | None = None,
) -> Authority:
    """Create an authority in a folder: ``ca.key.pem`` (0600) and ``ca.pem``.

    Raises:
        ConfigError: ``file-exists`` if the folder has one.
    """
    clock = now or SystemClock().now
    if (directory / CA_KEY).exists():
        raise ConfigError("file-exists", f"{directory / CA_KEY} exists; an authority is never overwritten")
    key = generate_private_key(SECP256R1())
    moment = clock()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key.public_key(), moment, moment + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(key, SHA256())
    )
    make_folder(directory, mode=0o700)
    write_atomic(directory / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    write_private(directory / CA_KEY, private_pem(key, passphrase))  # last: with the key the authority exists
    return Authority(key, certificate, now=clock)


def load_ca(directory: Path, *, passphrase: str | None = None, now: Callable[[], datetime] | None = None) -> Authority:
    """Load the authority that `init_ca` made.

    Raises:
        ConfigError: ``file-missing``.
        TrustError: ``key-permissions``, ``key-passphrase``, ``key-invalid``.
    """
    key = load_tls_key(directory / CA_KEY, passphrase)
    try:
        data = (directory / CA_CERTIFICATE).read_bytes()
    except FileNotFoundError:
        raise ConfigError("file-missing", f"there is no certificate {directory / CA_CERTIFICATE}") from None
    certificate = load_certificate(data)
    if certificate.public_key() != key.public_key():
        raise TrustError("key-invalid", f"{directory / CA_KEY} is not the key of {CA_CERTIFICATE}")
    return Authority(key, certificate, now=now or SystemClock().now)


def load_certificate(pem: bytes | str) -> x509.Certificate:
    """Parse a PEM certificate.

    Raises:
        TrustError: ``key-invalid``.
    """
    try:
        return x509.load_pem_x509_certificate(_bytes(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError("key-invalid", f"not a PEM certificate: {error}") from error


def load_request(csr_pem: bytes | str) -> x509.CertificateSigningRequest:
    """Parse a certificate request and check that its own P-256 key signed it.

    Raises:
        TrustError: ``possession``.
    """
    try:
        request = x509.load_pem_x509_csr(_bytes(csr_pem))
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise TrustError("possession", f"not a certificate request: {error}") from error
    if not valid:
        raise TrustError("possession", "the certificate request is not signed by the key in it")
    _public(request)
    return request


def fingerprint(certificate_pem: bytes | str) -> str:
    """Return the SHA-256 of a certificate's DER bytes, in hexadecimal.

    Raises:
        TrustError: ``key-invalid``.
    """
    return sha256_hex(load_certificate(certificate_pem).public_bytes(Encoding.DER))


def issued_by(certificate_pem: bytes | str, ca_pem: bytes | str) -> bool:
    """Tell whether the authority's key signed the certificate."""
    certificate, authority = load_certificate(certificate_pem), load_certificate(ca_pem)
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def make_request_pem(key: EllipticCurvePrivateKey) -> bytes:
    """Make the PEM certificate request of a device; its subject says nothing, because the hub decides it."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


def _public(request: x509.CertificateSigningRequest) -> EllipticCurvePublicKey:
    key = request.public_key()
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise TrustError("possession", f"the certificate request has a {type(key).__name__}, expected a P-256 key")
    return key


def _builder(
    common_name: str, issuer: x509.Name, key: EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise ConfigError("argument-invalid", f"{host[:80]!r} is no host name: {error}") from error


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
