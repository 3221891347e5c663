"""`edge lint`. Imports nothing heavy before it is called, and TensorFlow never."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgesdk.errors import EdgeError
    from edgesdk.targets.profiles import Profile
    from edgesdk_converters.lint.report import LintReport

app = typer.Typer(add_completion=False, help="Say which operators will not run on a target's accelerator, and why.")
UNITS = ("macs", "ops")


@app.command()
def lint(
    model: Annotated[Path, typer.Argument(help="A .tflite or .onnx; or a .keras, .h5, SavedModel or .pt2 (exported).")],
    target: Annotated[
        list[str],
        typer.Option(help="A target of `edge targets list`, or a profile's .toml file; may be repeated."),
    ],
    contract: Annotated[
        Path | None,
        typer.Option(help="TOML file of the contract: open sizes of a .onnx get its; a .keras … is exported by it."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Lint what this recipe of `edge convert` makes (a name, or my.toml); needs --contract."),
    ] = None,
    fail_on_fallback: Annotated[
        float | None, typer.Option(help="Largest share off the accelerator, 0 to 1; more ends with exit 6.")
    ] = None,
    by: Annotated[str, typer.Option(help="Share of what: macs or ops.")] = "macs",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; of several targets an array of them.")
    ] = False,
) -> None:
    """Lint a model for a target, before anything is converted: in about a second, once it is .tflite or .onnx.

    Every operator that will not run on the accelerator is named, with the constraint that it breaks and the rewrite
    that cures it. A float model for an integer-only target is linted as it will be after quantization; with --recipe
    the file of that recipe is made for each target (seconds, once) and linted. Exit 6 if the
    target will take no such file, or too much of it is off the accelerator. Of several each is reported, and one
    that fails is enough.
    """
    from edgesdk.errors import ConfigError, EdgeError  # noqa: PLC0415 - `edge --help` stays quick
    from edgesdk.targets.profiles import load_profile  # noqa: PLC0415

    if by not in UNITS:
        raise ConfigError("argument-invalid", f"--by expected macs or ops, got {by!r}")
    if fail_on_fallback is not None and not 0 <= fail_on_fallback <= 1:
        raise ConfigError(
            "argument-invalid", f"--fail-on-fallback expected a share from 0 to 1, got {fail_on_fallback}"
        )
    if recipe is not None and contract is None:
        message = "--recipe makes a file, which needs the model's contract"
        raise ConfigError(
            "argument-invalid", message, hint="Give --contract; `edge contract draft` writes a first one."
        )
    most = 1.0 if fail_on_fallback is None else fail_on_fallback
    profiles = list({profile.name: profile for profile in map(load_profile, target)}.values())
    reports: list[LintReport] = []
    failed: dict[str, EdgeError] = {}
    for profile in profiles:
        try:
            report = _lint(model, profile, contract, recipe, quiet=as_json)
            reports.append(report)
            if not as_json:
                _show(report, heading=len(profiles) > 1)
            if report.refused or fail_on_fallback is not None:
                report.check(most, "ops" if by == "ops" else "macs")
        except EdgeError as error:
            failed[profile.name] = error
    if as_json and reports:
        objects = [_plain(report) for report in reports]
        typer.echo(json.dumps(objects if len(profiles) > 1 else objects[0], ensure_ascii=False).encode())
    if failed:
        raise _worst(failed, len(profiles))


def _lint(model: Path, profile: Profile, contract: Path | None, recipe: str | None, *, quiet: bool) -> LintReport:
    import msgspec  # noqa: PLC0415 - heavy

    from edgesdk_converters.lint.check import check, notes  # noqa: PLC0415 - heavy
    from edgesdk_converters.lint.source import read_model  # noqa: PLC0415 - heavy

    told = None if quiet else _told
    if recipe is None or contract is None:
        graph = read_model(model, profile, contract=contract, told=told)
        return msgspec.structs.replace(check(graph, profile), notes=notes(graph, profile))
    from edgesdk_converters.lint.by_recipe import read_made  # noqa: PLC0415 - heavy

    made = read_made(model, profile, recipe, contract, told=told)
    return msgspec.structs.replace(check(made, profile), notes=notes(made, profile, made=True))


def _plain(report: LintReport) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - heavy

    return {
        **msgspec.to_builtins(report),
        "share_off": {"ops": report.share("ops"), "macs": report.share("macs")},
    }


def _show(report: LintReport, *, heading: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy

    from edgesdk_converters.lint.render import render  # noqa: PLC0415 - heavy

    console = Console()
    if heading:
        console.print()
        console.rule(report.target, align="left", characters="-")
    render(report, console)


def _worst(failed: dict[str, EdgeError], targets: int) -> EdgeError:
    """Return one error for all targets that failed: the worst one's code and exit status, the words of each."""
    worst = max(failed.values(), key=lambda error: error.exit_code)
    if targets == 1:
        return worst
    named = [(name, error.message) for name, error in failed.items()]
    messages = [message if name in message else f"{name}: {message}" for name, message in named]
    if len(failed) == targets and len({message for _name, message in named}) == 1:  # of the file, whatever the target
        messages = [worst.message]
    return type(worst)(worst.code, "; ".join(messages), hint=worst.hint)


def _told(line: str) -> None:
    """Say something beside the report."""
    typer.echo(line, err=True)
