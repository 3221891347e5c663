"""Profiles: families in one file, a user's own, and what is wrong with a file named by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesdk.errors import ConfigError, TargetError
from edgesdk.targets import profiles
from edgesdk.targets.profiles import load_profile, profile_names, user_folders

FAMILIES = {
    "ethos-u55-": (32, 64, 128, 256),
    "ethos-u65-": (256, 512),
    "ethos-u85-": (128, 256, 512, 1024, 2048),
    "rk": (3566, 3568, 3576, 3588),
}
BOARD = """
base = "ethos-u55-128"
name = "my-board"
title = "Our board"

[compiler.options]
system_config = "Ethos_U55_Deep_Embedded"

[memory]
sram_bytes = 262144
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of a user's profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(profiles.TARGETS_VARIABLE, str(tmp_path))
    return tmp_path


def test_every_promised_target_is_there():
    """The names of the card are names of profiles."""
    promised = {f"{family}{number}" for family, numbers in FAMILIES.items() for number in numbers}
    promised |= {f"qualcomm-htp{arch}" for arch in ("", "-v68", "-v73", "-v75", "-v79")}
    promised |= {"jetson-orin-gpu", "linux-arm64-cpu", "linux-armv7-cpu", "linux-x86_64-cpu"}
    assert promised == set(profile_names())


def test_a_member_has_its_own_options_and_the_familys():
    """Vela always gets all three of its options, and the accelerator is the target."""
    for name in profile_names():
        profile = load_profile(name)
        if profile.compiler and profile.compiler.name == "vela":
            assert profile.accelerator == profile.compiler.options["accelerator_config"] == name
            assert {"system_config", "memory_mode"} < set(profile.compiler.options)


def test_only_what_the_agent_runs_is_called_deployable():
    """A target that needs an accelerator, which no agent reports, is not called deployable."""
    for name in profile_names():
        profile = load_profile(name)
        assert (profile.status == "deployable") == (profile.accelerator is None)
        assert profile.status == "deployable" or "measured on" in profile.notes


def test_a_user_adds_a_board(folder):
    """A base is changed where the file says so; the accelerator stays that of the base."""
    (folder / "boards.toml").write_text(BOARD)
    assert "my-board" in profile_names()
    board, base = load_profile("my-board"), load_profile("ethos-u55-128")
    assert board.compiler is not None
    assert base.compiler is not None
    assert board.compiler.options == {**base.compiler.options, "system_config": "Ethos_U55_Deep_Embedded"}
    assert (board.title, board.memory.sram_bytes, board.accelerator) == ("Our board", 262144, "ethos-u55-128")
    assert board.runtimes == base.runtimes


def test_a_profile_is_given_by_its_file(tmp_path, monkeypatch):
    """`--target board.toml` needs no folder; a base of a base counts too."""
    monkeypatch.delenv(profiles.TARGETS_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own = user_folders()[0]
    own.mkdir(parents=True)
    (own / "boards.toml").write_text(BOARD)
    file = tmp_path / "other.toml"
    file.write_text('base = "my-board"\nname = "rev-b"\n')
    board = load_profile(str(file))
    assert (board.name, board.title, board.accelerator) == ("rev-b", "Our board", "ethos-u55-128")


def test_ours_cannot_be_replaced(folder):
    """A file of the user that takes one of our names does not stand in for it."""
    (folder / "x.toml").write_text('base = "linux-arm64-cpu"\nname = "linux-x86_64-cpu"\n')
    assert load_profile("linux-x86_64-cpu").architectures == ("x86_64",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "is no TOML file"),
        ("title = 'x'", "a profile without a name"),
        ("name = 'x'\nbase = 'toaster'", "the base 'toaster' is no other profile"),
        ("name = 'x'\nbase = 'x'", "the base 'x' is no other profile"),
        ("name = 'x'\nbase = 'linux-arm64-cpu'\ncolour = 'red'", "unknown field `colour`"),
        ("name = 'x'\nbase = 'linux-arm64-cpu'\ncompiler = { name = 'gcc' }", "Invalid enum value 'gcc'"),
        ("name = 'X Y'\nbase = 'linux-arm64-cpu'", "is no profile of a target"),
        ("[[members]]\nname = 'a'\n[[members]]\nname = 'b'", "holds 2 profiles: a, b"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_by_name(tmp_path, text, words):
    """The message names the file and what is wrong with it."""
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_profile(str(file))
    assert caught.value.code == "config-invalid"
    assert "wrong.toml" in caught.value.message


def test_bases_in_a_circle_are_refused(folder):
    """Two profiles that are each other's base end with an error."""
    (folder / "a.toml").write_text("name = 'a'\nbase = 'b'\n")
    (folder / "b.toml").write_text("name = 'b'\nbase = 'a'\n")
    with pytest.raises(ConfigError, match="no other profile"):
        load_profile("a")


def test_a_missing_file_and_an_unknown_name_are_told_apart(tmp_path):
    """A path that is not there is a missing file; a name that is not known is no file."""
    with pytest.raises(ConfigError) as caught:
        load_profile(str(tmp_path / "absent.toml"))
    assert caught.value.code == "file-missing"
    with pytest.raises(TargetError, match="toaster"):
        load_profile("toaster")
