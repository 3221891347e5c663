"""Tasks other than classification, metrics of one's own, early stopping and the latency gate, on a small real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgesdk_converters import convert
from edgesdk_converters.pipeline import SilentPlan
from edgesdk_converters.running.isolation import Progress
from edgesdk_converters.running.steps import Step
from onnx import TensorProto, helper, numpy_helper

from edgesdk.bundle.archive import open_bundle
from edgesdk.errors import ConfigError, ReleaseError

CONTRACT = """
version = "1.0"
task = "{task}"
[[inputs]]
name = "x"
shape = [1, 8]
[[outputs]]
name = "y"
shape = [1, 1]
"""
COUNT = 900


def network(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write a small regression network; return its weights."""
    random = np.random.default_rng(3)
    first = random.normal(0, 0.4, (8, 16)).astype(np.float32)
    second = random.normal(0, 0.4, (16, 1)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 8]), ("y", [1, 1]))]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return first, second


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The words of a conversion of a regression, with labels that the float model nearly gives."""
    folder = tmp_path_factory.mktemp("regression")
    first, second = network(folder / "model.onnx")
    random = np.random.default_rng(4)
    for name, count in (("calibration", 200), ("evaluation", COUNT)):
        x = random.normal(0, 1, (count, 8)).astype(np.float32)
        y = np.maximum(x @ first, 0) @ second + random.normal(0, 0.1, (count, 1))
        np.savez(folder / f"{name}.npz", x=x, y=y[:, 0])
        np.savez(folder / f"{name}-unlabelled.npz", x=x)
    (folder / "contract.toml").write_text(CONTRACT.format(task="regression"))
    return {
        "folder": folder,
        "name": "regressor",
        "release": "1.0.0",
        "targets": ("linux-x86_64-cpu",),
        "contract": folder / "contract.toml",
        "calibration": folder / "calibration.npz",
        "evaluation": folder / "evaluation.npz",
        "cache_dir": folder / "cache",
        "max_drop": 0.05,
        "doctor": False,
        "reason": "made-up data",
        "built_at": "2026-01-02T03:04:05Z",
    }


def converted(regression: dict[str, Any], out: Path, **changes: Any):
    words = {key: value for key, value in regression.items() if key != "folder"}
    return convert(regression["folder"] / "model.onnx", **{**words, **changes}, out=out)


def test_a_regression_is_judged_by_its_error_on_the_labels(regression, tmp_path):
    """RMSE gates, in standard deviations of the labels; the figures stand in the bundle and on the page."""
    made = converted(regression, tmp_path / "release")
    [entry] = made.index.variants
    evaluation = entry.evaluation
    assert (evaluation.metric, evaluation.samples) == ("rmse", COUNT)
    assert evaluation.value == pytest.approx(0.1, abs=0.03)
    assert evaluation.interval[0] <= evaluation.difference <= evaluation.interval[1]
    [verdict] = evaluation.details["gate"]["verdicts"].values()
    assert (verdict["outcome"], verdict["method"]) == ("pass", "bootstrap")
    assert verdict["loss"] * verdict["unit"] == pytest.approx(evaluation.difference)
    assert evaluation.details["averages"]["mae"]["source"] == pytest.approx(0.08, abs=0.02)
    page = (made.folder / "report.html").read_text()
    assert "standard deviations of the labels (rmse)" in page


def test_an_absurd_limit_refuses_a_regression_with_its_figures(regression, tmp_path):
    """A limit of nothing cannot be shown: the refusal says what it would take, or that nothing would."""
    with pytest.raises(
        (ReleaseError, ConfigError), match=r"rmse changes by .* on 900 samples; allowed is a loss of 0\.0000"
    ):
        converted(regression, tmp_path / "release", max_drop=0.0)


def test_without_labels_numbers_agree_with_float(regression, tmp_path):
    """Unlabelled regression data gives agreement: the share of the float source's variance that is reproduced."""
    with np.load(regression["folder"] / "evaluation-unlabelled.npz") as arrays:
        np.save(evaluation := tmp_path / "unlabelled.npy", arrays["x"])
    made = converted(regression, tmp_path / "release", evaluation=evaluation)
    [entry] = made.index.variants
    assert made.report["data"]["evaluation"]["file"] == "unlabelled.npy"  # what was given, not what was made of it
    assert (entry.evaluation.metric, entry.evaluation.source_value) == ("agreement", 1.0)
    assert 0.98 < entry.evaluation.value < 1


def test_a_metric_of_one_s_own_gates_and_its_source_is_part_of_the_result(regression, tmp_path, monkeypatch):
    """`module:function` runs in the child; when its file changes, what it judged is judged again."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "own_metric.py"
    module.write_text("def near(outputs, labels):\n    return abs(outputs['y'][:, 0] - labels[:, 0]) < 0.3\n")
    words = {"metric": "own_metric:near", "max_drop": 0.05}
    made = converted(regression, tmp_path / "first", **words)
    evaluation = made.index.variants[0].evaluation
    assert (evaluation.metric, evaluation.value > 0.9) == ("own_metric:near", True)
    assert evaluation.details["gate"]["verdicts"]["onnxruntime"]["method"] == "exact"
    module.write_text("def near(outputs, labels):\n    return abs(outputs['y'][:, 0] - labels[:, 0]) < 0.01\n")
    again = converted(regression, tmp_path / "second", **{**words, "max_drop": 0.3})
    assert again.index.variants[0].evaluation.value < 0.5


def test_a_metric_of_one_s_own_says_what_it_is_and_where_it_fails(regression, tmp_path, monkeypatch):
    """An error's kind stands in the evaluation; an exception in the child names the user's line; no labels, no gate."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_errors.py").write_text(
        "def mse(outputs, labels):\n    return (outputs['y'][:, 0] - labels[:, 0]) ** 2\n"
        "mse.greater_is_better = False\n"
        "def bad(outputs, labels):\n    return unknown\n"
    )
    made = converted(regression, tmp_path / "first", metric="own_errors:mse")
    details = made.index.variants[0].evaluation.details
    assert details["metric"] == {"greater_is_better": False, "share": False}
    with pytest.raises(ConfigError, match=r"own_errors:bad failed at own_errors\.py:5: NameError"):
        converted(regression, tmp_path / "second", metric="own_errors:bad")
    unlabelled = regression["folder"] / "evaluation-unlabelled.npz"
    with pytest.raises(ConfigError, match="no array `y`"):
        converted(regression, tmp_path / "third", metric="own_errors:mse", evaluation=unlabelled)


