"""Data that is no .npz: each kind becomes the same arrays, and bad rows are named."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.calibration.inspection import inspect
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import open_data
from edgesdk_converters.data.tables import check_columns, label_names

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError


def contract(**changes) -> Contract:
    spec = {"name": "x", "shape": (1, 4), **changes}
    return Contract(
        version="1.0",
        task="classification",
        labels=("cat", "dog"),
        inputs=(TensorSpec(**spec),),
        outputs=(TensorSpec(name="scores", shape=(1, 2)),),
    )


def read(path: Path, made: Path, promised: Contract):
    data = open_data(as_npz(path, promised, made), promised, labelled=False)
    return np.concatenate([batch["x"] for batch in data.batches()]), data.labels


def test_npy(tmp_path):
    """An .npy is the rows as they are, without labels."""
    x = np.arange(12, dtype=np.float64).reshape(3, 4)
    np.save(tmp_path / "rows.npy", x)
    found, labels = read(tmp_path / "rows.npy", tmp_path / "made", contract())
    np.testing.assert_array_equal(found, x)
    assert found.dtype == np.float32
    assert labels is None


def test_csv_with_labels_by_name(tmp_path):
    """A column `label` is the label wherever it stands; the others are the values in order."""
    path = tmp_path / "rows.csv"
    path.write_text("a,b,label,c,d\n1,2,dog,3,4\n5,6,cat,7,8.5\n")
    found, labels = read(path, tmp_path / "made", contract())
    np.testing.assert_array_equal(found, [[1, 2, 3, 4], [5, 6, 7, 8.5]])
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c,d\n1,2,3\n", "line 2: expected 4 columns as in the first line, got 3"),
        ("a,b,c,d\n1,2,3,4\n\n1,2,x,4\n", "line 4: column 'c' holds 'x', expected a number"),
        ("id,a,b,c,d\n7,1,2,3,4\n", "expected 4 values, got 5 columns: id, a, b, c, d"),
        ("a,b,c,d,y\n\n1,2,3,4,bird\n", "line 3 has label 'bird', expected one of cat, dog"),
    ],
)
def test_a_bad_row_is_named(tmp_path, text, words):
    """The message names the row and what was expected; nothing is left behind."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        as_npz(path, contract(), tmp_path / "made")
    assert not list((tmp_path / "made").rglob("*.npz"))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_in_another_encoding_is_refused_in_words(tmp_path, encoding):
    """As spreadsheets save it: what to save it as is said, whichever line it shows in."""
    (tmp_path / "rows.csv").write_text("a,b,c,d,label\n1,2,3,4,Käse\n", encoding=encoding)
    for ask in (lambda path: read(path, tmp_path / "made", contract()), label_names):
        with pytest.raises(ConfigError, match=r"rows\.csv is not UTF-8 text") as caught:
            ask(tmp_path / "rows.csv")
        assert "CSV UTF-8" in caught.value.hint


