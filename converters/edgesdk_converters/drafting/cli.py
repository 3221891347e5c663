"""`edge contract draft` and `edge contract check`. Imports nothing heavy before it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Write a first contract of a model, or check one.")
Model = Annotated[Path, typer.Argument(help="The model: whatever `edge convert` takes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def draft(
    model: Model,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Samples: their range, and names of classes (.npz, .npy, .csv, .parquet, pictures by class); may be "
            "repeated, and the range holds all."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classification, regression, detection, embedding or other; guessed otherwise.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; standard output otherwise.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a first contract from what a model's file and data tell; what is guessed is marked CHECK."""
    from edgesdk_converters.drafting.api import draft_contract  # noqa: PLC0415 - heavy

    told = None if as_json else _told
    text, notes = draft_contract(model, data=data or (), task=task, out=out, force=force, told=told)
    marks = text.count("# CHECK")
    if as_json:
        path = None if out is None else str(out)
        typer.echo(json.dumps({"contract": text, "path": path, "to_check": marks, "notes": notes}))
        return
    for note in notes:
        _told(f"note: {note}")
    if out is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"{out}: {marks} lines to check, then `edge contract check {out} {model}`")


@app.command()
def check(
    contract: Annotated[Path, typer.Argument(metavar="CONTRACT.toml", help="The contract.")],
    model: Model,
    as_json: AsJson = False,
) -> None:
    """Say which tensor of a contract is which of a model (exit 2 if they do not fit)."""
    from edgesdk_converters.drafting.api import check_contract  # noqa: PLC0415 - heavy

    found = check_contract(contract, model, None if as_json else _told)
    if as_json:
        typer.echo(json.dumps({"fits": True, **found}))
        return
    for each in found["tensors"]:
        sizes = " x ".join(str(size) for size in each["shape"])
        same = "" if each["contract"] == each["model"] else f", called {each['model']!r} in the model"
        typer.echo(f"{each['kind']:6}  {each['contract']}  {sizes} {each['dtype']}{same}")
    for note in found["notes"]:
        typer.echo(f"note: {note}")


def _told(line: str) -> None:
    """Say something beside the answer, which may go into a file."""
    typer.echo(line, err=True)
