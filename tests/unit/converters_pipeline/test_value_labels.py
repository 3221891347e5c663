"""Labels that are numbers, or several classes per sample: read from .npz, CSV and functions."""

from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import open_data

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError


def contract(task, shape=(1, 1), labels=()):
    return Contract(
        version="1.0",
        task=task,
        labels=labels,
        inputs=(TensorSpec(name="x", shape=(1, 2)),),
        outputs=(TensorSpec(name="out", shape=shape),),
    )


X = np.arange(8, dtype=np.float32).reshape(4, 2)


def test_regressions_have_numbers_as_labels(tmp_path):
    """Float labels are read as they are, and never taken for classes."""
    np.savez(tmp_path / "d.npz", x=X, y=np.array([0.5, 1.5, -2.0, 3.25]))
    data = open_data(tmp_path / "d.npz", contract("regression"), labelled=False)
    assert data.truth[:, 0].tolist() == [0.5, 1.5, -2.0, 3.25]
    assert data.labels is None


def test_several_numbers_per_sample_have_the_shape_of_the_output(tmp_path):
    """`y` of the output's own shape is read; another number of columns, or NaN, is refused by file and row."""
    wide = contract("regression", (1, 3))
    np.savez(tmp_path / "d.npz", x=X, y=np.ones((4, 3)))
    assert open_data(tmp_path / "d.npz", wide, labelled=False).truth.shape == (4, 3)
    np.savez(tmp_path / "two.npz", x=X, y=np.ones((4, 2)))
    with pytest.raises(ConfigError, match="expected 3 numbers per sample"):
        open_data(tmp_path / "two.npz", wide, labelled=False)
    values = np.ones((4, 3))
    values[2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=X, y=values)
    with pytest.raises(ConfigError, match="row 2 of `y` holds NaN"):
        open_data(tmp_path / "nan.npz", wide, labelled=False)


def test_csv_of_a_regression(tmp_path):
    """A column `target` or `y` holds numbers; what is none is refused with its row."""
    (tmp_path / "d.csv").write_text("a,target,b\n0,0.5,1\n2,1.5,3\n")
    regression = contract("regression")
    data = open_data(as_npz(tmp_path / "d.csv", regression, tmp_path / "made"), regression, labelled=False)
    assert data.truth[:, 0].tolist() == [0.5, 1.5]
    (tmp_path / "bad.csv").write_text("a,y,b\n0,0.5,1\n2,much,3\n")
    with pytest.raises(ConfigError, match="line 3 has label 'much', expected a number"):
        as_npz(tmp_path / "bad.csv", contract("regression"), tmp_path / "made")


def test_sequences_of_classes(tmp_path, monkeypatch):
    """A function may give several classes per sample, by name; short rows are filled with -1."""
    (tmp_path / "spelled.py").write_text(
        "def rows():\n    yield [0.0, 1.0], ['a', 'b', 'c']\n    yield [2.0, 3.0], ['b']\n"
    )
    monkeypatch.chdir(tmp_path)
    letters = contract("classification", (1, 3, 3), ("a", "b", "c"))
    data = open_data(as_npz(Path("spelled:rows"), letters, tmp_path / "made"), letters, labelled=False)
    assert data.truth.tolist() == [[0, 1, 2], [1, -1, -1]]
    assert data.labels is None


def test_a_truth_set_of_numbers_is_refused(tmp_path):
    """Devices judge classes; the message says what to leave out."""
    np.savez(tmp_path / "d.npz", x=X, y=np.ones(4))
    with pytest.raises(ConfigError, match="truth sets hold one class per sample") as caught:
        open_data(tmp_path / "d.npz", contract("regression"), labelled=True)
    assert "--truth" in caught.value.hint


def test_one_score_tells_two_classes_apart(tmp_path):
    """A classifier with one output has the classes 0 and 1."""
    np.savez(tmp_path / "d.npz", x=X, y=np.array([0, 1, 1, 0]))
    assert open_data(tmp_path / "d.npz", contract("classification"), labelled=True).labels.tolist() == [0, 1, 1, 0]
