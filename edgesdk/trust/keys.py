"""Private keys in files and public keys in documents. Signing keys are Ed25519; TLS keys are P-256.

A private key is a PKCS#8 PEM file of mode 0600, encrypted with a passphrase wherever a person holds it. Nothing here
prints a key, puts one into an error, or reads a key file that others can read.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from msgspec import Meta
from securesystemslib.signer import CryptoSigner, SSlibKey

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.durable import readable_by_others, write_private
from edgesdk.errors import ConfigError, TrustError

PASSPHRASE_VARIABLE = "EDGE_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
ENCRYPTED_MARK = b"BEGIN ENCRYPTED PRIVATE KEY"
MIN_PASSPHRASE = 8  # characters, of one that a person types for new keys
MAX_KEY_FILE = 64 * 1024  # bytes

# `$` alone lets a final newline pass, and one key could then have two key ids.
Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"public_hex": "public"}):
    """An Ed25519 public key as documents carry it: ``{"keyid", "public"}``.

    Attributes:
        keyid: SHA-256 over the key's canonical JSON, as TUF computes it; must belong to `public_hex`.
        public_hex: The 32 bytes in hexadecimal.
    """

    keyid: Hex32
    public_hex: Hex32

    def __post_init__(self) -> None:
        """Refuse a key id that was not computed from the key: a threshold counts keys, not names."""
        if self.keyid != keyid_of(self.public_hex):
            raise ValueError(f"key id {self.keyid} does not belong to its public key")


def keyid_of(public_hex: str) -> str:
    """Return the key id of an Ed25519 public key (TUF specification 4.2: hash of the canonical JSON of the key)."""
    return sha256_hex(canonical_json({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public_hex}}))


def public_key(public_hex: str) -> PublicKey:
    """Make a public key from its 64 hexadecimal characters.

    Raises:
        TrustError: ``key-invalid`` if they are not 64 hexadecimal characters.
    """
    try:
        return msgspec.convert({"keyid": keyid_of(public_hex), "public": public_hex}, PublicKey)
    except msgspec.ValidationError as error:
        raise TrustError("key-invalid", f"not an Ed25519 public key: {error}") from error


def public_key_of(signer: CryptoSigner) -> PublicKey:
    """Return the public half of a signer."""
    return public_key(signer.public_key.keyval["public"])


def tuf_key(key: PublicKey) -> SSlibKey:
    """Return a public key as TUF metadata carries it."""
    return SSlibKey(key.keyid, "ed25519", "ed25519", {"public": key.public_hex})


def generate_key(path: Path, passphrase: str | None) -> PublicKey:
    """Create an Ed25519 private key in a new file of mode 0600; None leaves it unencrypted.

    Raises:
        ConfigError: ``file-exists``; a key file is never overwritten.
        TrustError: ``key-passphrase`` if the passphrase is empty.
    """
    key, pem = make_key(passphrase)
    write_private(path, pem)
    return key


def make_key(passphrase: str | None) -> tuple[PublicKey, bytes]:
    """Make an Ed25519 key; returns its public half and the PEM of its private half, for `write_private`."""
    private = Ed25519PrivateKey.generate()
    return public_key_of(CryptoSigner(private)), private_pem(private, passphrase)


def generate_tls_key(path: Path, passphrase: str | None = None) -> EllipticCurvePrivateKey:
    """Create a P-256 private key in a new file of mode 0600.

    Raises:
        ConfigError: ``file-exists``.
    """
    private = generate_ec(SECP256R1())
    write_private(path, private_pem(private, passphrase))
    return private


def load_signer(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """Load an Ed25519 private key. The passphrase is used only if the file is encrypted.

    Raises:
        ConfigError: ``file-missing``.
        TrustError: ``key-permissions`` if others can read the file, ``key-passphrase``, or ``key-invalid``.
    """
    private = _load(path, passphrase)
    if not isinstance(private, Ed25519PrivateKey):
        raise TrustError("key-invalid", f"{path} holds a {type(private).__name__}, expected an Ed25519 key")
    return CryptoSigner(private)


def load_tls_key(path: Path, passphrase: str | None = None) -> EllipticCurvePrivateKey:
    """Load a P-256 private key; raises like `load_signer`."""
    private = _load(path, passphrase)
    if not isinstance(private, EllipticCurvePrivateKey) or not isinstance(private.curve, SECP256R1):
        raise TrustError("key-invalid", f"{path} holds a {type(private).__name__}, expected a P-256 key")
    return private


def private_pem(private: Ed25519PrivateKey | EllipticCurvePrivateKey, passphrase: str | None) -> bytes:
    """Return a private key as PKCS#8 PEM, encrypted unless `passphrase` is None.

    Raises:
        TrustError: ``key-passphrase`` if the passphrase is empty.
    """
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        if not passphrase:
            raise TrustError("key-passphrase", "the passphrase is empty")
        encryption = BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def read_private(path: Path) -> bytes:
    """Read a private file, refusing one that others can read.

    Raises:
        ConfigError: ``file-missing``.
        TrustError: ``key-permissions``, or ``key-invalid`` if it is far too large for a key.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ConfigError("file-missing", f"there is no key file {path}") from None
    except PermissionError:
        raise TrustError("key-permissions", f"{path} may not be read by this user") from None
    with file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if readable_by_others(mode):
            raise TrustError("key-permissions", f"{path} has mode {mode:04o}, expected 0600")
        data = file.read(MAX_KEY_FILE + 1)
    if len(data) > MAX_KEY_FILE:
        raise TrustError("key-invalid", f"{path} is larger than any key file")
    return data


def passphrase_from(environment: Mapping[str, str]) -> str | None:
    """Return the passphrase in ``EDGE_KEY_PASSPHRASE``; None where it is unset or empty."""
    return environment.get(PASSPHRASE_VARIABLE) or None


def ask_passphrase(*, confirm: bool = False) -> str:
    """Return the passphrase from ``EDGE_KEY_PASSPHRASE``, or ask a person at a terminal.

    Args:
        confirm: Ask twice, for new keys.

    Raises:
        TrustError: ``key-passphrase`` without variable and terminal, or if nothing or two different ones were typed.
    """
    given = passphrase_from(os.environ)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise TrustError("key-passphrase", f"{PASSPHRASE_VARIABLE} is not set and there is no terminal to ask at")
    typed = getpass.getpass("Passphrase of the private keys: ")
    if confirm and 0 < len(typed) < MIN_PASSPHRASE:
        message = f"the passphrase has {len(typed)} characters, expected at least {MIN_PASSPHRASE}"
        raise TrustError("key-passphrase", message, hint="Use a few words: whoever has the file can guess without end.")
    if confirm and typed and getpass.getpass("Again: ") != typed:
        raise TrustError("key-passphrase", "the two passphrases differ", hint="Type the same one twice.")
    if not typed:
        raise TrustError("key-passphrase", "the passphrase is empty")
    return typed


def _load(path: Path, passphrase: str | None) -> object:
    pem = read_private(path)
    encrypted = ENCRYPTED_MARK in pem
    if encrypted and not passphrase:
        raise TrustError("key-passphrase", f"{path} is encrypted and no passphrase was given")
    password = passphrase.encode() if encrypted and passphrase else None
    try:
        return load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # `from None`: no key material may ride along in a cause
        if encrypted:
            raise TrustError("key-passphrase", f"the passphrase does not open {path}") from None
        raise TrustError("key-invalid", f"{path} does not hold a PKCS#8 PEM private key") from None
