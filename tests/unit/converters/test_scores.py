"""Every metric's figures, compared with scikit-learn and at their edges."""

import numpy as np
import pytest
from edgesdk_converters.data.npz import DataSet
from edgesdk_converters.evaluate import scores
from edgesdk_converters.evaluate.catalogue import METRICS, Case, check_metric, default_metric, find_metric, truth_kind

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError

EVERY = np.arange(300)


def _contract(task="classification", shape=(1, 3)):
    return Contract(
        version="1.0",
        task=task,
        inputs=(TensorSpec(name="x", shape=(1, 2)),),
        outputs=(TensorSpec(name="out", shape=shape),),
    )


def _case(outputs, truth, contract=None, reference=None):
    return Case(
        contract=contract or _contract(),
        outputs={"out": outputs},
        reference={"out": outputs if reference is None else reference},
        truth=truth,
    )


@pytest.fixture
def classified():
    """Noisy scores of three classes."""
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 300)
    return np.eye(3)[truth] + random.normal(0, 0.7, (300, 3)), truth


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("figure", ["precision", "recall", "f1"])
def test_averages_agree_with_scikit_learn(classified, figure, average):
    """Precision, recall and F1 over the classes equal scikit-learn's, plain and weighted, also on repeated rows."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    outputs, truth = classified
    name = figure if average == "macro" else f"{figure}-weighted"
    ours = METRICS[name].score(_case(outputs, truth))
    theirs = getattr(sklearn_metrics, f"{figure}_score")
    for rows in (EVERY, np.random.default_rng(1).integers(0, 300, 300)):
        expected = theirs(truth[rows], outputs[rows].argmax(axis=1), average=average, zero_division=0)
        assert ours.value(rows) == pytest.approx(expected)


def test_area_under_curve_agrees_with_scikit_learn(classified):
    """Binary and one-vs-rest AUC equal scikit-learn's, with ties."""
    roc_auc_score = pytest.importorskip("sklearn.metrics").roc_auc_score
    outputs, truth = classified
    rounded = np.round(np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True), 1)
    expected = np.mean([roc_auc_score(truth == index, rounded[:, index]) for index in range(3)])
    assert METRICS["auc"].score(_case(rounded, truth)).value(EVERY) == pytest.approx(expected)
    two, binary = rounded[:, 1:], (truth == 2).astype(np.int64)
    assert scores.area_under_curve(two, binary).value(EVERY) == pytest.approx(roc_auc_score(binary, two[:, 1]))
    assert scores.area_under_curve(two[:, 1:], binary).value(EVERY) == pytest.approx(roc_auc_score(binary, two[:, 1]))


def test_errors_of_numbers():
    """RMSE and MAE are over all elements; a loss counts in standard deviations of the labels."""
    truth = np.array([[0.0, 1.0], [2.0, 3.0]])
    case = _case(truth + np.array([[1.0, -1.0], [3.0, 1.0]]), truth, _contract("regression", (1, 2)))
    rows = np.arange(2)
    assert METRICS["rmse"].score(case).value(rows) == pytest.approx(np.sqrt(12 / 4))
    assert METRICS["mae"].score(case).value(rows) == pytest.approx(6 / 4)
    assert scores.column_spread(truth) == pytest.approx(1.0)


def test_exact_match_needs_every_class_of_a_sample():
    """A sequence counts when all its classes are right; what stands behind its end is not asked."""
    outputs = {"text": np.eye(4)[[[0, 1, 2], [0, 1, 2], [3, 3, 3]]], "mood": np.eye(2)[[0, 1, 1]]}
    truth = np.array([[0, 1, 2, 0], [0, 1, 3, 1], [3, -1, -1, 1]])
    assert scores.exact_matches(outputs, truth).samples.tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="shape"):
        scores.exact_matches(outputs, truth[:, :2])


