"""Who stands behind a rotation of keys."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgesdk.errors import TrustError
from edgesdk.trust.ca import init_ca
from edgesdk.trust.keys import generate_key, load_signer, public_key_of
from edgesdk.trust.rotation import RotationResponse, check_rotated, check_rotation, make_rotation


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Keys in force, and a folder for new ones."""
    old, new = tmp_path / "keys", tmp_path / "next"
    old.mkdir()
    new.mkdir()
    generate_key(old / "statement.pem", None)
    return old, new


def made(folders: tuple[Path, Path], number: int = 1):
    return make_rotation(*folders, device="dev-1", fleet="lab", enrolment="e-1", number=number)


def known(folder: Path):
    return public_key_of(load_signer(folder / "statement.pem"))


def test_both_keys_sign_every_fact(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A request that differs in any field from what was signed, or is signed by another key, is refused."""
    request = made(folders)
    check_rotation(request, known(folders[0]))
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = make_rotation(folders[0], other_folder, device="dev-1", fleet="lab", enrolment="e-1", number=1)
    changes = {
        "device": "dev-2",
        "fleet": "other",
        "enrolment": "e-2",
        "number": 2,
        "csr_pem": other.csr_pem,
        "statement_public": other.statement_public,
        "proof": other.proof,
        "signature": other.signature,
    }
    for name, value in changes.items():
        with pytest.raises(TrustError) as caught:
            check_rotation(msgspec.structs.replace(request, **{name: value}), known(folders[0]))
        assert caught.value.code == "possession", name
    for wrong in (known(folders[1]), public_key_of(load_signer(other_folder / "statement.pem"))):
        with pytest.raises(TrustError):
            check_rotation(request, wrong)


def test_an_interrupted_rotation_goes_on_with_its_keys(folders: tuple[Path, Path]) -> None:
    """A second try sends the same new keys under a new number; the files are private."""
    first, second = made(folders), made(folders, 2)
    assert first.statement_public == second.statement_public
    assert {file.stat().st_mode & 0o777 for file in folders[1].iterdir()} == {0o600}


def test_the_answer_is_checked_before_a_key_is_changed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A certificate of another authority, for another key or another name is refused."""
    request = made(folders)
    authority, stranger = init_ca(tmp_path / "ca"), init_ca(tmp_path / "stranger")
    ca = authority.certificate_pem.decode()

    def answer(signer, name: str, csr: str) -> RotationResponse:
        return RotationResponse(certificate_pem=signer.issue_device(csr, name).decode(), ca_pem=ca)

    check_rotated(answer(authority, "dev-1", request.csr_pem), folders[1], device="dev-1", ca_pem=ca)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = make_rotation(folders[0], other_folder, device="dev-1", fleet="lab", enrolment="e-1", number=1)
    for wrong in (
        answer(stranger, "dev-1", request.csr_pem),
        answer(authority, "dev-2", request.csr_pem),
        answer(authority, "dev-1", other.csr_pem),
    ):
        with pytest.raises(TrustError) as caught:
            check_rotated(wrong, folders[1], device="dev-1", ca_pem=ca)
        assert caught.value.code == "ca-mismatch"
