"""`edge targets list|show`: the hardware profiles that releases are built for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgesdk.targets.profiles import Profile, ProfileRuntime

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Hardware profiles that releases are built for.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WIDTH = 80
"""Of lines of text: what the narrowest usual terminal has."""
STATUS = {
    "deployable": "the agent runs it",
    "export-only": "built and judged here, deployed by other means; no agent picks it",
    "not-measured": "written from data sheets",
}


@app.command(name="list")
def list_targets(as_json: Json = False) -> None:
    """List the targets and how far each was tested."""
    import textwrap  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.near import natural  # noqa: PLC0415 - `edge --help` stays quick
    from edgesdk.targets.profiles import load_profile, profile_names  # noqa: PLC0415

    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        typer.echo(json.dumps({"targets": [_row(each) for each in profiles]}))
        return
    wide = max(len(each.name) for each in profiles)
    for status, meaning in STATUS.items():
        chosen = [each for each in profiles if each.status == status]
        if chosen:
            typer.echo(f"{status}: {meaning}")
        for each in sorted(chosen, key=lambda profile: natural(profile.name)):
            tool = f" (by {each.compiler.name})" if each.compiler else ""
            line, after = f"  {each.name:<{wide}}  {each.title}{tool}", " " * (wide + 4)
            typer.echo(textwrap.fill(line, WIDTH, subsequent_indent=after, break_on_hyphens=False))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A target of `edge targets list`, or a profile's .toml file.")],
    as_json: Json = False,
) -> None:
    """Show one target: what runs there, what makes its artifact, what it takes, and what was not measured."""
    import textwrap  # noqa: PLC0415 - `edge --help` stays quick

    import msgspec  # noqa: PLC0415

    from edgesdk.targets.profiles import load_profile  # noqa: PLC0415

    profile = load_profile(name)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(profile)))
        return
    typer.echo(f"{profile.name}: {profile.title}")
    for heading, text in _facts(profile):
        for line in textwrap.wrap(text, WIDTH, initial_indent=f"  {heading:<13}  ", subsequent_indent=" " * 17):
            typer.echo(line)


def _row(profile: Profile) -> dict[str, str | None]:
    tool = profile.compiler.name if profile.compiler else None
    return {"name": profile.name, "title": profile.title, "status": profile.status, "compiler": tool}


def _facts(profile: Profile) -> Iterator[tuple[str, str]]:
    yield "status", f"{profile.status}: {STATUS[profile.status]}"
    yield "architectures", ", ".join(profile.architectures) or "none: it runs no Python"
    yield "accelerator", profile.accelerator or "none, the CPU"
    for runtime in profile.runtimes:
        yield "runtime", _runtime(runtime)
        yield "", f"precisions, best first: {', '.join(runtime.precisions)}"
    if profile.compiler:
        options = ", ".join(f"{key} {value}" for key, value in sorted(profile.compiler.options.items()))
        yield "compiled by", f"{profile.compiler.name}{f' ({options})' if options else ''}"
    yield from _constraints(profile)
    if profile.examples:
        yield "for example", ", ".join(profile.examples)
    if profile.notes:
        yield "note", profile.notes


def _runtime(runtime: ProfileRuntime) -> str:
    packages = " or ".join(
        package if version == "0" else f"{package} >= {version}" for package, version in runtime.packages.items()
    )
    opset = f"{runtime.min_opset} to {runtime.max_opset}" if runtime.min_opset else f"<= {runtime.max_opset}"
    limits = f"; opset {opset}, IR <= {runtime.max_ir}" if runtime.max_opset else ""
    return f"{runtime.name}: {packages}{limits}"


def _constraints(profile: Profile) -> Iterator[tuple[str, str]]:
    takes, memory = profile.constraints, profile.memory
    if takes.activations:
        yield "takes", f"activations {', '.join(takes.activations)}; weights {', '.join(takes.weights)}"
    limits = {
        "static shapes": takes.static_shapes,
        "batch 1": takes.batch_one,
        f"at most {takes.max_rank} dimensions": takes.max_rank,
        f"of at most {takes.max_dimension:,}" if takes.max_dimension else "": takes.max_dimension,
    }
    if any(limits.values()):
        yield "tensors", ", ".join(words for words, holds in limits.items() if holds)
    for sentence in takes.operators:
        yield "operators", sentence
    for what, size in (("SRAM", memory.sram_bytes), ("storage", memory.storage_bytes)):
        if size is not None:
            yield "memory", f"{what}: {size:,} bytes"
