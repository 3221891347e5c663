"""`edge prune`, `edge shrink` and `edge distill`. Imports nothing heavy before it is called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesdk_converters.interrupted import resumable

if TYPE_CHECKING:
    from edgesdk_converters.compress.run import Compressed, Told

prune_app = typer.Typer(add_completion=False, help="Make a Keras model smaller: fewer channels, or zeroed weights.")
shrink_app = typer.Typer(add_completion=False, help="Remove channels of a Keras model that no answer depends on.")
distill_app = typer.Typer(add_completion=False, help="Teach a small Keras model by a large one.")

DATA, PRUNING, TRAINING, WORK = "Data", "Pruning", "Training", "How it works"

Model = Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A Keras 3 model.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The .keras to write; its report goes beside it.")]
Data = Annotated[
    Path | None,
    typer.Option(help="What it learns from: .npz, .npy, .csv, .parquet, a folder, …", rich_help_panel=DATA),
]
Validation = Annotated[
    Path | None,
    typer.Option(help="Labelled data that stops the training and picks the best epoch.", rich_help_panel=DATA),
]
Evaluation = Annotated[
    Path | None,
    typer.Option(
        help="Labelled data for the figures before and after. Default: the validation data.", rich_help_panel=DATA
    ),
]
ContractFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of the contract: the data is in the app's units. Without it, data is what the model takes.",
        rich_help_panel=DATA,
    ),
]
Loss = Annotated[
    str,
    typer.Option(help="auto (by the contract's task), categorical, binary, mse or mae.", rich_help_panel=TRAINING),
]
Epochs = Annotated[int, typer.Option(help="Most passes over the data.", rich_help_panel=TRAINING)]
Patience = Annotated[int, typer.Option(help="Passes without improvement before it stops.", rich_help_panel=TRAINING)]
Batch = Annotated[int, typer.Option(help="Samples in one step.", rich_help_panel=TRAINING)]
Rate = Annotated[
    float,
    typer.Option("--learning-rate", help="Of Adam, at the start; it falls along a cosine.", rich_help_panel=TRAINING),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same model.", rich_help_panel=TRAINING)]
TeacherShare = Annotated[
    float,
    typer.Option(
        help="Weight of the teacher's answers in the loss, 0 to 1; the rest are labels.", rich_help_panel=TRAINING
    ),
]
Temperature = Annotated[
    float,
    typer.Option(help="By which both answers are softened before they are compared.", rich_help_panel=TRAINING),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that everything may take.", rich_help_panel=WORK)]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where half done training is kept. Default: ~/.cache/edgesdk.", rich_help_panel=WORK),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing result.", rich_help_panel=WORK)]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the report as one JSON object, and no progress.", rich_help_panel=WORK),
]
DAY = 86_400.0
EXAMPLE = (
    "For example:",
    "edge prune model.keras --amount 0.5 -o small.keras \\",
    "--contract contract.toml --data train.npz --validation validation.npz",
)


@prune_app.command(epilog="\n\n".join(EXAMPLE))
def prune(
    model: Model,
    out: Out,
    data: Data = None,
    validation: Validation = None,
    evaluation: Evaluation = None,
    contract: ContractFile = None,
    by: Annotated[
        str,
        typer.Option(
            help="channels (the model gets smaller and faster) or weights (zeros; same size and speed).",
            rich_help_panel=PRUNING,
        ),
    ] = "channels",
    amount: Annotated[
        float,
        typer.Option(help="Share of the channels or weights that go; 0 is `edge shrink`.", rich_help_panel=PRUNING),
    ] = 0.5,
    schedule: Annotated[
        str,
        typer.Option(help="polynomial (a little more each epoch) or oneshot (at once).", rich_help_panel=PRUNING),
    ] = "polynomial",
    ramp: Annotated[
        float, typer.Option(help="Share of the epochs in which pruning grows.", rich_help_panel=PRUNING)
    ] = 0.3,
    spread: Annotated[
        str,
        typer.Option(
            help="model: what matters least in the whole model goes; layer: the same share of every layer.",
            rich_help_panel=PRUNING,
        ),
    ] = "model",
    finetune: Annotated[
        bool,
        typer.Option(
            "--finetune/--no-finetune",
            help="Train what is left; --no-finetune needs no --data and --validation, and loses accuracy.",
            rich_help_panel=PRUNING,
        ),
    ] = True,
    teacher_share: TeacherShare = 0.5,
    temperature: Temperature = 2.0,
    loss: Loss = "auto",
    epochs: Epochs = 30,
    patience: Patience = 8,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    seed: Seed = 0,
    timeout: Timeout = DAY,
    cache_dir: CacheDir = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Prune a model and train what is left, taught by the whole model (--teacher-share 0: by labels alone).

    A training that was ended goes on where it was when the same is asked again. `edge convert` takes the result.
    """
    words = {key: value for key, value in locals().items() if key not in {"as_json", "timeout"}}
    _do("prune", {**words, "timeout_s": timeout}, as_json=as_json)


