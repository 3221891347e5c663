"""No secret leaves the file that it belongs in: hub, repository, enrolment, agent and a whole deployment, searched."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from edgesdk.demo.processes import Programs
from edgesdk.demo.scene import Device, Scene, read_lines
from edgesdk.trust.enrolment import parse_token

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import planted_faults
from planted.releases import good_recipe

PEM_LINE = 64
MOST_OF_ED25519 = 60
SECRET_AT = (16, 36)
"""Where the 32 secret bytes begin in PKCS#8: of an Ed25519 key (48 bytes), of a P-256 key (138 bytes)."""


@pytest.mark.slow
def test_no_secret_lies_outside_its_file(tmp_path: Path) -> None:
    """Private keys, the admin's token and the spent enrolment token are in no log, database, bundle or output."""
    factory, recordings = planted_faults.prepare(tmp_path / "made")
    folder = tmp_path / "site"
    with Programs(folder) as programs:
        scene = Scene(folder=folder, programs=programs)
        scene.open_repository()
        scene.publish(factory.release("1.0.0", good_recipe(0)))
        scene.start_hub("devbroker")
        token, device = enrol(scene)
        scene.start_app(device, recordings)
        policy = folder / "policy.toml"
        policy.write_text("[trial]\nmin_seconds = 0.5\nmin_calls = 20\n")
        assert scene.settle(scene.deploy("1.0.0", policy))["state"] == "done"
        programs.run("hub", "nonsense", check=False)  # what failed commands print is searched, too
        programs.run("enroll", token, "--config", str(device.folder / "agent.toml"), "--json", check=False,
                     module="edgesdk_agent")  # fmt: skip
        assert read_lines(scene.telemetry)
    secrets = dict(key_pieces(folder))
    assert len(secrets) >= 8
    admin = (folder / "hub" / "admin.token").read_text().strip()
    secrets["the admin token"] = [admin.encode()]
    spent = {"the enrolment token": [parse_token(token).secret.encode(), token.encode()]}
    leaks = [
        f"{name} in {path.relative_to(folder)}"
        for path in files(folder)
        for name, pieces in {**secrets, **({} if path.name == "commands.log" else spent)}.items()
        if name != str(path.relative_to(folder)) and path.name != "admin.token"
        and any(piece in path.read_bytes() for piece in pieces)
    ]  # fmt: skip
    assert leaks == []
    for path in private_files(folder):
        assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"


def enrol(scene: Scene) -> tuple[str, Device]:
    """Enrol one device as the scene does, and keep its token."""
    kept: list[str] = []
    original = scene.fleet

    def fleet(*arguments: str) -> object:
        made = original(*arguments)
        if arguments == ("token",):
            kept.append(made["token"])
        return made

    scene.fleet = fleet  # type: ignore[method-assign]
    device = scene.enrol("onnx")
    scene.fleet = original  # type: ignore[method-assign]
    assert device.store.exists()

    return kept[0], device


def files(folder: Path) -> Iterator[Path]:
    """Yield every regular file of the site: logs, databases, outputs, repository, bundles."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def private_files(folder: Path) -> list[Path]:
    return [path for path in files(folder) if b"PRIVATE KEY" in path.read_bytes()]


def key_pieces(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Yield, by the file it belongs in, how each private key could look elsewhere: its text, raw, hex and base64."""
    for path in private_files(folder):
        data = path.read_bytes()
        key = load_pem_private_key(data, None)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        start = SECRET_AT[len(der) > MOST_OF_ED25519]  # before it all keys of a kind are alike, after it is public
        secret = der[start : start + 32]
        text = base64.b64encode(der)[-(-start // 3) * 4 : PEM_LINE]
        yield (
            str(path.relative_to(folder)),
            [text, secret, secret.hex().encode(), base64.b64encode(secret)[:-4]],
        )
