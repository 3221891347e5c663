"""Data files: what is read, what is refused and where the message points."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from edgesdk_converters.data.npz import check_overlap, check_values, feeds, open_data
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError

CONTRACT = Contract(
    version="1.0",
    task="classification",
    labels=("a", "b", "c"),
    inputs=(TensorSpec(name="signal", shape=(1, 4, 2), range=(-10.0, 10.0)),),
    outputs=(TensorSpec(name="scores", shape=(1, 3)),),
)


def samples(count: int = 9) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, 4, 2)).astype(np.float32)


def write(folder: Path, name: str = "data.npz", **arrays: np.ndarray) -> Path:
    path = folder / name
    np.savez(path, **arrays)
    return path


@given(count=st.integers(1, 40), size=st.integers(1, 50), fortran=st.booleans())
@settings(max_examples=40, deadline=None)
def test_batches_are_the_array(tmp_path_factory, count, size, fortran):
    """Batches of any size, put together, are the array that was stored, in either memory order."""
    x = samples(count)
    path = write(tmp_path_factory.mktemp("data"), x=np.asfortranarray(x) if fortran else x)
    data = open_data(path, CONTRACT, labelled=False)
    parts = [batch["signal"] for batch in data.batches(size)]
    assert max(len(part) for part in parts) <= size
    np.testing.assert_array_equal(np.concatenate(parts), x)


def test_samples_have_the_shape_of_a_call(tmp_path):
    """One sample at a time has exactly the contract's shape, batch dimension included."""
    data = open_data(write(tmp_path, x=samples()), CONTRACT, labelled=False)
    assert {sample["signal"].shape for sample in data.samples()} == {(1, 4, 2)}


def test_feeds_are_normalised_as_the_runtime_does(tmp_path):
    """What calibrates a float artifact is (x - mean) / std along the channels, under the artifact's own names."""
    spec = {"name": "signal", "shape": (1, 4, 2), "layout": "NTC", "normalisation": {"mean": (1, 2), "std": (2, 4)}}
    contract = Contract(version="1.0", task="other", inputs=(_spec(spec),), outputs=CONTRACT.outputs)
    x = samples(3)
    data = open_data(write(tmp_path, x=x), contract, labelled=False)
    got = np.concatenate([feed["artifact:0"] for feed in feeds(data, {"artifact:0": "float32"})])
    np.testing.assert_allclose(got, (x - [1, 2]) / [2, 4], rtol=1e-6)


def _spec(fields: dict) -> TensorSpec:
    import msgspec  # noqa: PLC0415 - only this test builds a spec from plain data

    return msgspec.convert(fields, TensorSpec)


def test_take_returns_rows_in_the_order_asked(tmp_path):
    """Chosen rows come back in the order in which they were asked for."""
    x = samples()
    data = open_data(write(tmp_path, x=x), CONTRACT, labelled=False)
    np.testing.assert_array_equal(data.take(np.array([7, 0, 3]))["signal"], x[[7, 0, 3]])


def test_labels_are_matched_by_name(tmp_path):
    """A file that numbers the classes in another order is read by their names."""
    path = write(tmp_path, x=samples(3), y=np.array([0, 1, 2]), labels=np.array(["c", "a", "b"]))
    assert open_data(path, CONTRACT, labelled=True).labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"other": samples()}, "no array 'signal'"),
        ({"x": samples()[:, :3]}, r"expected shape \(N, 4, 2\), got \(9, 3, 2\)"),
        ({"x": samples()[:0]}, "holds no samples"),
        ({"x": np.array(["a"] * 8).reshape(1, 4, 2)}, "expected numbers"),
        ({"x": samples(), "y": np.zeros(3, int)}, "expected labels `y`, 9 integers"),
        ({"x": samples(), "y": np.full(9, 3)}, "row 0 has label 3, expected 0..2"),
        (
            {"x": samples(1), "y": np.zeros(1, int), "labels": np.array(["z"])},
            "`labels` holds 'z', expected one of a, b, c",
        ),
        ({"x": samples(2), "y": np.array(["a", "z"])}, "row 1 has label 'z', expected one of a, b, c"),
        ({"x": samples(2), "y": np.array(["a", None])}, r"names as objects: .astype\(str\)"),
    ],
)
def test_a_file_that_does_not_fit_the_contract_is_refused(tmp_path, arrays, words):
    """Each misfit is refused by one message that names the file, the array and what was expected."""
    with pytest.raises(ConfigError, match=words) as caught:
        open_data(write(tmp_path, **arrays), CONTRACT, labelled=False)
    assert caught.value.code == "data-invalid"
    assert "data.npz" in caught.value.message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 11.0])
def test_a_bad_value_is_named_by_its_row(tmp_path, value):
    """NaN, infinity (which has crashed converters) and values outside the contract's range are refused by row."""
    x = samples(100)
    x[77, 1, 1] = value
    with pytest.raises(ConfigError, match="row 77 of 'signal'") as caught:
        check_values(open_data(write(tmp_path, x=x), CONTRACT, labelled=False))
    assert caught.value.code == "data-invalid"


@pytest.mark.parametrize(
    ("x", "words"),
    [(np.zeros((5, 4, 2), np.float32), "is 0.0 everywhere"), (np.repeat(samples(1), 5, axis=0), "all 5 samples")],
)
def test_data_without_information_is_refused(tmp_path, x, words):
    """A constant input, or one sample over and over, calibrates and judges nothing."""
    with pytest.raises(ConfigError, match=words):
        check_values(open_data(write(tmp_path, x=x), CONTRACT, labelled=False))


