"""`edge targets`: what a person reads in a narrow terminal."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from edgesdk.cli.targets import app
from edgesdk.targets.profiles import profile_names


@pytest.mark.parametrize("words", [("list",), *(("show", name) for name in profile_names())])
def test_no_line_is_wider_than_80_columns(words: tuple[str, ...]) -> None:
    """Whatever a profile says, its table does not break in a terminal of 80 columns, and nothing of it is cut."""
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    assert words[-1] in shown.output or words == ("list",)
