"""Child processes: whatever a tool does, the parent gets an answer or one typed error."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from edgesdk_converters.running.isolation import Task, run_child

from edgesdk.errors import ConfigError, ReleaseError

ACTIONS = """
    import ctypes, os, subprocess, sys, time
    from edgesdk.errors import ConfigError

    def answer(call):
        (call.out / "made.txt").write_text(call.inputs["source"].read_text().upper())
        call.progress(1, 2)
        call.progress(2, 2)
        return {"got": call.params["number"] + 1}

    def refuse(call):
        raise ConfigError("data-invalid", "row 3 of x.npz is odd", hint="Make it even.")

    def stumble(call):
        raise RuntimeError("the tool does not know this operator")

    def crash(call):
        os.write(1, b"lowering operator LSTM\\n")
        ctypes.string_at(0)

    def vanish(call):
        os.write(2, b"out of memory, they say\\n")
        os._exit(7)

    def hang(call):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        os.write(1, b"waiting for a licence server\\n")
        time.sleep(600)

    def chatter(call):
        os.write(1, b"x" * 1_000_000)
        print("and more")
        return None

    def environment(call):
        return {name: value for name, value in os.environ.items() if name.startswith("EDGE")}
"""


@pytest.fixture
def act(tmp_path, monkeypatch):
    """Run one of `ACTIONS` in a child."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tool_actions.py").write_text(textwrap.dedent(ACTIONS))
    source = tmp_path / "source.txt"
    source.write_text("model")
    out = tmp_path / "out"
    out.mkdir()

    def run(name: str, *, timeout_s: float = 60.0, **options):
        task = Task(action=f"tool_actions:{name}", inputs={"source": source}, params={"number": 1})
        return run_child(task, out, log=tmp_path / "log.txt", timeout_s=timeout_s, **options)

    run.out, run.log = out, tmp_path / "log.txt"
    return run


def test_an_action_answers_and_reports_progress(act):
    """Files, the answer and the last progress come back."""
    seen = []
    assert act("answer", on_progress=lambda *step: seen.append(step)) == {"got": 2}
    assert (act.out / "made.txt").read_text() == "MODEL"
    assert seen[-1] == (2, 2)


def test_an_error_of_ours_crosses_over_whole(act):
    """An EdgeError keeps family, code, message and hint."""
    with pytest.raises(ConfigError) as caught:
        act("refuse")
    assert caught.value.to_dict() == {
        "code": "data-invalid",
        "message": "row 3 of x.npz is odd",
        "hint": "Make it even.",
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stumble", "RuntimeError: the tool does not know this operator"),
        ("crash", "died of SIGSEGV.*lowering operator LSTM.*Segmentation fault"),
        ("vanish", "exited with status 7.*out of memory, they say"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_tool_that_fails_or_crashes_is_one_typed_error_with_its_last_words(act, name, words):
    """An exception, a segmentation fault, an exit: each is `conversion-failed` and carries what the tool said."""
    with pytest.raises(ReleaseError, match=words) as caught:
        act(name)
    assert caught.value.code == "conversion-failed"


def test_a_tool_that_hangs_is_killed_with_its_children(act):
    """At the time limit the whole process group dies; the error carries the last words."""
    with pytest.raises(ReleaseError, match="waiting for a licence server") as caught:
        act("hang", timeout_s=3.0)
    assert caught.value.code == "conversion-timeout"
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if _sleeps_for_us(pid)]


def _sleeps_for_us(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
        status = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return b"import time; time.sleep(600)" in words and status != "Z"


def test_chatter_goes_to_the_log(act, capfd):
    """What a tool writes to its file descriptors reaches the log, not our output."""
    act("chatter")
    assert capfd.readouterr() == ("", "")
    assert act.log.read_bytes() == b"x" * 1_000_000 + b"and more\n"


def test_secrets_in_the_environment_stay_here(act, monkeypatch):
    """A vendor tool sees no passphrase and no token of ours."""
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "secret")
    assert set(act("environment")) == {"EDGESDK_CHILD_PROGRESS_FD"} | {n for n in os.environ if n.startswith("EDGESDK")}