@shrink_app.command()
def shrink(
    model: Model,
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(help="Samples on which answers are compared. Default: noise.", rich_help_panel=DATA),
    ] = None,
    contract: ContractFile = None,
    timeout: Timeout = DAY,
    cache_dir: CacheDir = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Remove channels that no answer depends on: filters of zeros, and what nothing reads. Answers stay the same."""
    words = {"model": model, "out": out, "data": data, "contract": contract, "cache_dir": cache_dir, "force": force}
    asked = {**words, "amount": 0.0, "finetune": False, "timeout_s": timeout}
    _do("prune", asked, as_json=as_json, title="shrink")


@distill_app.command()
def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER.keras", help="The model that knows.")],
    student: Annotated[Path, typer.Argument(metavar="STUDENT.keras", help="The model that learns.")],
    out: Out,
    data: Data = None,
    validation: Validation = None,
    evaluation: Evaluation = None,
    contract: ContractFile = None,
    teacher_share: TeacherShare = 0.5,
    temperature: Temperature = 2.0,
    loss: Loss = "auto",
    epochs: Epochs = 30,
    patience: Patience = 8,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    seed: Seed = 0,
    timeout: Timeout = DAY,
    cache_dir: CacheDir = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a student on labels and on its teacher's answers; --teacher-share 1 needs no labels to learn from."""
    words = {key: value for key, value in locals().items() if key not in {"as_json", "timeout"}}
    _do("distill", {**words, "timeout_s": timeout}, as_json=as_json)


def _do(command: str, words: dict[str, Any], *, as_json: bool, title: str | None = None) -> None:
    with resumable("whole epochs are kept", as_json=as_json):
        _run(command, words, as_json=as_json, title=title or command)


def _run(command: str, words: dict[str, Any], *, as_json: bool, title: str) -> None:
    from edgesdk_converters.compress import api  # noqa: PLC0415 - heavy

    run = getattr(api, command)
    if as_json:
        made: Compressed = run(**words)
        typer.echo(json.dumps({"path": str(made.path), "report_path": str(made.report_path), **made.report}))
        return
    with _progress(title) as told:
        made = run(told=told, **words)
    from edgesdk_converters.compress.lines import lines  # noqa: PLC0415 - heavy

    for line in lines(made):
        typer.echo(line)


@contextmanager
def _progress(command: str) -> Iterator[Told]:
    from rich.progress import (  # noqa: PLC0415 - heavy
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns) as bars:

        def told(done: int, total: int, last: dict[str, Any]) -> None:
            task = bars.tasks[0].id if bars.tasks else bars.add_task(command, total=None)
            note = f": epoch {last['epoch']}, validation {last['validation']:.4f}" if last else ""
            bars.update(task, completed=done, total=total or None, description=command + note)

        yield told
