"""A user's own metric: what it is refused for, what is said when it fails, and what kind of figure it gives."""

import msgspec
import numpy as np
import pytest
from edgesdk_converters.evaluate.catalogue import Case, check_metric, find_metric
from edgesdk_converters.evaluate.gate import judge_case
from edgesdk_converters.evaluate.step import judge, try_metric
from edgesdk_converters.running.isolation import Call

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError

CONTRACT = Contract(
    version="1.0",
    task="classification",
    inputs=(TensorSpec(name="x", shape=(1, 2)),),
    outputs=(TensorSpec(name="out", shape=(1, 3)),),
)
METRICS = """import numpy as np
def top(outputs, labels):
    return outputs["out"].argmax(1) == labels
def wrong(outputs, labels):
    return outputs["out"].argmax(1) != labels
wrong.greater_is_better = False
def squares(outputs, labels):
    return np.square(outputs["out"]).mean(axis=1)
squares.greater_is_better = False
def broken(outputs, labels):
    return undefined_name
"""
UNFIT = """import math
def shapeless(outputs, labels):
    s = outputs["out"]
    return s
def nothing(outputs, labels):
    return math.nan
def some(outputs, labels):
    return [math.nan, *(1.0 for _ in labels[1:])]
"""


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Answers of 60 samples, and a module of metrics in the working directory."""
    (tmp_path / "owned_metrics.py").write_text(METRICS)
    (tmp_path / "unfit_metrics.py").write_text(UNFIT)
    (tmp_path / "spoilt_metrics.py").write_text("x = 1\nboom = y\n")
    monkeypatch.chdir(tmp_path)
    truth = np.arange(60) % 3
    outputs = {"out": 2 * np.eye(3)[truth][:, None]}
    return Case(contract=CONTRACT, outputs=outputs, reference=outputs, truth=truth)


@pytest.mark.parametrize("ask", [check_metric, find_metric])
def test_without_labels_it_is_refused(case, ask):
    """A metric that compares with None would score both models 0 and pass: the message says what to give."""
    with pytest.raises(ConfigError, match="no array `y`") as caught:
        ask("owned_metrics:top", CONTRACT, "none")
    assert caught.value.code == "argument-invalid"
    assert "leave --metric out" in caught.value.hint


def test_its_exception_names_its_line(case):
    """The message has the metric, the user's file and line, and the exception."""
    metric = find_metric("owned_metrics:broken", CONTRACT, "class")
    with pytest.raises(
        ConfigError, match=r"owned_metrics:broken failed at owned_metrics\.py:11: NameError: .*undefined"
    ):
        metric.score(case)


def test_a_module_that_cannot_be_imported_names_its_line(case):
    """What fails while the module is imported is said likewise."""
    with pytest.raises(ConfigError, match=r"failed at spoilt_metrics\.py:2: NameError"):
        find_metric("spoilt_metrics:top", CONTRACT, "class")


@pytest.mark.parametrize(("name", "near"), [("squaers", "squares"), ("zzz", "top or wrong")])
def test_a_missing_function_is_said_with_near_ones(case, name, near):
    """The module is there: it is the function that is not."""
    with pytest.raises(ConfigError, match=f"has no function '{name}'") as caught:
        find_metric(f"owned_metrics:{name}", CONTRACT, "class")
    assert near in caught.value.hint


def test_only_functions_of_its_own_are_offered(case):
    """Neither what the module imports nor what a function calls its variables is a metric."""
    for ask in (check_metric, find_metric):
        with pytest.raises(ConfigError) as caught:
            ask("unfit_metrics:zzz", CONTRACT, "class")
        assert caught.value.hint == "Choose shapeless or nothing or some."


@pytest.mark.parametrize("name", ["shapeless", "nothing", "some"])
def test_what_it_cannot_give_is_its_own_fault(case, tmp_path, name):
    """A wrong shape, NaN for all and NaN for a sample: the cure is not to correct the data."""
    np.savez(tmp_path / "answers.npz", **case.outputs)
    np.savez(tmp_path / "data.npz", x=np.zeros((60, 2), np.float32), y=case.truth)
    params = {"contract": msgspec.to_builtins(CONTRACT), "metric": f"unfit_metrics:{name}", "max_drop": 0.05}
    files = {"source": tmp_path / "answers.npz", "evaluation": tmp_path / "data.npz"}
    ways = {try_metric: files, judge: {**files, "artifact": files["source"]}}
    for action, inputs in ways.items():
        with pytest.raises(ConfigError, match="gives no figure") as caught:
            action(Call(inputs=inputs, params=params, out=tmp_path, progress=lambda *_: None))
        assert (caught.value.code, caught.value.hint) == ("argument-invalid", "Correct your metric function.")


@pytest.mark.parametrize(
    ("name", "greater", "share"), [("top", True, True), ("wrong", False, True), ("squares", False, False)]
)
def test_the_verdict_says_what_kind_of_figure_it_is(case, name, greater, share):
    """A yes or no per sample is a share, whose changes are points; a squared error is none, and less is better."""
    metric = find_metric(f"owned_metrics:{name}", CONTRACT, "class")
    found = judge_case(metric, case, case, max_drop=0.05)
    assert (found.greater, found.share) == (greater, share)
