"""Classification figures, compared with scikit-learn and at their edges."""

import json

import numpy as np
import pytest
from edgesdk_converters.evaluate.metrics import agreement, classification_metrics, decide, shortened

LABELS = ("a", "b", "c")


def _outputs(answers):
    return np.eye(3)[answers]


def test_figures_agree_with_scikit_learn():
    """Accuracy, precision, recall, F1 and the confusion matrix equal scikit-learn's on random answers."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    truth, answers = random.integers(0, 3, 200), random.integers(0, 3, 200)
    ours = classification_metrics(_outputs(answers), truth, LABELS)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(truth, answers)
    assert ours.accuracy == pytest.approx(np.mean(truth == answers))
    assert [c.precision for c in ours.classes] == pytest.approx(list(precision))
    assert [c.recall for c in ours.classes] == pytest.approx(list(recall))
    assert [c.f1 for c in ours.classes] == pytest.approx(list(f1))
    assert [c.support for c in ours.classes] == list(support)
    assert np.array_equal(np.array(ours.confusion), sklearn_metrics.confusion_matrix(truth, answers))


def test_nan_is_wrong_and_counted():
    """An answer with NaN or infinity is no class, counts as wrong and shows up in the figures."""
    outputs = _outputs([0, 1, 2, 0])
    outputs[0, 2] = np.nan
    outputs[3, 0] = np.inf
    figures = classification_metrics(outputs, np.array([0, 1, 2, 0]), LABELS)
    assert list(decide(outputs)) == [-1, 1, 2, -1]
    assert (figures.correct, figures.non_finite, figures.accuracy) == (2, 2, 0.5)


def test_absent_class_is_zero_not_nan():
    """A class that is neither asked for nor answered has figures of 0."""
    figures = classification_metrics(_outputs([0, 1]), np.array([0, 1]), LABELS)
    assert (figures.classes[2].precision, figures.classes[2].recall, figures.classes[2].f1) == (0.0, 0.0, 0.0)


def test_agreement_counts_equal_answers_right_or_wrong():
    """Agreement compares answers with each other; two missing answers do not agree."""
    first, second = _outputs([0, 1, 2, 0]), _outputs([0, 2, 2, 0])
    first[3] = second[3] = np.nan
    assert agreement(first, second) == 0.5


@pytest.mark.parametrize(
    ("outputs", "truth"),
    [(np.zeros((2, 4)), [0, 1]), (np.zeros((2, 3)), [0]), (np.zeros((0, 3)), []), (np.zeros((1, 3)), [3])],
)
def test_misfitting_arrays_are_refused(outputs, truth):
    """Wrong shapes, no samples and unknown classes are the caller's error."""
    with pytest.raises(ValueError, match="expected"):
        classification_metrics(outputs, np.array(truth, dtype=np.int64), LABELS)


def test_many_classes_are_shortened_to_what_changed() -> None:
    """A thousand classes fit a manifest: the classes that lost most, and what is taken for what, as the samples say."""
    generator = np.random.default_rng(3)
    labels = [f"class {number}" for number in range(1000)]
    truth = generator.integers(0, 1000, 5000)
    truth[:40] = 7
    right = np.eye(1000, dtype=np.float32)[truth]
    worse = right.copy()
    worse[truth == 7] = np.eye(1000, dtype=np.float32)[9]
    short = shortened(
        source=classification_metrics(right, truth, labels), artifact=classification_metrics(worse, truth, labels)
    )
    lost = int(np.count_nonzero(truth == 7))
    assert short["artifact"]["confused"] == [["class 7", "class 9", lost]]
    assert short["source"]["confused"] == []
    assert short["artifact"]["correct"] == 5000 - lost
    assert short["artifact"]["classes_in_all"] == 1000
    names = [each["label"] for each in short["artifact"]["classes"]]
    assert "class 7" in names
    assert names == [each["label"] for each in short["source"]["classes"]]
    assert len(json.dumps(short)) < 20_000
