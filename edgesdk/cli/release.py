"""`edge release show`: look at a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at a release.")


@app.callback()
def _group() -> None:
    """Look at a release."""


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A release folder, or its release.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the variants of a release. Given the folder, every bundle in it is checked, too."""
    import msgspec  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.bundle.release import load_release, read_index  # noqa: PLC0415

    index = load_release(path) if path.is_dir() else read_index(path)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(index)))
        return
    typer.echo(f"{index.model} {index.release}, contract {index.contract_version}, built {index.built_at}")
    if index.notes:
        typer.echo(index.notes)
    for entry in index.variants:
        found = entry.evaluation
        judged = f"{found.metric} {found.value:.4f} on {found.samples}" if found else "not evaluated"
        runtimes = " or ".join(need.package or need.name for need in entry.requirements.runtimes) or "any runtime"
        typer.echo(f"  {entry.variant:<36} {entry.precision:<10} {entry.size:>12,} bytes  {judged}  ({runtimes})")
