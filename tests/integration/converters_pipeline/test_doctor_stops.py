"""The calibration doctor inside a conversion and behind `edge data inspect`, on the wearable's real recordings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters import convert
from edgesdk_converters.request import read_contract

from edgesdk.bundle.archive import open_bundle
from edgesdk.errors import ConfigError


@pytest.fixture
def spoilt(data, words, tmp_path):
    """Write the calibration set with its rows changed."""
    normalisation = read_contract(words["contract"]).inputs[0].normalisation
    mean, std = np.float32(normalisation.mean), np.float32(normalisation.std)
    changes = {
        "noise": lambda x: np.random.default_rng(0).normal(x.mean((0, 1)), x.std((0, 1)), x.shape),
        "layout": lambda x: x.transpose(0, 2, 1).reshape(x.shape),
        "double-normalised": lambda x: (x - mean) / std,
        "range": lambda x: x * 0.02,
        "not-finite": lambda x: np.where(np.arange(len(x))[:, None, None] == 5, np.nan, x),
        "few": lambda x: x[:20],
    }

    def write(fault: str) -> Path:
        path = tmp_path / f"{fault}.npz"
        with np.load(data / "calibration.npz") as arrays:
            np.savez(path, x=changes[fault](arrays["x"]).astype(np.float32))
        return path

    return write


@pytest.mark.parametrize("fault", ["noise", "layout", "double-normalised", "range", "not-finite", "few"])
def test_spoilt_calibration_stops_before_anything_is_quantized(models, words, spoilt, fault, tmp_path):
    """Each fault is refused by its name, and no artifact and no folder is made."""
    begun = []

    class Listening:
        def plan(self, plan, cached, expected):
            """Not of interest."""

        def begin(self, step):
            begun.append(step.name)
            return lambda _done, _total: None

        def end(self, step, *, cached, seconds):
            """Not of interest."""

    out = tmp_path / "out" / "release"
    with pytest.raises(ConfigError) as caught:
        convert(*models, **{**words, "calibration": spoilt(fault)}, out=out, observer=Listening())
    assert caught.value.code == f"calibration-{fault}"
    assert begun[-1] == "examine calibration"
    assert not out.exists()


def test_the_report_holds_the_diagnosis(released):
    """A clean set leaves the rate, the number of checks and no finding in the report."""
    doctor = released.report["doctor"]
    assert doctor["on"]
    assert doctor["diagnosis"]["findings"] == []
    assert doctor["diagnosis"]["false_alarm_rate"] == 0.001


def test_without_a_reason_the_doctor_stays_on(models, words, tmp_path):
    """`--no-doctor` alone is refused."""
    with pytest.raises(ConfigError, match="the doctor is off without a reason"):
        convert(*models, **words, doctor=False, out=tmp_path / "release")


def test_the_reason_stands_in_the_release_and_in_the_bundle(models, words, spoilt, tmp_path):
    """Unexamined data shows wherever the release goes."""
    off = {"doctor": False, "reason": "a bench without real recordings", "formats": ("tflite",), "gate": False}
    made = convert(*models, **{**words, "calibration": spoilt("range"), **off}, out=tmp_path / "release")
    assert "The calibration doctor was off: a bench without real recordings" in made.index.notes
    assert made.report["doctor"] == {"on": False, "reason": off["reason"], "diagnosis": None}
    with open_bundle(next(made.folder.glob("*.edge"))) as bundle:
        assert bundle.manifest.evaluation.details["doctor"] == {"on": False, "reason": off["reason"]}


@pytest.mark.parametrize(("fault", "status"), [(None, 0), ("layout", 2)])
def test_inspect_says_what_it_read(data, words, spoilt, fault, status):
    """`edge data inspect --json` prints shapes, ranges, classes and findings; its exit status is the verdict."""
    file = data / "calibration.npz" if fault is None else spoilt(fault)
    arguments = ["data", "inspect", file, "--contract", words["contract"], "--against", data / "evaluation.npz"]
    code = "from edgesdk.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    report = json.loads(done.stdout)
    assert report["rows"] == 99
    assert report["inputs"][0]["shape"] == ["N", 128, 6]
    assert len(report["inputs"][0]["channels"]) == 6
    assert [finding["code"] for finding in report["findings"]] == ([] if fault is None else ["calibration-layout"])
    assert (report["classes"] is None) == (fault is not None)
