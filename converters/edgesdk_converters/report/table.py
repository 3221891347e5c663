"""Tables of the page, which become a list of cards where the screen is narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

Column = tuple[str, bool]
"""A heading, and whether its cells are numbers."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are HTML already, and know their headings, which a narrow screen puts beside them.

    The first cell of a row is what the row is about. Empty cells are left out of cards.
    """
    head = "".join(f"<th{' class=n' if number else ''}>{escape(name)}</th>" for name, number in columns)
    body = "".join(f"<tr>{''.join(map(_cell, columns, row))}</tr>" for row in rows)
    return f"<div class='scroll'><table class='stack'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(column: Column, content: str) -> str:
    name, number = column
    label = f" data-label='{escape(name)}'" if name and content else ""
    return f"<td{' class=n' if number else ''}{label}>{content}</td>"
