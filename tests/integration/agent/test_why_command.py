"""`edge-agent why` as its user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from edgesdk_agent.identity import IDENTITY_SCHEMA, Identity
from edgesdk_agent.ota.journal import Journal
from edgesdk_agent.ota.status import status
from edgesdk_agent.paths import Paths

from edgesdk.errors import CODES
from edgesdk.generation import empty_slots
from edgesdk.protocol.messages import DesiredModel, Reason


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """An enrolled device whose agent does not run."""
    paths = Paths(tmp_path / "device")
    paths.make()
    identity = Identity(
        schema=IDENTITY_SCHEMA,
        device="dev-1",
        fleet="lab",
        enrolment="e-1",
        hub="http://127.0.0.1:9",
        broker="mqtt://127.0.0.1:9",
        repository="http://127.0.0.1:9/repo",
    )
    paths.device.write_bytes(msgspec.json.encode(identity))
    return paths


def why(paths: Paths, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgesdk_agent", "why", *words, "--root", str(paths.root)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_device_without_models_says_so(paths: Paths) -> None:
    """Nothing was deployed: that, and what comes before it, is the answer; a named model is explained all the same."""
    said = why(paths).stdout
    assert "No model was deployed here yet" in said
    assert "Start the agent" in said
    named = json.loads(why(paths, "digits", "--json").stdout)["models"][0]
    assert named["model"] == "digits"
    assert "serves no release" in named["text"]
    assert "Start the agent" in named["next"]


def test_what_the_agent_said_last_is_explained(paths: Paths) -> None:
    """A refusal that the agent wrote is explained after it has stopped; an unknown model is an error with a code."""
    journal = Journal(
        model="digits",
        state="refused",
        deployment="r-1",
        serial=17,
        wanted=DesiredModel(release="1.1.0", deployment="r-1"),
        reason=Reason(code="no-fitting-variant", message="needs onnxruntime >= 1.18", hint="Install edgesdk[onnx]."),
    )
    said = status(journal, empty_slots("digits"), None, retry_in_s=None, paused=False, trial_evidence={})
    paths.status.write_bytes(msgspec.json.encode({"online": True, "serial": 17, "models": {"digits": said}}))
    done = why(paths)
    assert "needs onnxruntime >= 1.18 [no-fitting-variant]" in done.stdout
    assert "The agent does not run" in done.stdout
    missing = why(paths, "letters", "--json")
    error = json.loads(missing.stderr)["error"]
    assert error["code"] == "generation-missing"
    assert error["code"] in CODES
    assert "digits" in error["message"]


def test_a_device_that_is_not_enrolled_is_told(tmp_path: Path) -> None:
    """The cure of the error is the thing to do."""
    done = why(Paths(tmp_path / "none"), "--json")
    assert done.returncode == 7
    assert json.loads(done.stderr)["error"]["code"] == "not-enrolled"
