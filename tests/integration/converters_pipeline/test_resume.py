"""kill -9 in the middle of a conversion."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from edgesdk_converters import convert

SCRIPT = """
import json, signal, sys
from edgesdk_converters import convert
from edgesdk_converters.pipeline import SilentPlan

class Told(SilentPlan):
    def begin(self, step):
        print("begin", step.name, flush=True)
        return lambda done, total: print("progress", step.name, done, total, flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
words = json.loads(sys.argv[1])
convert(*words.pop("models"), **words, observer=Told())
"""


def child_of(process: subprocess.Popen) -> int:
    """Return the child in which the step that just began runs, as soon as there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        if found := children.read_text().split():
            return int(found[0])
    raise AssertionError("it ended before its step could be interrupted")


def wait_until_gone(pid: int) -> None:
    """Return when a process that is not our child has ended; the test's time limit ends the wait otherwise."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        selector.select()
    os.close(handle)


def test_a_killed_conversion_leaves_nothing_half_done_and_goes_on_where_it_was(models, words, released, tmp_path):
    """Kill -9 while a step runs: no release, no orphan; the next call reuses what was done, to the same bytes."""
    fresh = {**words, "cache_dir": tmp_path / "cache"}
    plain = {**fresh, "models": models, "out": tmp_path / "release"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(plain, default=str)], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("begin quantize onnx"):
            break
    child = child_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(child)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]

    resumed = convert(*models, **fresh, out=tmp_path / "release")
    reused = [step["name"] for step in resumed.report["steps"] if step["cached"]]
    assert "quantize tflite int8" in reused
    assert "quantize onnx int8" not in reused
    assert list((tmp_path / "cache" / "work").iterdir()) == []
    assert [entry.sha256 for entry in resumed.index.variants] == [entry.sha256 for entry in released.index.variants]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_a_cache_to_go_on_from_and_no_half_output(how, models, words, tmp_path):
    """Ctrl-C and kill -9 between two steps: no release, no partial folder, no orphan; what was done is used again."""
    changes = {"recipes": ("float",), "calibration": None, "truth": None, "targets": ("linux-x86_64-cpu",)}
    fresh = {**words, **changes, "cache_dir": tmp_path / "cache"}
    plain = {**fresh, "models": models[1:], "out": tmp_path / "release"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(plain, default=str)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("begin run onnx"):
            break
    child = child_of(process)
    process.send_signal(how)
    process.wait()
    wait_until_gone(child)
    assert process.returncode == -how
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    resumed = convert(*models[1:], **fresh, out=tmp_path / "release")
    reused = {step["name"] for step in resumed.report["steps"] if step["cached"]}
    assert reused == {"pin onnx"}
    assert list((tmp_path / "cache" / "work").iterdir()) == []
