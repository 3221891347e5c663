"""Golden sets survive their files, and malformed arrays are refused."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgesdk.bundle.golden import load_parity, load_truth, parity_files, read_npy, truth_files, write_npy
from edgesdk.bundle.manifest import GoldenSet, Manifest, Tolerance
from edgesdk.errors import ReleaseError

X = np.arange(12, dtype=np.float32).reshape(3, 1, 4)
Y = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
TOLERANCES = {"y": Tolerance(absolute=0.01)}


def test_parity_survives_its_files(manifest: Manifest) -> None:
    """What the converter stored is what the device reads."""
    parity, files = parity_files({"x": X}, {"y": Y}, TOLERANCES)
    found = load_parity(files.__getitem__, msgspec.structs.replace(manifest, golden=GoldenSet(parity=parity)))
    assert found is not None
    np.testing.assert_array_equal(found.inputs["x"], X)
    np.testing.assert_array_equal(found.outputs["y"], Y)


def test_truth_survives_its_files(manifest: Manifest) -> None:
    """Labels come back by name, with the release's own answers and their mean as its score."""
    truth, files = truth_files({"x": X}, np.array([1, 0, 1]), ["a", "b"], correct=np.array([True, False, True]))
    assert truth.score == pytest.approx(2 / 3)
    found = load_truth(files.__getitem__, msgspec.structs.replace(manifest, golden=GoldenSet(truth=truth)))
    assert found is not None
    assert found.names() == ["b", "a", "b"]
    assert found.correct is not None
    assert found.correct.tolist() == [True, False, True]


def test_a_bundle_without_golden_set(manifest: Manifest) -> None:
    """No golden set is an answer, not an error."""
    assert load_parity({}.__getitem__, manifest) is None
    assert load_truth({}.__getitem__, manifest) is None


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        ({"x": X}, [0, 1], "equally many"),
        ({"x": X[:0]}, [], "equally many"),
        ({"x": X}, [0, 1, 2], r"\[0, 2\], but there are 2 names"),
        ({"x": X}, [-1, 0, 1], r"\[-1, 1\]"),
    ],
)
def test_arrays_that_do_not_belong_together(inputs: dict[str, Any], labels: list[int], words: str) -> None:
    """Counts that differ and labels without a name are refused when the set is made."""
    with pytest.raises(ReleaseError, match=words) as caught:
        truth_files(inputs, np.array(labels), ["a", "b"])
    assert caught.value.code == "golden-invalid"


def test_arrays_of_another_shape_are_refused_when_read(manifest: Manifest) -> None:
    """The golden set must fit the contract of the bundle that holds it."""
    parity, files = parity_files({"x": X[:, :, :3]}, {"y": Y}, TOLERANCES)
    with pytest.raises(ReleaseError, match=r"expected shape \[3, 1, 4\], got \[3, 1, 3\]"):
        load_parity(files.__getitem__, msgspec.structs.replace(manifest, golden=GoldenSet(parity=parity)))


@given(
    hnp.arrays(hnp.scalar_dtypes().filter(lambda d: d.kind in "fiub" and d.itemsize <= 8), hnp.array_shapes(min_dims=0))
)
def test_npy_round_trip(array: Any) -> None:
    """Every array of numbers comes back bit by bit, little-endian."""
    array = array.astype(array.dtype.newbyteorder("<"))
    found = read_npy(write_npy(array), "a.npy")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@given(st.binary(max_size=200), st.integers(0, 140))
def test_npy_reader_raises_nothing_but_release_errors(noise: bytes, start: int) -> None:
    """Noise, and a real file with noise in its header, are refused or read; nothing else happens."""
    sound = write_npy(X)
    for data in (noise, sound[:start] + noise, sound[:start] + noise + sound[start + len(noise) :]):
        try:
            found = read_npy(data, "a.npy")
        except ReleaseError as error:
            assert error.code == "golden-invalid"
        else:
            assert found.nbytes <= len(data)


def test_pickles_and_huge_promises_are_refused() -> None:
    """An object array is never unpickled; a header that promises 2**60 bytes allocates nothing."""
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    huge = write_npy(np.zeros((2, 2))).replace(b"(2, 2), }" + b" " * 20, b"(2147483648, 67108864), }    ")
    assert b"2147483648" in huge
    for data in (out.getvalue(), huge):
        with pytest.raises(ReleaseError) as caught:
            read_npy(data, "a.npy")
        assert caught.value.code == "golden-invalid"


def test_numpy_reads_ours_and_we_read_numpys() -> None:
    """The files are ordinary npy files, in both directions."""
    out = io.BytesIO()
    np.save(out, X)
    np.testing.assert_array_equal(read_npy(out.getvalue(), "a.npy"), X)
    np.testing.assert_array_equal(np.load(io.BytesIO(write_npy(X)), allow_pickle=False), X)