def test_agreement_of_numbers_is_the_share_of_variance():
    """Equal outputs agree wholly; noise of a tenth of the variance leaves 0.9; the worst output counts."""
    random = np.random.default_rng(2)
    reference = {"a": random.normal(0, 2, (5000, 1)), "b": random.normal(0, 2, (5000, 1))}
    noisy = {"a": reference["a"], "b": reference["b"] + random.normal(0, np.sqrt(0.4), (5000, 1))}
    rows = np.arange(5000)
    assert scores.reproduced(reference, reference).value(rows) == 1.0
    assert scores.reproduced(noisy, reference).value(rows) == pytest.approx(0.9, abs=0.01)


def test_agreement_of_classes_is_that_of_the_first_output():
    """What else a classifier gives, an embedding say, is no class: it does not disagree."""
    reference = {"out": np.eye(3)[[0, 1, 2]], "embedding": np.eye(8)[[0, 1, 2]]}
    outputs = {"out": np.eye(3)[[0, 1, 0]], "embedding": np.eye(8)[[5, 6, 7]]}
    case = Case(contract=_contract(), outputs=outputs, reference=reference, truth=None)
    assert METRICS["agreement"].score(case).samples.tolist() == [1.0, 1.0, 0.0]


def test_nan_never_scores():
    """A NaN answer is no right answer and no agreement."""
    outputs = np.eye(3)[[0, 1]]
    outputs[0, 1] = np.nan
    assert scores.right_answers(outputs, np.array([0, 1])).samples.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("task", "truth", "metric"),
    [
        ("classification", np.array([0, 1]), "accuracy"),
        ("classification", np.array([[0, 1], [1, 1]]), "exact-match"),
        ("classification", None, "agreement"),
        ("regression", np.array([[0.5], [1.5]]), "rmse"),
        ("regression", None, "agreement"),
        ("embedding", np.array([1.0, 2.0]), "agreement"),
        ("other", None, "agreement"),
    ],
)
def test_the_task_and_the_labels_choose_the_metric(task, truth, metric):
    """Without labels nothing is called accuracy; other tasks are held against the float source."""
    contract = _contract(task)
    data = DataSet(path=None, contract=contract, count=2, members={}, truth=truth)
    assert default_metric(contract, truth_kind(data)) == metric
    assert find_metric(metric, contract, truth_kind(data)).name == metric


@pytest.mark.parametrize(
    ("name", "kind"),
    [("accuracy", "none"), ("rmse", "class"), ("f1", "values"), ("top-3", "class"), ("no:way", "class")],
)
def test_a_metric_that_these_labels_do_not_allow_is_refused(name, kind):
    """The message says what the metric needs, or what there is."""
    with pytest.raises(ConfigError):
        find_metric(name, _contract(), kind)


def test_a_module_of_one_s_own_is_looked_for_but_not_imported(tmp_path, monkeypatch):
    """The plan finds out that it is there; what it imports and does is the child's business."""
    text = "raise SystemExit('imported')\ndef f1(outputs, labels): ...\n"
    (tmp_path / "explosive_metrics.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert check_metric("explosive_metrics:f1", _contract(), "class") == "explosive_metrics:f1"
    for missing in ("nowhere_metrics:f1", "no.where:f1"):
        with pytest.raises(ConfigError, match="no such module"):
            check_metric(missing, _contract(), "class")


def test_a_metric_of_one_s_own(tmp_path, monkeypatch):
    """A `module:function` gives a number or one per sample; anything else is refused."""
    (tmp_path / "mine_metrics.py").write_text(
        "def per_sample(outputs, labels):\n    return (outputs['out'].argmax(1) == labels) * 1.0\n"
        "def whole(outputs, labels):\n    return -abs(outputs['out']).mean()\n"
        "def silly(outputs, labels):\n    return 'good'\n"
    )
    monkeypatch.chdir(tmp_path)
    case = _case(np.eye(3)[[0, 1, 1]][:, None], np.array([0, 1, 2]))
    per_sample = find_metric("mine_metrics:per_sample", _contract(), "class").score(case)
    assert per_sample.samples.tolist() == [1.0, 1.0, 0.0]
    whole = find_metric("mine_metrics:whole", _contract(), "class").score(case)
    assert (whole.samples, whole.value(np.arange(3))) == (None, pytest.approx(-1 / 3))
    with pytest.raises(TypeError, match="expected a number"):
        find_metric("mine_metrics:silly", _contract(), "class").score(case)
