"""`edge lint`. Imports nothing heavy before it is called, and TensorFlow never."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Say which operators will not run on a target's accelerator, and why.")
UNITS = ("macs", "ops")


@app.command()
def lint(
    model: Annotated[Path, typer.Argument(help="A .tflite or .onnx; or a .keras, .h5, SavedModel or .pt2 (exported).")],
    target: Annotated[str, typer.Option(help="A target of `edge targets list`, or a profile's .toml file.")],
    contract: Annotated[
        Path | None,
        typer.Option(help="TOML file of the contract: what is no .tflite or .onnx is exported by it first."),
    ] = None,
    fail_on_fallback: Annotated[
        float | None, typer.Option(help="Largest share off the accelerator, 0 to 1; more ends with exit 6.")
    ] = None,
    by: Annotated[str, typer.Option(help="Share of what: macs or ops.")] = "macs",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Lint a model for a target, before anything is converted: in about a second, once it is .tflite or .onnx.

    Every operator that will not run on the accelerator is named, with the constraint that it breaks and the rewrite
    that cures it. A float model for an integer-only target is linted as it will be after quantization. Exit 6 if the
    target will take no such file, or too much of it is off the accelerator.
    """
    import msgspec  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.errors import ConfigError  # noqa: PLC0415
    from edgesdk.targets.profiles import load_profile  # noqa: PLC0415
    from edgesdk_converters.lint.check import check, notes  # noqa: PLC0415 - heavy
    from edgesdk_converters.lint.source import read_model  # noqa: PLC0415 - heavy

    if by not in UNITS:
        raise ConfigError("argument-invalid", f"--by expected macs or ops, got {by!r}")
    if fail_on_fallback is not None and not 0 <= fail_on_fallback <= 1:
        raise ConfigError(
            "argument-invalid", f"--fail-on-fallback expected a share from 0 to 1, got {fail_on_fallback}"
        )
    profile = load_profile(target)
    told = None if as_json else _told
    graph = read_model(model, profile, contract=contract, told=told)
    report = msgspec.structs.replace(check(graph, profile), notes=notes(graph, profile))
    if as_json:
        shares = {"ops": report.share("ops"), "macs": report.share("macs")}
        typer.echo(msgspec.json.encode({**msgspec.to_builtins(report), "share_off": shares}))
    else:
        from rich.console import Console  # noqa: PLC0415 - heavy

        from edgesdk_converters.lint.render import render  # noqa: PLC0415 - heavy

        render(report, Console())
    if report.refused or fail_on_fallback is not None:
        report.check(1.0 if fail_on_fallback is None else fail_on_fallback, "ops" if by == "ops" else "macs")


def _told(line: str) -> None:
    """Say something beside the report."""
    typer.echo(line, err=True)
