"""The judging step on outputs of any task: it answers, whatever the model gives."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from edgesdk_converters.data.npz import open_data
from edgesdk_converters.evaluate.looks import HOPELESS
from edgesdk_converters.evaluate.measure import answer
from edgesdk_converters.evaluate.step import judge
from edgesdk_converters.running.isolation import Call

from edgesdk.canonical import canonical_json
from edgesdk.contract import Contract, TensorSpec
from edgesdk.runtime import Timings

N = 300


def judged(folder: Path, task: str, outputs: dict, source: dict, *, y=None, **params) -> dict:
    """Run the step on made-up outputs; what it answers must be what a cache can keep."""
    contract = Contract(
        version="1.0",
        task=task,
        inputs=(TensorSpec(name="x", shape=(1, 2)),),
        outputs=tuple(TensorSpec(name=name, shape=(1, *values.shape[1:])) for name, values in source.items()),
    )
    arrays = {"x": np.random.default_rng(1).normal(size=(N, 2)), **({} if y is None else {"y": y})}
    np.savez(folder / "data.npz", **arrays)
    np.savez(folder / "artifact.npz", **outputs)
    np.savez(folder / "source.npz", **source)
    names = {"evaluation": "data", "artifact": "artifact", "source": "source"}
    call = Call(
        inputs={key: folder / f"{name}.npz" for key, name in names.items()},
        params={"contract": msgspec.to_builtins(contract), "max_drop": 0.05, "instalments": False, **params},
        out=folder,
        progress=lambda _done, _total: None,
    )
    return json.loads(canonical_json(judge(call)))


@pytest.fixture
def classified():
    """Scores, classes, and an embedding beside them."""
    random = np.random.default_rng(2)
    truth = random.integers(0, 3, N)
    scores = np.eye(3)[truth] + random.normal(0, 0.3, (N, 3))
    return {"out": scores.astype(np.float32), "embedding": random.normal(size=(N, 16)).astype(np.float32)}, truth


def test_a_classifier_with_an_embedding_beside_it(tmp_path, classified):
    """Accuracy gates, all figures are there, and every output has its parity."""
    outputs, truth = classified
    found = judged(tmp_path, "classification", outputs, outputs, y=truth, metric="accuracy")
    assert found["verdict"]["outcome"] == "pass"
    assert set(found["parity"]) == {"out", "embedding"}
    assert {"accuracy", "f1", "auc"} <= set(found["figures"]["averages"])
    assert found["figures"]["artifact"]["classes"][0]["recall_interval"][0] < 1


@pytest.mark.parametrize("task", ["detection", "embedding", "other"])
def test_labels_of_a_shape_of_their_own_are_for_the_metric_that_knows_them(tmp_path, monkeypatch, task):
    """Boxes or texts are no numbers beside the outputs: a user's metric judges, agreement is there, nothing fails."""
    outputs = {"scores": np.random.default_rng(3).normal(size=(N, 4, 9)).astype(np.float32)}
    read = outputs["scores"].argmax(axis=-1)
    text = np.where(np.arange(N)[:, None] % 10 == 0, -1, read[:, :3])
    (tmp_path / "reading.py").write_text(
        "def right(outputs, labels):\n"
        "    return (outputs['scores'].argmax(axis=-1)[:, : labels.shape[1]] == labels).all(axis=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    found = judged(tmp_path, task, outputs, outputs, y=text, metric="reading:right")
    assert (found["verdict"]["value"], found["verdict"]["outcome"]) == (0.9, "pass")
    assert judged(tmp_path, task, outputs, outputs, y=text, metric="agreement")["verdict"]["value"] == 1


@pytest.mark.parametrize("task", ["classification", "regression", "other"])
def test_nan_everywhere_is_a_refusal_and_no_crash(tmp_path, classified, task):
    """An artifact that answers nothing finite is refused by its samples, for every task and with labels or without."""
    outputs, truth = classified
    broken = {name: np.full_like(values, np.nan) for name, values in outputs.items()}
    y = {"classification": truth, "regression": outputs["out"], "other": None}[task]
    metric = {"classification": "accuracy", "regression": "rmse", "other": "agreement"}[task]
    found = judged(tmp_path, task, broken, outputs, y=y, metric=metric)
    assert (found["verdict"]["outcome"], found["verdict"]["non_finite"]) == ("refuse", N)
    assert f"NaN or infinity on {N} of {N} samples" in found["verdict"]["reason"]


def test_a_runtime_that_loaded_nothing_has_no_verdict(tmp_path, classified):
    """Its measuring step wrote no outputs; that is told elsewhere."""
    outputs, truth = classified
    assert judged(tmp_path, "classification", {}, outputs, y=truth, metric="accuracy")["verdict"] is None


def test_errors_of_numbers_are_judged_by_t(tmp_path):
    """MAE is a mean of numbers: a paired t, and the larger error stands in the figures."""
    random = np.random.default_rng(3)
    truth = random.normal(size=(N, 1))
    source = {"out": (truth + random.normal(0, 0.3, (N, 1))).astype(np.float32)}
    artifact = {"out": source["out"] + random.normal(0, 0.2, (N, 1)).astype(np.float32)}
    found = judged(tmp_path, "regression", artifact, source, y=truth, metric="mae", max_drop=0.06)
    assert found["verdict"]["method"] == "t"
    assert found["verdict"]["loss"] > 0
    assert found["figures"]["averages"]["rmse"]["artifact"] > found["figures"]["averages"]["rmse"]["source"]


@pytest.mark.parametrize("good", [True, False])
def test_a_repair_ends_what_is_hopeless_early_and_nothing_else(tmp_path, classified, good):
    """A rung that is worse ends at the first look; one that is not is judged on all, as if nobody had looked."""
    source, truth = classified
    judged(tmp_path, "classification", source, source, y=truth, metric="accuracy")
    contract = Contract(
        version="1.0",
        task="classification",
        labels=("a", "b", "c"),
        inputs=(TensorSpec(name="x", shape=(1, 2)),),
        outputs=(TensorSpec(name="out", shape=(1, 3)), TensorSpec(name="embedding", shape=(1, 16))),
    )
    told = msgspec.to_builtins(contract)
    gate = {"contract": told, "metric": "accuracy", "max_drop": 0.3, "instalments": HOPELESS, "alpha": 0.01}
    call = Call(
        inputs={name: tmp_path / f"{name}.npz" for name in ("source", "artifact")},
        params={"gate": gate},
        out=tmp_path / "out",
        progress=lambda _done, _total: None,
    )
    call.out.mkdir()
    data = open_data(tmp_path / "data.npz", contract, labelled=False)
    rows = {float(x[0, 0]): row for row, x in enumerate(sample["x"] for sample in data.samples())}

    def run(sample):
        row = rows[float(sample["x"][0, 0])]
        answers = {name: values[row] for name, values in source.items()}
        return answers if good else {**answers, "out": -answers["out"]}, Timings(0.0, 0.0, 0.0)

    answered = answer(run, {"evaluation": data}, call)
    assert answered["samples"]["evaluation"] == (N if good else N // 2)
    names = {
        "evaluation": tmp_path / "data.npz",
        "artifact": call.out / "evaluation.npz",
        "source": call.inputs["source"],
    }
    verdict = judge(Call(inputs=names, params=gate, out=tmp_path, progress=call.progress))["verdict"]
    assert (verdict["outcome"], verdict["look"]) == (("pass", None) if good else ("refuse", (1, 2)))
