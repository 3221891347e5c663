"""The two CI jobs of `examples/ci`, run as they stand but for installing and the model they name."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
JOBS = ROOT / "examples" / "ci"
WEARABLE = ROOT / "examples" / "wearable"
PASSPHRASE = "correct horse battery"
WORDS = {"SOURCE": "models/v2.tflite", "TARGETS": "--target linux-x86_64-cpu"}

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs the Debian package rsync")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's model repository, with data."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(WEARABLE / "models", folder / "models")
    shutil.copy(WEARABLE / "contract.toml", folder)
    (folder / "VERSION").write_text("2.0.0\n")
    _run(f"{sys.executable} {WEARABLE / 'dataset.py'} data", folder, {})
    return folder


def _run(script: str, folder: Path, environment: dict[str, str], *, check: bool = True) -> Any:
    """Run shell lines as a runner does: stop at the first that fails; `edge` is this checkout's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "EDGE_KEY_PASSPHRASE"}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**inherited, "PATH": path, **environment},
        check=check,
        capture_output=True,
        text=True,
    )


def _secrets(project: Path) -> dict[str, str]:
    """The keys that publishing needs, packed as the README says; root's stays at home."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in sorted((project / "held").iterdir()):
            if not file.name.startswith("root-"):
                tar.add(file, arcname=file.name)
    return {
        "EDGE_KEYS_TAR": base64.b64encode(packed.getvalue()).decode(),
        "EDGE_KEY_PASSPHRASE": PASSPHRASE,
        "REPOSITORY": str(project / "served"),
    }


def _github(project: Path) -> dict[str, str]:
    """The scripts of each GitHub job by its name, in order, with what the runner would put in."""
    workflow = yaml.safe_load((JOBS / "github-actions.yml").read_text())
    scripts = {}
    for name, job in workflow["jobs"].items():
        lines = []
        for step in job["steps"]:
            if "run" not in step or step["name"] == "install":
                continue
            assert "${{" not in step["run"], "an expression in a script is an injection; use env"
            lines.append(step["run"])
            lines.append('set -a; . "$GITHUB_ENV"; set +a')
        scripts[name] = "\n".join(lines)
    (project / "github.env").write_text("")
    return scripts


def _gitlab(_project: Path) -> dict[str, str]:
    """The scripts of each GitLab job by its name."""
    jobs = yaml.safe_load((JOBS / "gitlab-ci.yml").read_text())
    return {name: "\n".join([*jobs[name]["script"], *jobs[name].get("after_script", [])]) for name in jobs["stages"]}


@pytest.mark.parametrize("jobs", [_github, _gitlab])
def test_the_jobs_convert_and_publish(jobs: Any, project: Path) -> None:
    """What the files say makes a release, shows it, signs it into the repository, and leaves no key behind."""
    shutil.rmtree(project / "release", ignore_errors=True)
    shutil.rmtree(project / "repository", ignore_errors=True)
    shutil.rmtree(project / "served", ignore_errors=True)
    shutil.rmtree(project / "held", ignore_errors=True)
    _run("edge repo init served --keys held", project, {"EDGE_KEY_PASSPHRASE": PASSPHRASE})
    scripts = jobs(project)
    file = {"_github": "github-actions.yml", "_gitlab": "gitlab-ci.yml"}[jobs.__name__]
    written = yaml.safe_load((JOBS / file).read_text())
    words = {
        **{key: re.sub(r"\$\{\{.*?\}\}|\$CI_PROJECT_DIR", str(project), value) for key, value in
           (written.get("env") or written["variables"]).items()},
        **WORDS,
        "GITHUB_ENV": str(project / "github.env"),
    }  # fmt: skip
    _run(scripts["convert"], project, words)
    _run(scripts["publish"], project, {**words, **_secrets(project)})
    assert not (project / "keys").exists()
    newest = max(
        (project / "served" / "metadata").glob("*.targets.json"), key=lambda file: int(file.name.split(".")[0])
    )
    assert "models/wearable/2.0.0/release.json" in json.loads(newest.read_text())["signed"]["targets"]


def test_a_refused_model_fails_the_job(project: Path) -> None:
    """The convert job ends with the gate's exit code, and leaves nothing to publish."""
    shutil.rmtree(project / "release", ignore_errors=True)
    shutil.copy(project / "data" / "replay.npz", project / "data" / "evaluation.npz")  # v4 answers NaN to some of these
    script = _gitlab(project)["convert"].replace("--out release", "--recipe float --out release")
    words = {"MODEL": "wearable", **WORDS, "SOURCE": "models/v4.onnx"}
    done = _run(script, project, words, check=False)
    assert done.returncode == 4, done.stderr
    assert "[accuracy-gate]" in done.stderr
    assert not (project / "release").exists()
