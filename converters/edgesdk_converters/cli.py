"""`edge convert`. Imports nothing heavy before it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesdk_converters import MAX_DROP
from edgesdk_converters.interrupted import resumable

app = typer.Typer(add_completion=False, help="Convert, check and pack a model for targets.")

Models = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL...", help="A .keras, .h5, SavedModel folder or .pt2; or float .tflite and/or .onnx."),
]

RECIPES_HELP = (
    "int8 (default), float, float16, int8-dynamic, int8-weights, int8-uint8-io, int8-float-io, int16x8, int8-tensorrt, "
    "int8-qnn, int16-qnn, int8-per-channel-fast, or my.toml; may be repeated."
)
EXAMPLE = (
    "For example, with a contract that `edge contract draft` began:",
    "edge convert model.keras --name digits --release 1.0.0 -o release \\",
    "--target linux-arm64-cpu --contract contract.toml \\",
    "--calibration train.npz --evaluation test.npz",
)
DATA, MADE, REFUSED, WORK = "Data", "What is made", "What is refused", "How it works"


@app.command(epilog="\n\n".join(EXAMPLE))
def convert(
    models: Models,
    name: Annotated[str, typer.Option(help="The model's name.")],
    release: Annotated[str, typer.Option(help="The release's version, for example 1.0.0.")],
    target: Annotated[list[str], typer.Option(help="A target of `edge targets list`; may be repeated.")],
    contract: Annotated[
        Path, typer.Option(help="TOML file of the contract; `edge contract draft MODEL` writes a first one.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the release.")],
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="Data that judges: by labels, else by agreement with float. Needed unless --no-gate.",
            rich_help_panel=DATA,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Data whose ranges int8 recipes use; none of it may judge.", rich_help_panel=DATA),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Labelled examples that travel along: devices judge this release and its successors by them.",
            rich_help_panel=DATA,
        ),
    ] = None,
    recipe: Annotated[list[str] | None, typer.Option(help=RECIPES_HELP, rich_help_panel=MADE)] = None,
    artifact_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="tflite or onnx; may be repeated. Default: all that MODEL exports to.",
            rich_help_panel=MADE,
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Where the gate does not pass, try gentler recipes until one does.",
            rich_help_panel=MADE,
        ),
    ] = False,
    parent: Annotated[
        str | None, typer.Option(help="The release that this one replaces.", rich_help_panel=MADE)
    ] = None,
    built_at: Annotated[
        str | None,
        typer.Option(help="Build time, RFC 3339. Default: SOURCE_DATE_EPOCH, else now.", rich_help_panel=MADE),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Largest loss against the float model, as a fraction: 0.01 is one point.", rich_help_panel=REFUSED
        ),
    ] = MAX_DROP,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What a loss is measured by: accuracy, f1, auc, rmse, mae, exact-match, … or module:function. "
            "Default: by the task.",
            rich_help_panel=REFUSED,
        ),
    ] = None,
    min_speedup: Annotated[
        float | None,
        typer.Option(
            help="Refuse what is not shown to be this many times as fast as float, on this machine.",
            rich_help_panel=REFUSED,
        ),
    ] = None,
    fail_on_fallback: Annotated[
        float | None,
        typer.Option(
            help="Largest share (see --by) that may run beside a target's accelerator, 0 to 1.",
            rich_help_panel=REFUSED,
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Share of what: macs or ops.", rich_help_panel=REFUSED)] = "macs",
    gate: Annotated[
        bool,
        typer.Option("--gate/--no-gate", help="Refuse a loss; --no-gate needs --reason.", rich_help_panel=REFUSED),
    ] = True,
    doctor: Annotated[
        bool,
        typer.Option(
            "--doctor/--no-doctor",
            help="Examine calibration data; --no-doctor needs --reason.",
            rich_help_panel=REFUSED,
        ),
    ] = True,
    reason: Annotated[
        str | None,
        typer.Option(help="Why the gate or the doctor is off; recorded in every bundle.", rich_help_panel=REFUSED),
    ] = None,
    stop_early: Annotated[
        bool,
        typer.Option(
            "--stop-early",
            help="Run the samples in instalments, until the gate is decided.",
            rich_help_panel=WORK,
        ),
    ] = False,
    step_timeout: Annotated[float, typer.Option(help="Seconds that one step may take.", rich_help_panel=WORK)] = 600.0,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Where results of steps are kept. Default: ~/.cache/edgesdk.", rich_help_panel=WORK),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.", rich_help_panel=WORK)] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and no progress.", rich_help_panel=WORK)
    ] = False,
) -> None:
    """Convert a trained model for targets, judge every artifact in its own runtime, and pack a release folder.

    An artifact that is worse than its float source is refused with the cause (exit 4), and so is data that cannot judge
    (exit 2). Data is .npz, .npy, .csv, .parquet, a folder of pictures by class, or module:function.

    A conversion that was ended goes on where it was when the same is asked again; a repeated one is instant.
    """
    words: dict[str, Any] = {
        "evaluation": evaluation,
        "calibration": calibration,
        "truth": truth,
        "recipes": tuple(recipe or ["int8"]),
        "formats": tuple(artifact_format or []),
        "max_drop": max_drop,
        "metric": metric,
        "stop_early": stop_early,
        "min_speedup": min_speedup,
        "repair": repair,
        "gate": gate,
        "doctor": doctor,
        "reason": reason,
        "fail_on_fallback": fail_on_fallback,
        "by": by,
        "parent": parent,
        "step_timeout_s": step_timeout,
        "cache_dir": cache_dir,
        "built_at": built_at,
        "force": force,
        "name": name,
        "release": release,
        "targets": target,
        "contract": contract,
        "out": out,
    }
    with resumable("finished steps are kept", as_json=as_json):
        if as_json:
            _as_json(models, words)
        else:
            _on_terminal(models, words)


def _as_json(models: list[Path], words: dict[str, Any]) -> None:
    from edgesdk.errors import EdgeError  # noqa: PLC0415 - only here
    from edgesdk_converters import convert as run  # noqa: PLC0415 - heavy
    from edgesdk_converters.refusal import read_refusal, refusal_folder  # noqa: PLC0415 - heavy

    try:
        conversion = run(*models, **words)
    except EdgeError as error:
        left = read_refusal(words["out"], error)
        if left is not None:
            typer.echo(json.dumps({"folder": str(refusal_folder(words["out"])), **left}))
        raise
    typer.echo(json.dumps({"folder": str(conversion.folder), **conversion.report}))


def _on_terminal(models: list[Path], words: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy

    from edgesdk.errors import EdgeError  # noqa: PLC0415 - only here
    from edgesdk_converters import convert as run  # noqa: PLC0415 - heavy
    from edgesdk_converters.progress import TerminalProgress, figures, ladder, summary  # noqa: PLC0415 - heavy
    from edgesdk_converters.refusal import read_refusal  # noqa: PLC0415 - heavy

    console = Console()
    try:
        with TerminalProgress(console) as progress:
            conversion = run(*models, observer=progress, **words)
    except EdgeError as error:
        left = read_refusal(words["out"], error)
        if left is not None and left["variants"]:
            console.print(figures(left))
        raise
    console.print(summary(conversion))
    if conversion.report.get("pareto"):
        console.print(ladder(conversion.report))
    for finding in (conversion.report["doctor"]["diagnosis"] or {"findings": ()})["findings"]:
        console.print(f"calibration: {finding['where']}: {finding['what']}. {finding['fix']}")
    if conversion.report["weak_truth"]:
        few = "Few" if conversion.report["data"].get("truth") else "No"
        text = "truth examples travel with this release (--truth): devices can hardly judge its successors by them."
        console.print(f"{few} {text}")
    if conversion.index.notes:
        console.print(conversion.index.notes)
    console.print(f"wrote {conversion.folder} in {conversion.report['seconds']:.1f} s")
