"""`edge targets list|show`: the hardware profiles that releases are built for."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Hardware profiles that releases are built for.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(name="list")
def list_targets(as_json: Json = False) -> None:
    """List the targets and how far each was tested."""
    from edgesdk.targets.profiles import load_profile, profile_names  # noqa: PLC0415 - `edge --help` stays quick

    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        rows = [{"name": each.name, "title": each.title, "status": each.status} for each in profiles]
        typer.echo(json.dumps({"targets": rows}))
        return
    for each in profiles:
        typer.echo(f"{each.name:<20} {each.status:<13} {each.title}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A target of `edge targets list`.")], as_json: Json = False) -> None:
    """Show one target: architectures, runtimes with their oldest versions, precisions."""
    import msgspec  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.targets.profiles import load_profile  # noqa: PLC0415

    profile = load_profile(name)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(profile)))
        return
    typer.echo(f"{profile.name}: {profile.title} ({profile.status})")
    typer.echo(f"  architectures  {', '.join(profile.architectures)}")
    typer.echo(f"  accelerator    {profile.accelerator or 'none, the CPU'}")
    for runtime in profile.runtimes:
        packages = " or ".join(f"{package} >= {version}" for package, version in runtime.packages.items())
        limits = f"; opset <= {runtime.max_opset}, IR <= {runtime.max_ir}" if runtime.max_opset else ""
        typer.echo(f"  runtime        {runtime.name}: {packages}{limits}")
        typer.echo(f"                 precisions, best first: {', '.join(runtime.precisions)}")
    typer.echo(f"  for example    {', '.join(profile.examples)}")
    if profile.notes:
        typer.echo(f"  note           {profile.notes}")
