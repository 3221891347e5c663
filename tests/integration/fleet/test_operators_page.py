"""docs/operators.md walked by an operator in a fresh folder: each command on it works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgesdk.bundle.archive import file_entry, write_bundle
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, GoldenSet, Manifest, Requirements, RuntimeRequirement, Stage
from edgesdk.bundle.release import write_release
from edgesdk.cli.fleet import HALTED
from edgesdk.contract import Binding, Bindings, Contract, TensorSpec
from edgesdk.fleet.folder import HubFolder
from edgesdk.protocol.messages import DesiredModel
from edgesdk.trust.enrolment import parse_token

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto, pytest.mark.timeout(400)]
EDGE = [sys.executable, "-c", "from edgesdk.cli.main import main; main()"]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the page's commands, without comments, continued lines joined, in order."""
    blocks = "\n".join(FENCE.findall(page)).replace("\\\n", " ")
    lines = (line.split("  #")[0].strip() for line in blocks.splitlines())
    return [line for line in lines if line.startswith(("edge ", "edge-agent ", "mkdir ", "cp "))]


def behave(wanted: DesiredModel) -> str:
    """Commit everything but the bad release."""
    return "rolled_back" if wanted.release == "1.1.0" else "committed"


def make_release(folder: Path, release: str) -> None:
    """Make a release folder as `edge convert` does, of a model that nobody will run."""
    folder.mkdir()
    artifact = b"\x1c\0\0\0TFL3"
    tensor = {"tensor": "x", "artifact_name": "x", "index": 0, "dtype": "float32", "shape": (1, 4)}
    bindings = Bindings(inputs=(Binding(**tensor),), outputs=(Binding(**tensor | {"tensor": "y"}),))
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 4))
    manifest = Manifest(
        schema=BUNDLE_SCHEMA,
        model="digits",
        release=release,
        variant="linux-x86_64-cpu.tflite",
        target="linux-x86_64-cpu",
        contract=Contract(
            version="1.0", task="regression", inputs=(spec,), outputs=(msgspec.structs.replace(spec, name="y"),)
        ),
        requirements=Requirements(
            runtimes=(RuntimeRequirement(name="tflite", min_version="2.14"),), architectures=("x86_64",)
        ),
        stages=(Stage(name="main", artifact="model.tflite", runtime="tflite", bindings=bindings),),
        files=(file_entry("model.tflite", artifact, "application/octet-stream", "artifact"),),
        golden=GoldenSet(),
    )
    bundle = write_bundle(folder / "digits.edge", manifest, {"model.tflite": artifact})
    write_release(folder, [bundle.path], built_at="2024-01-01T00:00:00Z")


class Operator:
    """Types commands into a shell of a folder; `hub start` goes on in the background until the next one."""

    def __init__(self, folder, simulate):
        self.folder = folder
        self.hub = None
        self.simulate = simulate
        self.token = ""
        self.rollout = ""
        self.device = ""
        self.environment = {**os.environ, "EDGE_KEY_PASSPHRASE": "correct horse", "EDGE_HUB_DIR": "hub"}

    def type(self, line: str) -> None:
        """Do what one line of the page says; the only changes are what a reader fills in."""
        line = line.replace("r-…", self.rollout).replace("hub.example.org", "localhost").replace("DEVICE", self.device)
        if line.startswith("edge hub start"):
            self.start(line)
        elif line.startswith("edge-agent enroll"):
            self.device = self.simulate(HubFolder(self.folder / "hub"), parse_token(self.token), behave).id
        elif line.startswith("edge telemetry watch"):
            self.read(line)
        else:
            done = self.shell(line)
            expected = HALTED if "1.1.0" in line else 0
            assert done.returncode == expected, f"{line}\n{done.stdout}\n{done.stderr}"
            if line.startswith("edge fleet token"):
                self.token = done.stdout
            if found := re.search(r"r-[0-9a-f]{10}", done.stdout):
                self.rollout = found[0]

    def shell(self, line):
        """Run a line to its end; `edge` is the one under test."""
        line = re.sub(r"^edge ", f"{shlex.join(EDGE)} ", line)
        return subprocess.run(
            line,
            shell=True,
            check=False,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, line):
        """Stop the hub and start it as the line says, on free ports."""
        self.stop()
        arguments = shlex.split(line)[1:]
        for option in ("--port", "--broker-port"):
            if option in arguments:
                arguments[arguments.index(option) + 1] = "0"
        self.hub = subprocess.Popen(
            [*EDGE, *arguments], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        first = self.hub.stdout.readline()
        assert "is ready" in first, first

    def read(self, line):
        """Start the reader; whatever else it says, the broker must let it in."""
        broker = HubFolder(self.folder / "hub").running().broker
        line = re.sub(r"mqtts://\S+", broker, line)
        assert broker.startswith("mqtts://")
        arguments = [*EDGE, *shlex.split(line)[1:]]
        reader = subprocess.Popen(arguments, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(3)  # a reader that is refused ends or says so; one that is let in waits
        reader.terminate()
        assert reader.communicate()[0] == b""

    def stop(self):
        if self.hub is not None:
            self.hub.terminate()
            self.hub.communicate(timeout=60)


def test_every_command_of_the_page_works(tmp_path, repository_root, simulated):
    """From `edge repo init` over a bad release to a subscriber over TLS, in the page's order."""
    for folder, release in (("my-release", "1.0.0"), ("my-next-release", "1.1.0")):
        make_release(tmp_path / folder, release)
    found = commands((repository_root / "docs" / "operators.md").read_text())
    assert len(found) >= 18
    operator = Operator(tmp_path, simulated)
    try:
        for line in found:
            operator.type(line)
    finally:
        operator.stop()
