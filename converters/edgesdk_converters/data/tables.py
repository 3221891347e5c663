"""Rows of tables, CSV and Parquet: one row per sample, one column the label, the others the values in their order."""

from __future__ import annotations

import contextlib
import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import TensorSpec
from edgesdk.errors import ConfigError

LABEL_COLUMNS = ("y", "label", "class", "target")
ROWS = 1024
"""Rows of a Parquet file that are held as arrays at a time; the reader itself holds one row group."""
_INDEX = re.compile(r"__index_level_\d+__")
"""Columns in which pandas keeps a table's index."""
NAMED = 8
"""Columns that a message names at most."""
FIT_COLUMNS = (
    "Remove the columns that are no input of the model, an index too (pandas: to_csv(…, index=False)); the label's "
    f"column is called {', '.join(LABEL_COLUMNS[:-1])} or {LABEL_COLUMNS[-1]}. The first line names the columns."
)
Label = int | str | float | list[Any] | NDArray[Any] | None
Row = tuple[Mapping[str, NDArray[Any]], Label]


def read_csv(path: Path, spec: TensorSpec, shape: tuple[int, ...]) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header; a column `y`, `label`, `class` or `target` is the label.

    Args:
        path: The file.
        spec: The input that its values are.
        shape: That of one sample.

    Raises:
        ConfigError: ``data-invalid`` naming the line, or the columns where there are too many or too few, or no names.
    """
    with _lines(path) as reader:
        names = _first_line(path, reader)
        label = _label_column(names)
        values = _value_columns(names)
        if names and len(values) != math.prod(shape):
            raise _unfit(path, math.prod(shape), values)
        for cells in filter(None, reader):
            if len(cells) != len(names):
                message = f"line {reader.line_num}: expected {len(names)} columns as in the first line"
                raise ConfigError("data-invalid", f"{path}: {message}, got {len(cells)}")
            numbers = [cell for index, cell in enumerate(cells) if index != label]
            try:
                sample = np.array(numbers, np.float64).reshape(shape)
            except ValueError:
                raise _no_number(path, reader.line_num, values, numbers) from None
            yield {spec.name: sample}, None if label is None else cells[label].strip()


def place(path: Path, row: int) -> str:
    """Return where a person finds a row: of a CSV its line, which an editor shows; of all else its number from 0."""
    if path.suffix != ".csv" or not path.is_file():
        return f"row {row}"
    with _lines(path) as reader:
        next(reader, [])
        for number, _cells in enumerate(filter(None, reader)):
            if number == row:
                return f"line {reader.line_num}"
    return f"row {row}"


def check_columns(given: Iterable[Path | None]) -> None:
    """Refuse tables whose columns have not the names of the first one's, in its order: a model knows them by place.

    Which of two orders is the model's, nothing here tells. What is no table is passed over, and so are tables of other
    numbers of columns: of those one holds lists, or does not fit and is refused when it is read.

    Raises:
        ConfigError: ``data-invalid`` naming both files and the columns; ``dependency-missing``.
    """
    tables = [path for path in given if path is not None and path.suffix in {".csv", ".parquet"} and path.is_file()]
    columns = {path: _value_columns(_header(path)) for path in dict.fromkeys(tables)}
    for path, names in columns.items():
        first = tables[0]
        if len(names) != len(columns[first]) or names == columns[first]:
            continue
        others = [name for name in names if name not in columns[first]]
        missing = [name for name in columns[first] if name not in names]
        if others or missing:
            what = f"{path} has columns that {first} has not: {_listed(others)}; instead of {_listed(missing)}"
            hint = "Give all sets the same columns; the first line of a .csv names them."
        else:
            pairs = enumerate(zip(names, columns[first], strict=True), 1)
            number, name, other = next((number, *pair) for number, pair in pairs if pair[0] != pair[1])
            what = f"{path} has the columns of {first} in another order: value {number} is {name!r}, there {other!r}"
            hint = "Write both in the order in which the model takes them: that one counts, not the names."
        raise ConfigError("data-invalid", what, hint=hint)


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Any]:
    """Open a CSV; gives its reader.

    Raises:
        ConfigError: ``data-invalid`` for text that is not UTF-8.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            yield csv.reader(file)
        except UnicodeDecodeError as error:
            hint = "Save it as UTF-8: spreadsheets call that CSV UTF-8."
            raise ConfigError("data-invalid", f"{path} is not UTF-8 text: {error.reason}", hint=hint) from None


def _header(path: Path) -> list[str]:
    if path.suffix == ".csv":
        with _lines(path) as reader:
            return _first_line(path, reader)
    with _parquet(path) as table:
        return list(table.schema_arrow.names)


