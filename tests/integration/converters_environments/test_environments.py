"""Environments of vendor tools: made once, whole or not at all, and with the installer's own words when they fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from edgesdk_converters.running import environments
from edgesdk_converters.running.environments import RECORD, Environment, ensure, find, first_uses, run_tool

from edgesdk.errors import ConfigError

ASK = """
import sys
from edgesdk_converters.running.environments import Environment, ensure
print(ensure(Environment("tiny", packages=(sys.argv[1],)), progress=print))
"""


def ask(tiny: Environment, root: Path, **variables: str) -> subprocess.Popen[str]:
    """Let another process ask for the environment."""
    return subprocess.Popen(
        [sys.executable, "-c", ASK, *tiny.packages],
        env={**os.environ, "EDGESDK_ENVIRONMENTS": str(root), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_environment_is_made_once_and_holds_its_packages(tiny, tmp_path):
    """The first call makes it and says so; the second finds it and says nothing; its Python has the package."""
    said: list[str] = []
    assert find(tiny, cache_dir=tmp_path) is None
    [first] = first_uses([None, tiny, tiny], cache_dir=tmp_path)
    assert first.startswith("tiny is downloaded first, once")
    python = ensure(tiny, cache_dir=tmp_path, progress=said.append)
    assert len(said) == 1
    assert "tinytool" in said[0]
    assert ensure(tiny, cache_dir=tmp_path, progress=said.append) == python == find(tiny, cache_dir=tmp_path)
    assert len(said) == 1
    assert first_uses([None, tiny], cache_dir=tmp_path) == []
    run_tool(python, ["-m", "tinytool", "write", "made"], cwd=tmp_path, timeout_s=60, expect=[tmp_path / "made"])


def test_other_packages_are_another_environment(tiny, tmp_path):
    """Names are for people; what is in it is its identity."""
    bare = Environment("tiny")
    assert bare.key != tiny.key
    assert find(bare, cache_dir=tmp_path) is None


def test_without_uv_pip_makes_it(tiny, tmp_path, monkeypatch):
    """The standard library and pip do where there is no uv."""
    found = shutil.which
    monkeypatch.setattr(environments.shutil, "which", lambda name: None if name == "uv" else found(name))
    python = ensure(tiny, cache_dir=tmp_path)
    run_tool(python, ["-c", "import tinytool", "variables"], cwd=tmp_path, timeout_s=60)


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_failing_install_is_a_typed_error_with_the_installers_words(tool, tmp_path, monkeypatch):
    """A missing distribution is named in the message, and nothing is left that could be taken for an environment."""
    if tool == "pip":
        monkeypatch.setattr(environments.shutil, "which", lambda _name: None)
    wanted = Environment("broken", packages=(str(tmp_path / "absent-1.0-py3-none-any.whl"),))
    with pytest.raises(ConfigError, match=r"broken could not be made; its last words: .*absent") as caught:
        ensure(wanted, cache_dir=tmp_path)
    assert caught.value.code == "environment-failed"
    assert find(wanted, cache_dir=tmp_path) is None
    assert not list((tmp_path / "environments").glob(".*partial"))


def test_a_python_that_is_not_there_is_named(tmp_path, monkeypatch):
    """Without uv, which brings Pythons, the missing version is an error before anything is made."""
    monkeypatch.setattr(environments.shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs Python 3\.2") as caught:
        ensure(Environment("old", python="3.2"), cache_dir=tmp_path)
    assert caught.value.code == "dependency-missing"


def test_two_processes_that_ask_at_once_make_one(tiny, tmp_path):
    """The lock lets one make it; both get the same whole environment."""
    both = [ask(tiny, tmp_path) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert {lines[-1] for lines in answers} == {str(tmp_path / tiny.key / "bin" / "python")}
    assert sum("making" in line for lines in answers for line in lines) == 1


def test_what_a_killed_process_left_is_never_used(tiny, tmp_path, wait_for_end):
    """A kill -9 in mid-install: the installer dies too, remains are swept, the next call makes it whole."""
    fake = tmp_path / "bin" / "uv"
    fake.parent.mkdir()
    pid = tmp_path / "uv.pid"
    fake.write_text(f'#!/bin/sh\necho $$ > "{pid}.new"\nmv "{pid}.new" "{pid}"\nexec sleep 3600\n')
    fake.chmod(0o755)
    root = tmp_path / "environments"
    process = ask(tiny, root, PATH=f"{fake.parent}:{os.environ['PATH']}")
    installer = _wait_for_pid(pid)
    assert list(root.glob(".*partial"))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    wait_for_end(installer)
    assert find(tiny, cache_dir=tmp_path) is None
    [first] = first_uses([None, tiny, tiny], cache_dir=tmp_path)
    assert first.startswith("tiny is downloaded first, once")
    python = ensure(tiny, cache_dir=tmp_path)
    assert python.parent.parent.joinpath(RECORD).is_file()
    assert not list(root.glob(".*partial"))


def test_an_environment_whose_python_went_away_is_made_again(tiny, tmp_path):
    """A link to an interpreter that was uninstalled is not believed."""
    python = ensure(tiny, cache_dir=tmp_path)
    python.unlink()
    assert find(tiny, cache_dir=tmp_path) is None
    assert ensure(tiny, cache_dir=tmp_path) == python
    run_tool(python, ["-c", "import tinytool", "variables"], cwd=tmp_path, timeout_s=60)


def _wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)
    return int(path.read_text())
