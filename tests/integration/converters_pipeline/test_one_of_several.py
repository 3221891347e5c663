"""One hopeless target among several hides none of the others: each is tried, and the refusal tells of all."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from edgesdk_converters import convert
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.running.environments import RECORD

from edgesdk.errors import ReleaseError
from edgesdk.targets.matching import architecture_name
from edgesdk.testing import fake_tool

HERE, OTHER = sorted(
    ("linux-x86_64-cpu", "linux-arm64-cpu"), key=lambda name: architecture_name(platform.machine()) not in name
)
"""The target that this machine can time, and one that it cannot: only the first can be refused for its speed."""


def test_the_first_target_is_refused_and_the_others_are_told(models, words, tmp_path):
    """The message says which target passes, the hint how to get it; the report has both, with their figures."""
    asked = {**words, "targets": (HERE, OTHER), "min_speedup": 1000.0}
    with pytest.raises(ReleaseError) as caught:
        convert(models[0], **asked, out=tmp_path / "release")
    assert caught.value.code == "latency-gate"
    assert caught.value.message.startswith(f"{HERE}-tflite-int8 (")
    assert caught.value.message.endswith(f"\npasses: {OTHER}")
    assert caught.value.hint.startswith(f"Leave out --target {HERE} to release the others. Otherwise: ")
    report = json.loads((tmp_path / "release.refused" / "report.json").read_bytes())
    assert [variant["variant"] for variant in report["variants"]] == [f"{HERE}-tflite-int8", f"{OTHER}-tflite-int8"]
    assert list(report["refused"]["variants"]) == [f"{HERE}-tflite-int8"]
    convert(models[0], **{**asked, "targets": (OTHER,)}, out=tmp_path / "release")


def test_with_repair_every_ladder_is_climbed_and_the_command_prints_every_variant(models, words, tmp_path):
    """The first ladder comes to nothing, the second stands; --json prints report and error, exit code 4."""
    edge = Path(sys.executable).with_name("edge")
    command = [edge, "convert", models[0], "--name", "wearable", "--release", "1.0.0", "--contract", words["contract"]]
    command += ["--target", HERE, "--target", OTHER, "--evaluation", words["evaluation"], "--recipe", "int8-dynamic"]
    command += ["--max-drop", str(words["max_drop"]), "--min-speedup", "1000", "--repair", "--recipe", "int8-qnn"]
    command += ["--cache-dir", words["cache_dir"], "-o", tmp_path / "release"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    error, report = json.loads(done.stderr)["error"], json.loads(done.stdout)
    assert error["code"] == report["refused"]["code"] == "repair-exhausted"
    assert report["folder"] == str(tmp_path / "release.refused")
    ladders = {f"{HERE}-tflite-int8-dynamic": None, f"{OTHER}-tflite-int8-dynamic": "int8-dynamic"}
    assert {name: found["chosen"] for name, found in report["pareto"].items()} == ladders
    assert [variant["variant"] for variant in report["variants"]] == list(ladders)
    assert [words.partition(" is ")[0] for words in report["left_out"]] == [f"{HERE}: int8-qnn", f"{OTHER}: int8-qnn"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "200"})
    rows = {row[0]: row[1] for row in map(str.split, shown.stdout.splitlines()) if row[:1] and row[0] in ladders}
    assert rows == dict(zip(ladders, ("refused", "passes"), strict=True))


def test_a_tool_that_crashes_on_one_target_ends_none_of_the_others(models, words, tmp_path, monkeypatch):
    """It is told as that target's refusal; with no other target there is nothing to tell but the crash itself."""
    vela = BACKENDS["vela"].environment
    monkeypatch.setenv("EDGESDK_ENVIRONMENTS", str(tmp_path / "environments"))
    folder = tmp_path / "environments" / vela.key
    (folder / "bin").mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(asdict(vela)))
    fake_tool(folder / "bin" / "python", deed="crash", says="vela: I begin")
    asked = {**words, "targets": ("ethos-u65-256", OTHER)}
    with pytest.raises(ReleaseError, match=r"^ethos-u65-256-int8: .*SIGFPE") as caught:
        convert(models[0], **asked, out=tmp_path / "release")
    assert caught.value.code == "tool-crashed"
    assert caught.value.message.endswith(f"\npasses: {OTHER}")
    report = json.loads((tmp_path / "release.refused" / "report.json").read_bytes())
    assert [variant["variant"] for variant in report["variants"]] == [f"{OTHER}-tflite-int8"]
    assert list(report["refused"]["variants"]) == ["ethos-u65-256-int8"]
    with pytest.raises(ReleaseError, match="SIGFPE"):
        convert(models[0], **{**asked, "targets": ("ethos-u65-256",)}, out=tmp_path / "alone")
    assert not (tmp_path / "alone.refused").exists()