def test_an_input_that_the_contract_declares_constant_may_be_so(tmp_path):
    """A range of one value says that an input (a sampling rate) never changes; without it the hint says how."""
    plain = TensorSpec(name="rate", shape=(), dtype="int64")
    path = write(tmp_path, signal=samples(20), rate=np.full(20, 16_000))
    for range_, fits in ((None, False), ((0, 96_000), False), ((16_000, 16_000), True)):
        rate = msgspec.structs.replace(plain, range=range_)
        contract = msgspec.structs.replace(CONTRACT, inputs=(*CONTRACT.inputs, rate))
        data = open_data(path, contract, labelled=False)
        if fits:
            assert len(check_values(data)) == 20
            continue
        with pytest.raises(ConfigError, match="'rate' is 16000") as caught:
            check_values(data)
        assert "range = [16000, 16000]" in caught.value.hint


def test_overlap_is_found_and_located(tmp_path):
    """Two sets that share samples are refused; the message counts them and points at one pair of rows."""
    x = samples(20)
    first = open_data(write(tmp_path, "calibration.npz", x=x[:10]), CONTRACT, labelled=False)
    second = open_data(write(tmp_path, "evaluation.npz", x=x[8:]), CONTRACT, labelled=False)
    apart = open_data(write(tmp_path, "apart.npz", x=x[10:]), CONTRACT, labelled=False)
    check_overlap(first, check_values(first), apart, check_values(apart))
    words = (
        r"2 samples of the evaluation set .*evaluation\.npz are .* calibration set .*n\.npz \(row 0 is row 8 there\)"
    )
    with pytest.raises(ConfigError, match=words) as caught:
        check_overlap(first, check_values(first), second, check_values(second))
    assert caught.value.code == "data-overlap"
    truth = open_data(write(tmp_path, "truth.npz", x=x[8:], y=np.zeros(12, int)), CONTRACT, labelled=True)
    with pytest.raises(ConfigError, match="2 samples of the truth set"):
        check_overlap(first, check_values(first), truth, check_values(truth))


def test_an_array_of_another_name_is_answered_with_the_names_that_do(tmp_path):
    """A single input may be called `x`, and the hint says so."""
    with pytest.raises(ConfigError, match="has no array 'signal', only samples") as caught:
        open_data(write(tmp_path, samples=samples(3)), CONTRACT, labelled=False)
    assert "`x` will do" in caught.value.hint


def test_labels_beyond_the_contract_are_counted(tmp_path):
    """The message says how far the labels run and how many classes there are."""
    path = write(tmp_path, x=samples(3), y=np.array([0, 1, 7]))
    with pytest.raises(ConfigError, match=r"`y` runs from 0 to 7, and the contract has 3 classes"):
        open_data(path, CONTRACT, labelled=False)


def test_pickles_are_never_read(tmp_path):
    """A file that holds pickled objects is refused without unpickling them."""
    path = write(tmp_path, x=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(ConfigError, match="pickled") as caught:
        open_data(path, CONTRACT, labelled=False)
    assert caught.value.code == "data-invalid"


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_truncated_file_is_refused(tmp_path, keep):
    """A file that was cut short is refused as what it is."""
    path = write(tmp_path, x=samples())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="no readable") as caught:
        open_data(path, CONTRACT, labelled=False)
    assert caught.value.code == "data-invalid"


def test_a_missing_file_is_named():
    """A path that leads nowhere is named."""
    with pytest.raises(ConfigError, match=r"nowhere\.npz") as caught:
        open_data(Path("nowhere.npz"), CONTRACT, labelled=False)
    assert caught.value.code == "file-missing"


def test_a_contract_without_labels_counts_classes_by_its_output(tmp_path):
    """Where no label is named the classes are 0, 1, 2 … as many as the output has."""
    contract = Contract(version="1.0", task="classification", inputs=CONTRACT.inputs, outputs=CONTRACT.outputs)
    data = open_data(write(tmp_path, x=samples(3), y=np.array([2, 0, 1])), contract, labelled=True)
    assert data.labels.tolist() == [2, 0, 1]
    with pytest.raises(ConfigError, match=r"row 0 has label 3, expected 0\.\.2"):
        open_data(write(tmp_path, x=samples(1), y=np.array([3])), contract, labelled=True)


@pytest.mark.parametrize("kind", [np.str_, np.bytes_])
def test_labels_may_be_the_contracts_names(tmp_path, kind):
    """Names are taken for classes, numbers as text too; among several of a sample an empty one stands for none."""
    one = write(tmp_path, x=samples(4), y=np.array(["c", "a", "1", "c"]).astype(kind))
    assert open_data(one, CONTRACT, labelled=True).labels.tolist() == [2, 0, 1, 2]
    many = write(tmp_path, x=samples(2), y=np.array([["b", ""], ["c", "a"]]).astype(kind))
    assert open_data(many, CONTRACT, labelled=False).truth.tolist() == [[1, -1], [2, 0]]


def test_unknown_names_are_answered_with_both_lists_and_what_was_meant(tmp_path):
    """What the data says, what the contract says, and which is near which; without names there, write them."""
    named = msgspec.structs.replace(CONTRACT, labels=("walking", "running", "sitting"))
    path = write(tmp_path, x=samples(3), y=np.array(["Walking", "sitting", "flying"]))
    with pytest.raises(ConfigError, match="expected one of walking, running, sitting; 2 of the data's 3") as caught:
        open_data(path, named, labelled=False)
    assert "Walking, flying" in caught.value.message
    assert caught.value.hint.startswith("Did you mean 'walking' for 'Walking'? ")
    with pytest.raises(ConfigError, match="the data's labels are Walking, flying, sitting") as caught:
        open_data(path, msgspec.structs.replace(CONTRACT, labels=()), labelled=False)
    assert "labels = [...]" in caught.value.hint
