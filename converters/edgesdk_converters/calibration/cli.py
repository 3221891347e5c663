"""`edge data inspect`. Imports nothing heavy before it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look into data before it calibrates or judges.")
UNFIT = 2


@app.callback()
def data() -> None:
    """Look into data before it calibrates or judges."""


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help=".npz, .npy, .csv, .parquet, a folder of pictures, or module:function.")],
    contract: Annotated[
        Path, typer.Option(help="TOML file of the contract; `edge contract draft` writes a first one.")
    ],
    against: Annotated[
        Path | None, typer.Option(help="Evaluation data to compare with: layout, colours and scale show only so.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a data file holds, and whether it is fit to calibrate a model (exit 2 if it is not)."""
    from edgesdk_converters.calibration.inspection import inspect as look  # noqa: PLC0415 - heavy
    from edgesdk_converters.calibration.inspection import lines  # noqa: PLC0415 - heavy
    from edgesdk_converters.request import read_contract  # noqa: PLC0415 - heavy

    report = look(file, read_contract(contract), against)
    for line in [json.dumps(report)] if as_json else lines(report):
        typer.echo(line)
    if not report["fit"]:
        raise typer.Exit(UNFIT)
