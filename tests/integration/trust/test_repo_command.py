"""`edge repo` as a person types it: real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from edgesdk.cli.main import edge as command
from edgesdk.cli.main import run
from edgesdk.trust.repository import init_repository

KEY = "ab" * 32


@pytest.fixture
def edge(tmp_path):
    def run(*arguments: str, passphrase: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "EDGE_KEY_PASSPHRASE"}
        if passphrase is not None:
            environment["EDGE_KEY_PASSPHRASE"] = passphrase
        return subprocess.run(
            [sys.executable, "-c", "from edgesdk.cli.main import main; main()", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def json_of(edge):
    def run(*arguments: str, **more: str):
        done = edge(*arguments, "--json", **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_whole_life(json_of, make_release, make_anchor):
    """init, publish, policy, deployment keys, rotate, refresh: each says what the repository holds then."""
    release, anchor = make_release(), make_anchor().path
    made = json_of("repo", "init", "r", passphrase="a good one")
    assert made["versions"] == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
    assert len(made["root_sha256"]) == 64
    here = ("--repo", "r")
    published = json_of("repo", "publish", str(release), *here, passphrase="a good one")
    assert "models/digits/1.0.0/release.json" in published["targets"]
    json_of("repo", "policy", "digits", "--anchor", str(anchor), "--reason", "why", *here, passphrase="a good one")
    keys = json_of("repo", "deployment-keys", KEY, *here, passphrase="a good one")
    assert keys["targets"] == ["trust/deployment.json"]
    assert json_of("repo", "rotate", "root", *here, passphrase="a good one")["versions"]["root"] == 2
    assert json_of("repo", "refresh", *here, passphrase="a good one")["changed"] is True
    again = json_of("repo", "publish", str(release), *here, passphrase="a good one")
    assert again["changed"] is False


def test_without_a_passphrase_nothing_is_made(edge, tmp_path):
    """No variable, no terminal, no explicit wish: key-passphrase, exit 5, and no folder."""
    done = edge("repo", "init", "r")
    assert (done.returncode, "key-passphrase" in done.stderr) == (5, True)
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "r-keys").exists()


def test_unencrypted_keys_are_made_only_on_request_and_with_a_warning(edge, tmp_path):
    """--no-passphrase warns; the keys then work without a passphrase."""
    done = edge("repo", "init", "r", "--no-passphrase")
    assert done.returncode == 0
    assert "warning" in done.stderr
    assert edge("repo", "refresh", "--repo", "r").returncode == 0
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "r-keys").glob("*.pem"))


def test_a_wrong_passphrase_shows_no_secret(edge, tmp_path):
    """The error names the file; neither passphrase nor key is printed."""
    init_repository(tmp_path / "r", tmp_path / "r-keys", passphrase="right horse")
    done = edge("repo", "refresh", "--repo", "r", passphrase="wrong horse")
    assert done.returncode == 5
    assert "key-passphrase" in done.stderr
    assert "horse" not in done.stdout + done.stderr
    assert "PRIVATE" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("publish", "nowhere", "--repo", "r"), "file-missing"),
        (("refresh", "--repo", "nowhere"), "file-missing"),
        (("rotate", "king", "--repo", "r"), "argument-invalid"),
        (("refresh", "--repo", "r", "--role", "root"), "argument-invalid"),
        (("policy", "digits", "--repo", "r", "--reason", "x"), "argument-invalid"),
        (("deployment-keys", "nokey", "--repo", "r"), "file-missing"),
        (("init", "r", "--no-passphrase"), "file-exists"),
    ],
)
def test_mistakes_have_one_clear_error(tmp_path, monkeypatch, capsys, arguments, code):
    """Each ends with exit code 2 and one JSON error with its code and what to do."""
    init_repository(tmp_path / "r", tmp_path / "r-keys")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE", raising=False)
    assert run(command, ["repo", *arguments, "--json"], name="edge") == 2
    error = json.loads(capsys.readouterr().err.strip().splitlines()[-1])["error"]
    assert error["code"] == code
    assert error["hint"]


def test_a_missing_release_is_named_before_a_passphrase_is_asked(edge, json_of):
    """Nobody types a passphrase to learn that a folder is not there."""
    json_of("repo", "init", "r", passphrase="a good one")
    done = edge("repo", "publish", "nowhere", "--repo", "r")
    assert done.returncode == 2
    assert "[file-missing]" in done.stderr
