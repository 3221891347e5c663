"""A tool's crash, failure, hang and success without a deed are typed errors with its own words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from edgesdk_converters.running.environments import ensure, run_tool

from edgesdk.errors import ReleaseError

WORDS = r"its last words: tool: I begin \| tool: nothing works today"


@pytest.fixture(scope="module")
def python(tiny, tmp_path_factory) -> Path:
    """The tool's Python."""
    return ensure(tiny, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("crash", "tool-crashed", "tinytool died of SIGFPE"),
        ("fail", "tool-crashed", "tinytool failed with status 1; .*unsupported operator ERF"),
        ("hang", "tool-timeout", "tinytool did not end within 1 s"),
        ("nothing", "tool-did-nothing", "tinytool ended with success, and did not write made.bin"),
        ("empty", "tool-did-nothing", "tinytool ended with success, and did not write made.bin"),
    ],
)
def test_each_way_to_fail_is_a_typed_error(python, tmp_path, deed, code, words):
    """The message says what became of the tool, and what it said last."""
    made = tmp_path / "made.bin"
    arguments = ["-m", "tinytool", deed, str(made)]
    with pytest.raises(ReleaseError, match=words) as caught:
        run_tool(python, arguments, cwd=tmp_path, timeout_s=1 if deed == "hang" else 60, expect=[made])
    assert caught.value.code == code
    assert "tool: nothing works today" in caught.value.message


def test_a_tool_that_works_is_heard(python, tmp_path):
    """Both streams and the time come back."""
    ran = run_tool(python, ["-m", "tinytool", "write", "made"], cwd=tmp_path, timeout_s=60, expect=[tmp_path / "made"])
    assert (ran.stdout, ran.stderr) == ("tool: I begin\n", "tool: nothing works today\n")
    assert ran.seconds > 0


def test_a_tool_sees_no_secrets_and_no_python_of_ours(python, tmp_path, monkeypatch):
    """Keys and tokens do not reach foreign code, and our module path does not reach its environment."""
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "secret")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    ran = run_tool(python, ["-m", "tinytool", "variables"], cwd=tmp_path, timeout_s=60, environment={"ASKED": "1"})
    assert "EDGE_KEY_PASSPHRASE" not in ran.stdout
    assert "PYTHONPATH" not in ran.stdout
    assert "ASKED" in ran.stdout


def test_what_a_tool_started_does_not_outlive_it(tmp_path, wait_for_end):
    """A tool that leaves a process behind does not leave it to us."""
    code = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)']).pid)"
    )
    ran = run_tool(Path(sys.executable), ["-c", code], cwd=tmp_path, timeout_s=60)
    wait_for_end(int(ran.stdout))
