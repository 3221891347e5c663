"""The document says what the bytes are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgesdk.bundle import golden, layout
from edgesdk.bundle.archive import BundleFile

DOCUMENT = Path(__file__).parents[3] / "docs" / "bundle-format.md"
ROW = re.compile(r"^\| (\d+) \| (\d+) \| `([0-9a-f]+)` \|", re.MULTILINE)


def constants(heading: str) -> list[tuple[int, int, bytes]]:
    section = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return [(int(offset), int(size), bytes.fromhex(value)) for offset, size, value in ROW.findall(section)]


@pytest.mark.parametrize(
    ("heading", "signature", "rows"),
    [("Local header", b"PK\3\4", 6), ("Directory header", b"PK\1\2", 12), ("End record", b"PK\5\6", 3)],
)
def test_the_tables_are_the_bytes(written: BundleFile, heading: str, signature: bytes, rows: int) -> None:
    """Every constant of the tables stands at its offset in every header of a real bundle."""
    table = constants(heading)
    assert len(table) == rows
    data = written.path.read_bytes()
    starts = [match.start() for match in re.finditer(re.escape(signature), data)]
    assert len(starts) == (1 if heading == "End record" else 4)
    for start in starts:
        for offset, size, value in table:
            assert len(value) == size
            assert data[start + offset : start + offset + size] == value


def test_the_limits_are_those_of_the_code() -> None:
    """Each constant of the document exists and has the value that is said."""
    text = DOCUMENT.read_text()
    said = dict(re.findall(r"^\| [^|]+ \| ([^|]+) \| `(MAX_\w+)` \|", text, re.MULTILINE))
    found = {value: getattr(layout, name, None) or getattr(golden, name) for value, name in said.items()}
    assert found == {"4096": 4096, "200": 200, "1 MiB": 1 << 20, "4 GiB − 2": (1 << 32) - 2, "256 MiB": 1 << 28}  # noqa: RUF001 - the document's minus sign