def _first_line(path: Path, lines: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns; a sample that stands where they should would be lost without a word.

    Numbers are no names, but those that count the columns: pandas calls columns so that nobody has named.
    """
    names = next(lines, [])
    counted = [[str(start + index) for index in range(len(names))] for start in (0, 1)]
    if not names or [name.strip() for name in names] in (counted if len(names) > 1 else []):
        return names
    if all(map(_is_number, names)):
        message = f"{path}: line 1 holds numbers where the columns' names are expected: {_listed(names)}"
        raise ConfigError("data-invalid", message, hint="Put a line with a name for each column before the samples.")
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the columns that are values, in their order."""
    label = _label_column(names)
    return [name.strip() for index, name in enumerate(names) if index != label and not _INDEX.fullmatch(name)]


def _unfit(path: Path, expected: int, names: Sequence[str]) -> ConfigError:
    message = f"{path}: expected {expected} values, got {len(names)} columns: {_listed(names)}"
    return ConfigError("data-invalid", message, hint=FIT_COLUMNS)


def _no_number(path: Path, line: int, names: Sequence[str], cells: Sequence[str]) -> ConfigError:
    for name, cell in zip(names, cells, strict=True):
        if not _is_number(cell):
            message = f"{path}: line {line}: column {name!r} holds {cell!r}, expected a number"
            return ConfigError("data-invalid", message)
    return ConfigError("data-invalid", f"{path}: line {line}: expected {len(names)} numbers")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED + 1 else ""
    return ", ".join(names[:NAMED] if more else names) + more


def read_parquet(path: Path, spec: TensorSpec, shape: tuple[int, ...]) -> Iterator[Row]:
    """Yield the rows of a Parquet file, read row group by row group; columns as in `read_csv`.

    A column of lists gives as many values as its lists hold. The index that pandas writes along is no value.

    Args:
        path: The file.
        spec: The input that its values are.
        shape: That of one sample.

    Raises:
        ConfigError: ``data-invalid`` naming row and column, ``dependency-missing`` without pyarrow.
    """
    with _parquet(path) as file:
        first = 0
        for group in range(file.num_row_groups):  # asked for all, the reader lets go of none
            for batch in file.iter_batches(batch_size=ROWS, row_groups=[group]):
                yield from _rows(path, batch, first, spec, shape)
                first += batch.num_rows


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - optional, and heavy
    except ImportError as error:  # also of one that is there, and does not go with this numpy
        message = f"reading {path} needs pyarrow, and it cannot be imported: {error}"
        hint = "Install edgesdk-converters[parquet] (beside numpy 1.26: pyarrow<26), or write the table as .csv."
        raise ConfigError("dependency-missing", message, hint=hint) from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ArrowException) as error:
        raise ConfigError("data-invalid", f"{path} is no readable .parquet file: {error}") from error


def label_names(path: Path) -> tuple[str, ...]:
    """Return the names in a table's column of labels, sorted; none where it has no such column, or of numbers.

    Raises:
        ConfigError: ``data-invalid`` or ``dependency-missing``.
    """
    found: set[str] = set()
    if path.suffix == ".csv":
        with _lines(path) as reader:
            label = _label_column(_first_line(path, reader))
            found = set() if label is None else {cells[label].strip() for cells in reader if len(cells) > label}
    elif path.suffix == ".parquet":
        with _parquet(path) as table:
            label = _label_column(table.schema_arrow.names)
            if label is not None:
                column = table.read([table.schema_arrow.names[label]]).column(0).to_pylist()
                found = {each.strip() for each in column if isinstance(each, str)}
    return () if all(name.isdecimal() for name in found) else tuple(sorted(found))


def _rows(path: Path, batch: Any, first: int, spec: TensorSpec, shape: tuple[int, ...]) -> Iterator[Row]:
    names = list(batch.schema.names)
    label = _label_column(names)
    columns = [
        _numbers(path, name, batch.column(index), first)
        for index, name in enumerate(names)
        if index != label and not _INDEX.fullmatch(name)
    ]
    found = sum(column.shape[1] for column in columns)
    if found != math.prod(shape):
        if found == len(columns):
            raise _unfit(path, math.prod(shape), _value_columns(names))
        message = f"{path}: expected {math.prod(shape)} values, got {found} in {len(columns)} columns"
        raise ConfigError("data-invalid", f"{message}: {_listed(_value_columns(names))}", hint=FIT_COLUMNS)
    samples = np.concatenate(columns, axis=1).reshape(batch.num_rows, *shape)
    labels = [None] * batch.num_rows if label is None else batch.column(label).to_pylist()
    for sample, said in zip(samples, labels, strict=True):
        yield {spec.name: sample}, said.strip() if isinstance(said, str) else said


def _numbers(path: Path, name: str, column: Any, first: int) -> NDArray[Any]:
    """Return the values of one column, (rows, values per row); lists are opened, however deep they are."""
    from pyarrow import compute, types  # noqa: PLC0415 - as above

    rows, values = len(column), _complete(path, name, column, len(column), first)
    while types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type):
        lengths = compute.list_value_length(values).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(lengths != lengths[0])
        if len(odd):
            row = first + _row_of(int(odd[0]), rows, len(lengths))
            message = f"{path}: row {row} has {lengths[odd[0]]} values in column {name!r}, expected {lengths[0]}"
            raise ConfigError("data-invalid", f"{message} as in row {first}")
        values = _complete(path, name, values.flatten(), rows, first)
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if found.dtype.kind not in "fiub":
        raise ConfigError("data-invalid", f"{path}: column {name!r} expected numbers, got {column.type}")
    return found.reshape(rows, -1)


def _complete(path: Path, name: str, values: Any, rows: int, first: int) -> Any:
    if values.null_count:
        missing = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        row = first + _row_of(missing, rows, len(values))
        raise ConfigError("data-invalid", f"{path}: row {row} has no value in column {name!r}")
    return values


def _row_of(index: int, rows: int, values: int) -> int:
    """Return the row of a value among those of all rows, each of which has as many."""
    return index * rows // values


def _label_column(names: Sequence[str]) -> int | None:
    return next((index for index, name in enumerate(names) if name.strip().lower() in LABEL_COLUMNS), None)
