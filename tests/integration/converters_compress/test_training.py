"""`prune` and `distill` on small models: figures, resumption after kill -9, determinism, refusals."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from edgesdk_converters import distill, prune
from edgesdk_converters.compress.api import _words
from edgesdk_converters.compress.cli import prune as command
from edgesdk_converters.compress.words import Prune

from edgesdk.errors import ConfigError

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
from edgesdk_converters import prune

def told(done, total, last):
    print(last.get("epoch", 0), flush=True)

prune(**json.loads(sys.argv[1]), told=told)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def taught(models, series, cache, tmp_path_factory):
    """The large classifier, trained: taught by itself with labels alone."""
    return distill(
        models / "large.keras",
        models / "large.keras",
        out=tmp_path_factory.mktemp("taught") / "taught.keras",
        **series,
        teacher_share=0,
        epochs=12,
        learning_rate=0.01,
        cache_dir=cache,
    )


@pytest.fixture(scope="module")
def words(taught, series, cache):
    return {**series, "model": taught.path, "cache_dir": cache, "epochs": 6, "learning_rate": 0.005}


def test_channels_are_pruned_and_accuracy_comes_back(words, tmp_path):
    """Fewer parameters and multiplications, and better than without fine-tuning; the report is beside the model."""
    made = prune(**words, amount=0.5, out=tmp_path / "half.keras")
    before, after = made.report["before"]["figures"], made.report["after"]["figures"]
    assert after["parameters"] < 0.6 * before["parameters"]
    assert after["macs"] < 0.7 * before["macs"]
    evaluation = made.report["evaluation"]
    assert evaluation["data"] == "evaluation"
    assert not evaluation["chosen_on_it"]
    assert evaluation["before"] > 0.8
    assert evaluation["after"] > made.report["without_finetuning"]["after"]
    low, high = evaluation["interval"]
    assert low <= evaluation["difference"] <= high
    written = json.loads(made.report_path.read_text())
    assert written["lineage"]["sources"]["model"]["sha256"] != written["sha256"]
    again = prune(**words, amount=0.5, out=tmp_path / "again.keras")
    assert again.cached
    assert again.path.read_bytes() == made.path.read_bytes()


def test_weights_are_pruned_and_stay_zero(words, tmp_path):
    """The share of zeros in the kernels is what was asked, after the fine-tuning too."""
    made = prune(**words, by="weights", amount=0.7, spread="layer", out=tmp_path / "sparse.keras")
    before, after = made.report["before"]["figures"], made.report["after"]["figures"]
    assert after["parameters"] == before["parameters"]
    assert after["nonzero"] < 0.45 * before["parameters"]
    assert after["compressed_bytes"] < before["compressed_bytes"]


@pytest.mark.timeout(400)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(words, tmp_path):
    """Kill -9 in the ramp and again later: the last run ends with the very bytes of one that was never killed."""
    plain = {**words, "amount": 0.4, "seed": 3, "epochs": 7}
    killed = {**plain, "cache_dir": tmp_path / "cache", "out": tmp_path / "killed.keras"}
    for stop in ("1", "4"):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(killed, default=str)], stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout:
            if int(line) >= int(stop):
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed.keras").exists()
    epochs = []

    def told(_done, total, last):
        if total:  # the training itself, not what comes before it
            epochs.append(last.get("epoch", 0))

    resumed = prune(**killed, told=told)
    assert epochs[0] >= 4
    straight = prune(**plain, out=tmp_path / "straight.keras")
    assert not straight.cached
    assert straight.report["training"] == resumed.report["training"]
    assert straight.path.read_bytes() == resumed.path.read_bytes()


def test_a_student_learns_from_its_teacher_without_labels(models, taught, series, cache, tmp_path):
    """With the teacher's answers alone the small model becomes better than it was."""
    with np.load(series["data"]) as arrays:
        np.savez(tmp_path / "plain.npz", x=arrays["x"])
    made = distill(
        taught.path,
        models / "small.keras",
        out=tmp_path / "student.keras",
        **{**series, "data": tmp_path / "plain.npz"},
        teacher_share=1,
        epochs=12,
        learning_rate=0.02,
        cache_dir=cache,
    )
    assert made.report["evaluation"]["after"] > made.report["without_finetuning"]["after"] + 0.1
    assert set(made.report["lineage"]["sources"]) == {"teacher", "student"}


def test_a_regression_is_pruned_by_its_error(models, cache, tmp_path):
    """Numbers instead of classes: the loss is the square error, and so is the figure."""
    rng = np.random.default_rng(1)
    for name, count in (("data", 256), ("validation", 64)):
        x = rng.normal(size=(count, 4)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=(x @ [1.0, -2.0, 0.5, 0.0]).astype(np.float32))
    made = prune(
        models / "regression.keras",
        out=tmp_path / "smaller.keras",
        data=tmp_path / "data.npz",
        validation=tmp_path / "validation.npz",
        epochs=4,
        teacher_share=0,
        learning_rate=0.02,
        cache_dir=cache,
    )
    assert made.report["evaluation"]["metric"] == "mse"
    assert made.report["evaluation"]["chosen_on_it"]
    assert made.report["evaluation"]["after"] < made.report["evaluation"]["before"]


def test_without_finetuning_the_report_says_what_it_costs(words, tmp_path):
    """No data to learn from is needed; the loss is measured, not hidden."""
    made = prune(**{**words, "data": None}, finetune=False, amount=0.6, out=tmp_path / "bare.keras")
    assert made.report["training"] is None
    assert made.report["evaluation"]["after"] < made.report["evaluation"]["before"]


def test_samples_that_teach_must_not_judge(words, tmp_path):
    """The same rows in the data to learn from and in the evaluation data are refused."""
    with pytest.raises(ConfigError, match="also in the data to learn from") as caught:
        prune(**{**words, "evaluation": words["data"]}, out=tmp_path / "leaky.keras")
    assert caught.value.code == "data-overlap"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"amount": 1.0}, "amount"),
        ({"by": "layers"}, "layers"),
        ({"validation": None}, "validation data"),
        ({"data": "rows.csv"}, "without a contract"),
        ({"sparsity": 0.5}, "no argument 'sparsity'"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(words, tmp_path, change, match):
    """Each contradiction is one clear error."""
    with pytest.raises(ConfigError, match=match):
        prune(**{**words, **change}, out=tmp_path / "never.keras")
    assert not (tmp_path / "never.keras").exists()


def test_defaults_of_the_command_are_those_of_the_words():
    """The command line and Python speak the same words with the same defaults."""
    words = _words(Prune, {"model": "a.keras", "out": "b.keras"})
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.default is not inspect.Parameter.empty and name not in {"as_json", "timeout"}:
            assert parameter.default == getattr(words, name), name
