"""Private key files and public keys."""

import stat
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from edgesdk.errors import ConfigError, TrustError
from edgesdk.trust.keys import (
    MAX_KEY_FILE,
    PublicKey,
    ask_passphrase,
    generate_key,
    generate_tls_key,
    keyid_of,
    load_signer,
    load_tls_key,
    passphrase_from,
    public_key,
    public_key_of,
)


def test_a_new_key_file_is_private_and_loads_again(tmp_path):
    """The file has mode 0600 in a folder of mode 0700, and the loaded signer has the public key that was returned."""
    path = tmp_path / "keys" / "a.pem"
    key = generate_key(path, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert public_key_of(load_signer(path)) == key
    assert [item.name for item in path.parent.iterdir()] == ["a.pem"]


def test_a_key_file_is_never_overwritten(tmp_path):
    """A second generate refuses and leaves the first key."""
    path = tmp_path / "a.pem"
    generate_key(path, None)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="file-exists"):
        generate_key(path, None)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.pem"]


def test_an_encrypted_key_needs_its_passphrase(tmp_path):
    """Without or with a wrong passphrase: key-passphrase; the error and its causes hold no key material."""
    path = tmp_path / "a.pem"
    key = generate_key(path, "right horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert public_key_of(load_signer(path, "right horse")) == key
    for wrong in (None, "", "wrong horse"):
        with pytest.raises(TrustError, match="key-passphrase") as caught:
            load_signer(path, wrong)
        assert caught.value.__cause__ is None
        assert "horse" not in str(caught.value)


def test_a_passphrase_does_not_hinder_an_unencrypted_key(tmp_path):
    """EDGE_KEY_PASSPHRASE may be set while a demo key is unencrypted."""
    key = generate_key(tmp_path / "a.pem", None)
    assert public_key_of(load_signer(tmp_path / "a.pem", "unused")) == key


def test_an_empty_passphrase_is_refused(tmp_path):
    """An empty passphrase would look like encryption and be none."""
    with pytest.raises(TrustError, match="key-passphrase"):
        generate_key(tmp_path / "a.pem", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o622])
def test_a_key_that_others_can_reach_is_refused(tmp_path, mode):
    """Group or world permissions: key-permissions, with the mode named."""
    path = tmp_path / "a.pem"
    generate_key(path, None)
    path.chmod(mode)
    with pytest.raises(TrustError, match=f"{mode:04o}.*key-permissions"):
        load_signer(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_garbage_is_no_key(tmp_path, content):
    """A damaged file is key-invalid, whatever is in it."""
    path = tmp_path / "a.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(TrustError, match="key-invalid"):
        load_signer(path)


def test_a_huge_or_missing_file_is_no_key(tmp_path):
    """Reading is bounded; a missing file is named."""
    path = tmp_path / "a.pem"
    with pytest.raises(ConfigError, match="file-missing"):
        load_signer(path)
    path.write_bytes(b"x" * (MAX_KEY_FILE + 1))
    path.chmod(0o600)
    with pytest.raises(TrustError, match="key-invalid"):
        load_signer(path)


def test_key_kinds_are_not_confused(tmp_path):
    """A TLS key is not taken for a signing key, nor the other way round."""
    generate_tls_key(tmp_path / "tls.pem")
    generate_key(tmp_path / "sign.pem", None)
    with pytest.raises(TrustError, match="key-invalid"):
        load_signer(tmp_path / "tls.pem")
    with pytest.raises(TrustError, match="key-invalid"):
        load_tls_key(tmp_path / "sign.pem")


def test_key_ids_are_those_of_tuf(tmp_path):
    """Our pure computation equals securesystemslib's, so deployment keys and TUF keys share their ids."""
    generate_key(tmp_path / "a.pem", None)
    signer = load_signer(tmp_path / "a.pem")
    assert public_key_of(signer).keyid == signer.public_key.keyid


def test_a_public_key_must_carry_its_own_id():
    """A document cannot list one key under two ids to reach a threshold."""
    good = public_key("ab" * 32)
    assert msgspec.json.decode(msgspec.json.encode(good), type=PublicKey) == good
    assert msgspec.to_builtins(good) == {"keyid": keyid_of("ab" * 32), "public": "ab" * 32}
    with pytest.raises(msgspec.ValidationError, match="does not belong"):
        msgspec.convert({"keyid": "0" * 64, "public": "ab" * 32}, PublicKey)
    for wrong in ("short", "AB" * 32, "ab" * 32 + "\n", " " + "ab" * 32):
        with pytest.raises(TrustError, match="key-invalid"):
            public_key(wrong)


def test_the_passphrase_comes_from_the_environment(monkeypatch):
    """The variable wins; an empty one is none; without a terminal there is a clear error instead of a hang."""
    assert passphrase_from({"EDGE_KEY_PASSPHRASE": "x"}) == "x"
    assert passphrase_from({"EDGE_KEY_PASSPHRASE": ""}) is None
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "from the environment")
    assert ask_passphrase() == "from the environment"
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE")
    with Path("/dev/null").open() as null, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", null)
        with pytest.raises(TrustError, match="key-passphrase"):
            ask_passphrase()


def test_a_typed_passphrase_for_new_keys_is_long_enough(monkeypatch):
    """Whoever steals the file can guess without end: two letters are refused where keys are made, not where used."""
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "ab")
    assert ask_passphrase() == "ab"
    with pytest.raises(TrustError, match="key-passphrase"):
        ask_passphrase(confirm=True)