def test_a_metric_of_one_s_own_is_tried_before_anything_is_quantized(regression, tmp_path, monkeypatch):
    """What it cannot do is said of the float source's answers, with its own cure: nothing more has been made."""
    (tmp_path / "own_shapes.py").write_text("def wide(outputs, labels):\n    return outputs['y'][:, :, None]\n")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    class Listener(SilentPlan):
        def begin(self, step: Step) -> Progress:
            told.append(step.name)
            return super().begin(step)

    with pytest.raises(ConfigError, match=r"gives no figure: expected a number or 900 numbers") as caught:
        converted(regression, tmp_path / "release", metric="own_shapes:wide", observer=Listener())
    assert (caught.value.code, caught.value.hint) == ("argument-invalid", "Correct your metric function.")
    assert told[-1].startswith("try the metric on onnx float")
    assert not [name for name in told if name.startswith(("quantize", "judge"))]


def test_a_metric_that_does_not_fit_the_labels_is_refused_before_any_work(regression, tmp_path):
    """F1 of numbers is the caller's error."""
    with pytest.raises(ConfigError, match="needs a class per sample"):
        converted(regression, tmp_path / "release", metric="f1", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_evaluation_in_instalments_ends_when_it_is_decided(regression, tmp_path):
    """A clear case is decided by the first samples; the same ones are taken every time, and the bytes are the same."""
    words = {"stop_early": True, "max_drop": 0.3, "metric": "agreement"}
    first = converted(regression, tmp_path / "first", **words)
    evaluation = first.index.variants[0].evaluation
    assert evaluation.samples < COUNT / 2
    assert evaluation.details["gate"]["verdicts"]["onnxruntime"]["look"][0] == 1
    with open_bundle(next(first.folder.glob("*.edge"))) as bundle:
        assert bundle.manifest.golden.parity.count == 32
    again = converted(regression, tmp_path / "second", **words, cache_dir=tmp_path / "cache")
    assert [entry.sha256 for entry in again.index.variants] == [entry.sha256 for entry in first.index.variants]


def test_an_artifact_that_is_not_as_fast_as_asked_is_refused(regression, tmp_path):
    """A hundred times as fast as float is refused with both times; of a target elsewhere nothing is said."""
    with pytest.raises(
        ReleaseError, match=r"times as fast as float .* ms against .* ms on .*asked for is 100"
    ) as caught:
        converted(regression, tmp_path / "release", min_speedup=100.0)
    assert caught.value.code == "latency-gate"
    made = converted(regression, tmp_path / "release", min_speedup=100.0, targets=("linux-arm64-cpu",))
    [variant] = json.loads((made.folder / "report.json").read_bytes())["variants"]
    assert variant["latency"]["timed"]
    assert not variant["latency"]["on_target"]


def test_a_calibration_that_does_not_hold_the_values_names_where_the_error_starts(regression, tmp_path):
    """Ranges of a hundredth of what comes: the refusal says at which tensor the artifact leaves the float model."""
    folder = regression["folder"]
    with np.load(folder / "calibration.npz") as arrays:
        np.savez(tmp_path / "quiet.npz", x=arrays["x"] * np.float32(0.01))
    with pytest.raises(
        ReleaseError, match=r"the error starts at x \(input\): the signal-to-noise ratio falls"
    ) as caught:
        converted(regression, tmp_path / "release", calibration=tmp_path / "quiet.npz")
    assert caught.value.code == "accuracy-gate"


REPEAT = """
import json, subprocess, sys
from edgesdk_converters import convert
popen = subprocess.Popen.__init__
def only_git(self, args, *rest, **words):
    assert args[0] == "git", args
    popen(self, args, *rest, **words)
subprocess.Popen.__init__ = only_git
words = json.loads(sys.argv[1])
made = convert(words.pop("model"), **words)
heavy = {"tensorflow", "keras", "torch", "onnxruntime", "ai_edge_litert", "tflite_runtime", "litert_quantizer", "scipy"}
ran = [step["name"] for step in made.report["steps"] if not step["cached"]]
print(json.dumps({"ran": ran, "heavy": sorted(heavy & set(sys.modules))}))
"""


def test_a_repeated_conversion_runs_nothing_and_loads_nothing_heavy(regression, tmp_path):
    """The second time no step runs, no process is started and no runtime is imported: that is why it is instant."""
    converted(regression, tmp_path / "first")
    words = {key: value for key, value in regression.items() if key != "folder"}
    words |= {"model": regression["folder"] / "model.onnx", "out": tmp_path / "second"}
    command = [sys.executable, "-c", REPEAT, json.dumps(words, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"ran": [], "heavy": []}