def test_folders_that_are_no_class_are_refused_before_a_picture_is_read(tmp_path):
    """The pictures here are none: who read them first would complain of that. Hidden folders are no classes."""
    for name in ("cat", "Dogs", ".thumbs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_text("no picture")
    with pytest.raises(ConfigError, match="a folder is called 'Dogs', expected one of cat, dog; 1 of the") as caught:
        as_npz(tmp_path / "photos", contract(), tmp_path / "made")
    assert "'dog' for 'Dogs'" in caught.value.hint


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_pictures_by_folder_get_the_contracts_layout_and_colours(tmp_path, layout, colour):
    """The folder is the label; colours and axes are put as the contract says."""
    image = pytest.importorskip("PIL.Image")
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 200
    for label in ("cat", "dog"):
        (tmp_path / "set" / label).mkdir(parents=True)
        image.fromarray(red).save(tmp_path / "set" / label / "1.png")
    shape = (1, 2, 3, 3) if layout == "NHWC" else (1, 3, 2, 3)
    promised = contract(shape=shape, layout=layout, colour=colour, dtype="uint8")
    found, labels = read(tmp_path / "set", tmp_path / "made", promised)
    channels = np.moveaxis(found, 1 if layout == "NCHW" else -1, 0)
    assert [int(channel.max()) for channel in channels] == ([200, 0, 0] if colour == "RGB" else [0, 0, 200])
    assert found.dtype == np.uint8
    assert labels.tolist() == [0, 1]


def test_pictures_are_not_resized(tmp_path):
    """A picture of another size is refused by name: only the app knows how it resizes."""
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(tmp_path / "odd.png")
    with pytest.raises(ConfigError, match=r"odd\.png: expected a picture of shape \(2, 3, 3\), got \(5, 5, 3\)"):
        as_npz(tmp_path, contract(shape=(1, 2, 3, 3), dtype="uint8"), tmp_path / "made")


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    """The extra of the hint is one that the distribution has."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "1.png").touch()
    with pytest.raises(ConfigError, match="reading pictures needs Pillow") as caught:
        as_npz(tmp_path, contract(shape=(1, 2, 3, 3), dtype="uint8"), tmp_path / "made")
    assert "edgesdk-converters[pictures]" in caught.value.hint
    project = Path(__file__).parents[3] / "converters" / "pyproject.toml"
    assert "pictures" in tomllib.loads(project.read_text())["project"]["optional-dependencies"]


def test_a_python_function(tmp_path, monkeypatch):
    """`module:function` yields arrays, with or without the batch dimension, and labels by name or index."""
    (tmp_path / "loader_of_rows.py").write_text(
        "import numpy as np\ndef rows():\n    yield np.full(4, 1.0), 'dog'\n    yield {'x': np.full((1, 4), 2.0)}, 0\n"
    )
    monkeypatch.chdir(tmp_path)
    found, labels = read(Path("loader_of_rows:rows"), tmp_path / "made", contract())
    np.testing.assert_array_equal(found, [[1] * 4, [2] * 4])
    assert labels.tolist() == [1, 0]
    sys.modules.pop("loader_of_rows")


def test_the_same_rows_give_the_same_bytes_and_changed_files_are_read_again(tmp_path):
    """A made file depends on the rows only, and a newer source is not mistaken for the old one."""
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,d\n1,2,3,4\n")
    first = as_npz(path, contract(), tmp_path / "one").read_bytes()
    assert as_npz(path, contract(), tmp_path / "two").read_bytes() == first
    path.write_text("a,b,c,d\n1,2,3,40\n")
    assert as_npz(path, contract(), tmp_path / "one").read_bytes() != first


def test_values_that_the_contracts_dtype_cannot_hold_are_refused(tmp_path):
    """300 is no uint8: it is not wrapped around silently."""
    np.save(tmp_path / "rows.npy", np.array([[1, 2, 3, 300]]))
    with pytest.raises(ConfigError, match="row 0 of 'x' holds values that are no uint8"):
        as_npz(tmp_path / "rows.npy", contract(dtype="uint8"), tmp_path / "made")


@pytest.mark.parametrize(("name", "code"), [("missing.csv", "file-missing"), ("no_such_module:rows", "file-missing")])
def test_what_is_not_there_is_said(tmp_path, name, code):
    """A missing file and a missing function are told as such."""
    with pytest.raises(ConfigError) as caught:
        as_npz(Path(name), contract(), tmp_path)
    assert caught.value.code == code


@pytest.mark.parametrize("classes", [False, True])
def test_a_folder_without_pictures_is_said_with_the_files_that_it_holds(tmp_path, classes):
    """The message names the folder that was given, not a file in the cache; data files in it are named."""
    folder = tmp_path / "given"
    folder.mkdir()
    if classes:
        (folder / "cat").mkdir()
    with pytest.raises(ConfigError, match="given holds no pictures") as caught:
        as_npz(folder, contract(), tmp_path)
    assert ".png" in caught.value.hint
    (folder / "train.npz").touch()
    with pytest.raises(ConfigError, match="given holds no pictures") as caught:
        as_npz(folder, contract(), tmp_path)
    assert "train.npz" in caught.value.hint


def test_a_source_without_rows_is_named(tmp_path):
    """A table of a header alone holds no samples."""
    (tmp_path / "empty.csv").write_text("a,b,c,d\n")
    with pytest.raises(ConfigError, match=r"empty\.csv holds no samples"):
        as_npz(tmp_path / "empty.csv", contract(), tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a,b,y,c,d", "y,a,b,c,d", None),
        ("a,b,c,d", "a, b ,c,d", None),
        (
            "a,b,c,d,y",
            "d,b,c,a,y",
            "second.csv has the columns of .*first.csv in another order: value 1 is 'd'",
        ),
        ("a,b,c,d", "a,b,C,d", "second.csv has columns that .*first.csv has not: C; instead of c"),
    ],
)
def test_columns_of_two_tables_are_compared_by_name(tmp_path, first, second, words):
    """A model knows columns by place: sets in two orders would be two different models' data. The label may move."""
    names = {"first": first, "second": second}
    for name, header in names.items():
        (tmp_path / f"{name}.csv").write_text(header + "\n")
    given = [None, tmp_path / "first.csv", tmp_path / "other.npz", tmp_path / "second.csv"]
    if words is None:
        check_columns(given)
        return
    with pytest.raises(ConfigError, match=words):
        check_columns(given)


def test_inspecting_against_a_table_in_another_order_is_refused(tmp_path):
    """What calibrates has the columns of what judges; both alone are read."""
    for name, header in {"evaluation": "a,b,c,d", "calibration": "b,a,c,d"}.items():
        (tmp_path / f"{name}.csv").write_text(header + "\n1,2,3,4\n")
    with pytest.raises(ConfigError, match=r"calibration\.csv has the columns of .*evaluation\.csv in another order"):
        inspect(tmp_path / "calibration.csv", contract(), tmp_path / "evaluation.csv")


@pytest.mark.parametrize("first", ["0.5,1.5,-2,3e-1", "4,5,6,7", "1.0,2.0,3.0,4.0"])
def test_a_table_without_names_is_refused_and_loses_no_row(tmp_path, first):
    """Its first sample was taken for the names: where it is converted, compared, inspected or asked for labels."""
    path = tmp_path / "rows.csv"
    path.write_text(f"{first}\n5,6,7,8\n")
    for act in (
        lambda: as_npz(path, contract(), tmp_path),
        lambda: check_columns([path]),
        lambda: inspect(path, contract(), None),
        lambda: label_names(path),
    ):
        with pytest.raises(
            ConfigError, match=f"line 1 holds numbers .* expected: {first.replace(',', ', ')}"
        ) as caught:
            act()
        assert caught.value.code == "data-invalid"


@pytest.mark.parametrize("names", ["0,1,2,3", "1,2,3,4", "400,y,410,420,430", "400,410,420,nm430"])
def test_numbers_that_are_names_are_taken(tmp_path, names):
    """Pandas counts columns that nobody named; a column of words says that the line is no sample."""
    path = tmp_path / "rows.csv"
    path.write_text(f"{names}\n" + "5,1,7,8,9\n"[: 2 * len(names.split(",")) - 1] + "\n")
    found, _labels = read(path, tmp_path / "made", contract())
    assert found.shape == (1, 4)
