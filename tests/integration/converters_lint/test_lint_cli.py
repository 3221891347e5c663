"""`edge lint` as a user types it: words, JSON, exit codes, one clear error for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lint_graphs.build import Builder

REFUSED_BY_TARGET = 6
HEAVY = ("tensorflow", "keras", "litert_quantizer", "tf2onnx")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sine between two activations."""
    build = Builder()
    names = [build.input([1, 8])]
    for op in ("RELU", "SIN", "TANH"):
        names.append(build.tensor([1, 8]))
        build.op(op, names[-2:-1], names[-1:])
    path = tmp_path / "model.tflite"
    path.write_bytes(build.bytes(names[-1:]))
    return path


def _edge(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgesdk", "lint", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "200", "PATH": ""})


def test_a_person_reads_what_falls_back_why_and_what_to_do(model: Path):
    """The operator, its limit, the rewrite and the sum are printed; a fallback alone is no failure."""
    ended = _edge(model, "--target", "ethos-u55-128")
    assert ended.returncode == 0, ended.stderr
    assert "SIN" in ended.stdout
    assert "Compute it" in ended.stdout
    assert "1 of 3 operators (33.3%)" in ended.stdout


def test_too_much_beside_the_accelerator_ends_with_six(model: Path):
    """The share is compared as asked, and the error names it."""
    words = ("--target", "ethos-u55-128", "--by", "ops", "--fail-on-fallback")
    assert _edge(model, *words, "0.34").returncode == 0
    ended = _edge(model, *words, "0.33")
    assert ended.returncode == REFUSED_BY_TARGET
    assert "33.3% of the ops" in ended.stderr
    assert "[fallback-share]" in ended.stderr


def test_json_is_one_object(model: Path):
    """What is printed is the report with its shares."""
    report = json.loads(_edge(model, "--target", "ethos-u85-256", "--json").stdout)
    assert (report["ops"], report["ops_off"], report["refused"]) == (3, 1, False)
    assert report["findings"][0]["op"] == "SIN"
    assert report["share_off"]["ops"] == pytest.approx(1 / 3)


def test_each_of_several_targets_is_reported_and_the_worst_counts(model: Path):
    """The first target falls back and the last does not: click alone would keep the last, and end with 0."""
    targets = ("--target", "ethos-u55-128", "--target", "linux-arm64-cpu")
    ended = _edge(model, *targets, "--fail-on-fallback", "0.1", "--by", "ops", "--json")
    assert ended.returncode == REFUSED_BY_TARGET
    assert [report["target"] for report in json.loads(ended.stdout)] == ["ethos-u55-128", "linux-arm64-cpu"]
    assert "for ethos-u55-128 33.3% of the ops" in json.loads(ended.stderr)["error"]["message"]


def test_a_target_without_rules_does_not_keep_back_the_report_of_another(model: Path):
    """One error names the target that failed; the report of the other is printed."""
    ended = _edge(model, "--target", "jetson-orin-gpu", "--target", "ethos-u55-128")
    assert ended.returncode == REFUSED_BY_TARGET
    assert "1 of 3 operators (33.3%)" in ended.stdout
    assert "jetson-orin-gpu" in ended.stderr
    assert "[runtime-missing]" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (("none.tflite", "--target", "ethos-u55-128"), "file-missing", 2),
        ((Path(__file__), "--target", "ethos-u55-128"), "model-format", 2),
        (("MODEL", "--target", "toaster"), "target-unknown", 6),
        (("MODEL", "--target", "jetson-orin-gpu"), "runtime-missing", 6),
        (("MODEL", "--target", "ethos-u55-128", "--by", "bytes"), "argument-invalid", 2),
        (("MODEL", "--target", "ethos-u55-128", "--recipe", "int8"), "argument-invalid", 2),
        (("MODEL", "--target", "ethos-u55-128", "--fail-on-fallback", "7"), "argument-invalid", 2),
        (("MODEL", "--target", "ethos-u55-128", "--by", "ops", "--by", "macs"), "argument-invalid", 2),
    ],
)
def test_what_is_wrong_is_one_clear_error(model: Path, words, code, status):
    """Each mistake has its code and its exit status, and no traceback."""
    ended = _edge(*(model if word == "MODEL" else word for word in words))
    assert ended.returncode == status
    assert f"[{code}]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_keras_model_needs_its_contract(tmp_path: Path):
    """An export has fixed sizes only from the contract; the error says what to give."""
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    ended = _edge(path, "--target", "ethos-u55-128")
    assert "[argument-invalid]" in ended.stderr
    assert "--contract" in ended.stderr
    assert "edge contract draft" in ended.stderr


def test_no_framework_is_imported(model: Path):
    """The lint answers in about a second because nothing heavy is loaded."""
    code = (
        "import sys; from pathlib import Path; from edgesdk.targets.profiles import load_profile;"
        "from edgesdk_converters.lint.read import read_graph; from edgesdk_converters.lint.check import check;"
        f"check(read_graph(Path({str(model)!r})), load_profile('ethos-u55-128'));"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
