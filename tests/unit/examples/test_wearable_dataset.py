"""The wearable example's data sets: checked source, held-out people, equal bytes."""

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "wearable"


@pytest.fixture(scope="module")
def dataset() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wearable_dataset", EXAMPLE / "dataset.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def windows(dataset, tmp_path_factory):
    if importlib.util.find_spec("seglearn") is None:
        pytest.skip("seglearn is not installed")
    return dataset.load(tmp_path_factory.mktemp("cache")).windows()


def test_reading_does_not_import_seglearn(windows):
    """The wheel is used as a file: seglearn and scikit-learn stay out of the process."""
    assert len(windows.y) == 4874 + 2267
    assert "seglearn" not in sys.modules


def test_a_changed_file_is_refused_before_unpickling(dataset):
    """One flipped byte in the source is a clear error that names both hashes."""
    with pytest.raises(dataset.DatasetError, match=dataset.SOURCE_SHA256):
        dataset.check_hash(b"not the recordings")


def test_no_subject_is_on_both_sides(dataset, windows):
    """Training and held-out windows come from different people, in the documented numbers."""
    training, held_out = dataset.split(windows)
    assert (len(training.y), len(held_out.y)) == (4874, 2267)
    assert set(training.subject) & set(held_out.subject) == set()
    assert set(held_out.subject) == set(dataset.HELD_OUT_SUBJECTS)


def test_truth_is_balanced_and_held_out(dataset, windows):
    """Every held-out subject and exercise has the same number of truth examples, at least 210 in all."""
    truth = dataset.truth_set(dataset.split(windows)[1])
    cells = {(s, y): int(np.sum((truth.subject == s) & (truth.y == y))) for s in (8, 9, 10) for y in range(7)}
    assert set(cells.values()) == {12}
    assert len(np.unique(truth.x.reshape(len(truth.y), -1), axis=0)) == len(truth.y) >= 210


def test_calibration_is_training_only_and_calm(dataset, windows):
    """Calibration shares no recording with the evaluation or the forceful part of the replay."""
    training, held_out = dataset.split(windows)
    calibration = dataset.calibration_set(training)
    forbidden = set(held_out.recording) | set(dataset.REPLAY_FORCEFUL)
    assert set(calibration.recording) & forbidden == set()
    assert set(calibration.y) == set(range(7))


def test_only_the_forceful_recordings_exceed_what_v4_believes(dataset, windows):
    """The wrist turns harder than 11 standard deviations in the three forceful recordings and nowhere else."""
    mean, std = dataset.normalisation(dataset.split(windows)[0])
    peak = np.abs((windows.x[..., 3] - mean[3]) / std[3]).max(1)
    assert set(windows.recording[peak > 11]) == set(dataset.REPLAY_FORCEFUL)
    assert peak[np.isin(windows.subject, dataset.HELD_OUT_SUBJECTS)].max() < 8.1


def test_replay_is_whole_recordings_in_order(dataset, windows):
    """The replay plays each recording once, whole, and has every exercise."""
    replay = dataset.replay_set(windows)
    changes = 1 + np.count_nonzero(np.diff(replay.recording))
    assert changes == len(np.unique(replay.recording)) == 10
    assert set(replay.y) == set(range(7))
    assert len(replay.y) == np.isin(windows.recording, np.unique(replay.recording)).sum()


def test_files_are_equal_byte_for_byte_and_plain(dataset, windows, tmp_path):
    """Two runs write the same bytes (steps are cached by hash), readable without unpickling."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        dataset.write_sets(tmp_path / folder, windows)
    for name in ("train", "calibration", "evaluation", "truth", "replay"):
        first, second = (tmp_path / folder / f"{name}.npz" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
        with np.load(first, allow_pickle=False) as arrays:
            assert arrays["x"].dtype == np.float32
            assert arrays["x"].shape[1:] == (128, 6)
            assert arrays["y"].dtype == np.int64
            assert tuple(arrays["labels"]) == dataset.LABELS


def test_the_contract_declares_the_training_normalisation(dataset, windows):
    """`contract.toml` names the labels, mean and standard deviation that the models were trained with."""
    contract = tomllib.loads((EXAMPLE / "contract.toml").read_text())
    mean, std = dataset.normalisation(dataset.split(windows)[0])
    declared = contract["inputs"][0]["normalisation"]
    assert tuple(contract["labels"]) == dataset.LABELS
    assert np.array_equal(np.float32(declared["mean"]), mean)
    assert np.array_equal(np.float32(declared["std"]), std)
