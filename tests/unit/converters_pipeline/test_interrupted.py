"""Ctrl-C in a long command says how to go on."""

from __future__ import annotations

import json

import pytest
import typer
from edgesdk_converters.interrupted import resumable

from edgesdk.cli.main import run


@pytest.fixture
def command():
    """A command that is interrupted in its work."""
    app = typer.Typer()

    @app.command()
    def work(*, as_json: bool = typer.Option(False, "--json")) -> None:
        with resumable("finished steps are kept", as_json=as_json):
            raise KeyboardInterrupt

    return typer.main.get_command(app)


def test_it_says_once_that_the_same_command_goes_on(command, capsys):
    """Two lines on standard error and the exit status of shells; nothing else."""
    assert run(command, [], name="edge") == 130
    said = capsys.readouterr()
    assert said.out == ""
    first, second = said.err.splitlines()
    assert first == "error: interrupted; finished steps are kept [interrupted]"
    assert "same command again" in second


def test_scripts_get_the_error_as_json(command, capsys):
    """One object with the code, as of every other error."""
    assert run(command, ["--json"], name="edge") == 130
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "interrupted"
    assert "goes on" in error["hint"]
