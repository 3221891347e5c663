"""Parquet: the same rules of columns as CSV, read in memory that does not grow with the file."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import check_overlap, check_values, open_data
from edgesdk_converters.data.tables import label_names
from pyarrow import parquet

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError

X = np.arange(1, 13, dtype=np.float64).reshape(3, 4)


def contract(**changes) -> Contract:
    outputs = (TensorSpec(name="scores", shape=(1, 2)),)
    inputs = (TensorSpec(**{"name": "x", "shape": (1, 4), **changes}),)
    return Contract(version="1.0", task="classification", labels=("cat", "dog"), inputs=inputs, outputs=outputs)


@pytest.fixture
def table(tmp_path):
    """Write columns to a file; return what is read of it."""

    def write(columns, promised=None, **options):
        path = tmp_path / f"rows-{len(list(tmp_path.glob('*.parquet')))}.parquet"
        parquet.write_table(pa.table(columns), path, **options)
        meant = promised or contract()
        return open_data(as_npz(path, meant, tmp_path / "made"), meant, labelled=False)

    return write


def rows_of(data) -> np.ndarray:
    return np.concatenate([batch["x"] for batch in data.batches()])


def columns_of(x) -> dict:
    return {name: x[:, index] for index, name in enumerate("abcd")}


@pytest.mark.parametrize("label", ["y", "Label", "class", "target"])
def test_a_table_gives_what_its_csv_gives(table, tmp_path, label):
    """Bytes of the made .npz are those of the same table as CSV, wherever the label's column stands."""
    named = {"a": X[:, 0], "b": X[:, 1], label: ["dog", "cat", "dog"], "c": X[:, 2], "d": X[:, 3]}
    found = table(named)
    lines = [",".join(named), *(",".join(str(values[row]) for values in named.values()) for row in range(3))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    assert found.path.read_bytes() == as_npz(tmp_path / "rows.csv", contract(), tmp_path / "made").read_bytes()
    assert found.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(list(X)),
        pa.array(list(X), pa.list_(pa.float64(), 4)),
        pa.array(list(X), pa.large_list(pa.float32())),
        pa.array([row.reshape(2, 2).tolist() for row in X]),
    ],
    ids=["list", "fixed", "large", "nested"],
)
def test_a_column_of_lists_is_as_many_values(table, column):
    """Embeddings and series are kept as lists: they are the values of a row, in order."""
    np.testing.assert_array_equal(rows_of(table({"embedding": column})), X)


def test_classes_by_number_by_category_and_by_list(table):
    """A label may be an index, a category of pandas, or several classes."""
    for values in ([1, 0, 1], pa.array(["dog", "cat", "dog"]).dictionary_encode()):
        assert table({**columns_of(X), "y": values}).labels.tolist() == [1, 0, 1]
    several = table({**columns_of(X), "y": [[1, 0], [0], [1]]})
    assert several.truth.tolist() == [[1, 0], [0, -1], [1, -1]]


def test_the_index_of_pandas_is_no_value(table):
    """A filtered frame brings its index along as a column; pandas does not take it for data, nor do we."""
    np.testing.assert_array_equal(rows_of(table({**columns_of(X), "__index_level_0__": [4, 7, 9]})), X)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0]}, "expected 4 values, got 1 columns: a"),
        ({**columns_of(X), "a": ["1", "2", "3"]}, "column 'a' expected numbers, got string"),
        ({**columns_of(X), "a": [1.0, None, 3.0]}, "row 1 has no value in column 'a'"),
        ({**columns_of(X), "y": ["cat", "bird", "dog"]}, "row 1 has label 'bird', expected one of cat, dog"),
        ({**columns_of(X), "y": ["cat", None, "dog"]}, "row 1 has label None, expected one of cat, dog"),
        ({"v": [[1.0, 2, 3, 4], [1.0, 2, 3]]}, "row 1 has 3 values in column 'v', expected 4 as in row 0"),
        ({"v": [[1.0, 2, 3, 4], [1.0, 2, None, 3]]}, "row 1 has no value in column 'v'"),
        ({name: pa.array([], pa.float64()) for name in "abcd"}, "holds no samples"),
    ],
)
def test_a_bad_row_is_named(table, tmp_path, columns, words):
    """The message names row and column and what was expected; nothing is left behind."""
    with pytest.raises(ConfigError, match=words):
        table(columns)
    assert not list((tmp_path / "made").rglob("*.npz"))


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"a,b\n1,2\n"])
def test_what_is_no_parquet_is_refused(tmp_path, content):
    """A damaged file is one error with its name."""
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=r"rows\.parquet is no readable \.parquet file"):
        as_npz(tmp_path / "rows.parquet", contract(), tmp_path / "made")


def test_rows_that_also_judge_are_found(table):
    """What calibrated must not judge, whatever files the two sets are."""
    calibration, judging = table(columns_of(X)), table(columns_of(X[1:]))
    with pytest.raises(ConfigError, match="2 samples of the evaluation set"):
        check_overlap(calibration, check_values(calibration), judging, check_values(judging))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    """One error says what to install; no other kind of data needs it."""
    parquet.write_table(pa.table(columns_of(X)), tmp_path / "rows.parquet")
    np.save(tmp_path / "rows.npy", X)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs pyarrow") as caught:
        as_npz(tmp_path / "rows.parquet", contract(), tmp_path / "made")
    assert caught.value.code == "dependency-missing"
    assert "edgesdk-converters[parquet]" in caught.value.hint
    assert as_npz(tmp_path / "rows.npy", contract(), tmp_path / "made").exists()


def test_memory_is_bounded_by_a_row_group(tmp_path):
    """Four times the row groups, and the peak stays: a table is never in memory as a whole. No pyarrow before it."""
    code = """
        import sys
        from pathlib import Path
        from edgesdk_converters.data.inputs import as_npz
        from edgesdk.contract import Contract, TensorSpec
        assert "pyarrow" not in sys.modules
        spec = TensorSpec(name="x", shape=(1, 64))
        out = (TensorSpec(name="y", shape=(1, 2)),)
        promised = Contract(version="1.0", task="classification", inputs=(spec,), outputs=out)
        made = as_npz(Path(sys.argv[1]), promised, Path(sys.argv[1]).parent / "made")
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(made.stat().st_size, 1024 * int(peak.split()[1]))
    """
    random, found = np.random.default_rng(1), []
    for groups in (4, 24):
        path = tmp_path / f"{groups}.parquet"
        columns = {f"c{index}": random.normal(size=8192 * groups) for index in range(64)}
        parquet.write_table(pa.table(columns), path, row_group_size=8192)
        command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found.append([int(word) / 1e6 for word in said.split()])
    (small, low), (large, high) = found  # MB of the .npz, MB at the peak
    assert large - small > 30
    assert high - low < (large - small) / 2


def test_names_in_the_column_of_labels(tmp_path):
    """Sorted and once each; numbers are no names, and a table without the column has none."""
    for name, labels in (("named", ["dog", "cat ", "dog"]), ("numbered", ["1", "0", "1"])):
        parquet.write_table(pa.table({**columns_of(X), "label": labels}), tmp_path / f"{name}.parquet")
    parquet.write_table(pa.table(columns_of(X)), tmp_path / "bare.parquet")
    found = [label_names(tmp_path / f"{name}.parquet") for name in ("named", "numbered", "bare")]
    assert found == [("cat", "dog"), (), ()]
