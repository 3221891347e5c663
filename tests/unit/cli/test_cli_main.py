from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from edgesdk.cli import main
from edgesdk.errors import TrustError


def _command(error: BaseException) -> click.Command:
    def act() -> None:
        raise error

    return click.Command(
        "act", callback=act, params=[click.Option(["--json", "as_json"], is_flag=True, expose_value=False)]
    )


def test_an_error_is_two_lines_and_its_familys_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees what is wrong, the code and the cure; no traceback."""
    code = main.run(_command(TrustError("audience", "wrong fleet")), [], name="edge")
    printed = capsys.readouterr().err
    assert code == 5
    assert printed.splitlines()[0] == "error: wrong fleet [audience]"
    assert printed.splitlines()[1].strip().startswith("do:")


def test_an_error_for_scripts_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the error is one object on standard error."""
    main.run(_command(TrustError("audience", "wrong fleet")), ["--json"], name="edge")
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "audience"


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with the shell's convention and no traceback."""
    assert main.run(_command(KeyboardInterrupt()), [], name="edge") == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_bug_of_ours_is_not_hidden() -> None:
    """What is not an `EdgeError` keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        main.run(_command(ZeroDivisionError()), [], name="edge")


@pytest.mark.parametrize("asked", [["--jsn"], ["--json", "--jsn"], ["more"]])
def test_a_misspelt_command_line_is_an_error_like_every_other(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It has a code and a cure, as JSON where that was asked, and exit code 2."""
    assert main.run(_command(ZeroDivisionError()), asked, name="edge") == 2
    printed = capsys.readouterr().err
    if "--json" in asked:
        error = json.loads(printed)["error"]
        assert (error["code"], error["hint"]) == ("argument-invalid", "See `edge --help`.")
    else:
        assert "[argument-invalid]" in printed.splitlines()[0]
        assert printed.splitlines()[1] == "  do:  See `edge --help`."


def test_an_option_given_twice_that_counts_once_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Click keeps the last value silently; flags and what takes a list may be repeated, also below a group."""
    seen: list[object] = []
    options = [
        click.Option(["--contract", "-c"]),
        click.Option(["--json"], is_flag=True),
        click.Option(["--target"], multiple=True),
    ]
    group = click.Group("edge", commands={"act": click.Command("act", callback=lambda **given: seen.append(given))})
    group.commands["act"].params.extend(options)
    main.refuse_repeats(group)
    words = ["act", "--contract", "a", "--json", "--json", "--target", "x", "--target", "y"]
    assert main.run(group, words, name="edge") == 0
    assert seen == [{"contract": "a", "json": True, "target": ("x", "y")}]
    capsys.readouterr()
    assert main.run(group, [*words[:3], "-c", "b"], name="edge") == 2
    assert "--contract is given 2 times" in capsys.readouterr().err
    assert len(seen) == 1


def test_help_imports_nothing_heavy() -> None:
    """`edge --help` lists the commands without importing one of them."""
    script = (
        "import sys, edgesdk.cli.main as m; code = m.run(m.edge, ['--help'], name='edge');"
        "heavy = {'numpy','fastapi','sqlalchemy','tuf','cryptography','onnxruntime','paho'} & set(sys.modules);"
        "assert code == 0 and not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("convert", "demo", "fleet", "hub", "repo"):
        assert name in done.stdout


def test_every_command_has_a_summary() -> None:
    """`edge --help` imports no command, so it knows their summaries by heart; none is missing or of no command."""
    installed = {point.name for point in entry_points(group=main.GROUP)}
    assert installed == set(main.SUMMARIES)


def test_a_path_that_cannot_be_used_is_an_error_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where a folder should be: what is wrong with which path, exit code 2; other system errors are bugs."""
    (tmp_path / "file").touch()

    def act() -> None:
        (tmp_path / "file" / "folder").mkdir(parents=True)

    assert main.run(click.Command("act", callback=act), [], name="edge") == 2
    printed = capsys.readouterr().err
    assert str(tmp_path / "file") in printed
    assert "[folder-unwritable]" in printed
    with pytest.raises(OSError, match="no path"):
        main.run(_command(OSError("no path")), [], name="edge")
    with pytest.raises(TimeoutError):
        main.run(_command(TimeoutError(110, "timed out", "socket")), [], name="edge")


def test_the_help_of_a_command_explains_its_arguments() -> None:
    """Click 8.5 dropped what Typer writes about them, and nothing failed but the page."""
    start = "from edgesdk.cli.main import main; main()"
    asked = [sys.executable, "-c", start, "targets", "show", "--help"]
    page = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert "A target of `edge targets list`" in " ".join(page.split())
