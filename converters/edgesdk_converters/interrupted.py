"""Ctrl-C in a long command: it says what is kept, and how to go on. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

INTERRUPTED = 130
"""The exit status that shells give a process that Ctrl-C ended."""


@contextmanager
def resumable(kept: str, *, as_json: bool) -> Iterator[None]:
    """Answer Ctrl-C with one error that says how to go on, and end with 130.

    Args:
        kept: What of the work is not lost.
        as_json: Whether the error is one JSON object.
    """
    try:
        yield
    except KeyboardInterrupt:
        from edgesdk.cli.main import print_error  # noqa: PLC0415 - only here
        from edgesdk.errors import ConfigError  # noqa: PLC0415 - only here

        print_error(ConfigError("interrupted", f"interrupted; {kept}"), as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
