"""A user's own metric: what it is refused for, what is said when it fails, and what kind of figure it gives."""

import numpy as np
import pytest
from edgesdk_converters.evaluate.catalogue import Case, check_metric, find_metric
from edgesdk_converters.evaluate.gate import judge_case

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


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Answers of 60 samples, and a module of metrics in the working directory."""
    (tmp_path / "owned_metrics.py").write_text(METRICS)
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


@pytest.mark.parametrize(
    ("name", "greater", "share"), [("top", True, True), ("wrong", False, True), ("squares", False, False)]
)
def test_the_verdict_says_what_kind_of_figure_it_is(case, name, greater, share):
    """A yes or no per sample is a share, whose changes are points; a squared error is none, and less is better."""
    metric = find_metric(f"owned_metrics:{name}", CONTRACT, "class")
    found = judge_case(metric, case, case, max_drop=0.05)
    assert (found.greater, found.share) == (greater, share)
