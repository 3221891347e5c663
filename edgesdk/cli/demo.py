"""`edge demo`: the whole line on this machine, told as it happens."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgesdk.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

app = typer.Typer(add_completion=False)
NEEDED = ("edgesdk_agent", "edgesdk_converters", "fastapi", "matplotlib", "onnxruntime", "seglearn", "tflite_runtime")


class _Teller:
    """Tells the story on a terminal: one line a step, and a spinner while it lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._since = time.monotonic()

    def chapter(self, title: str) -> None:
        self._console.print(f"\n[bold]{title}[/bold]")

    def doing(self, what: str) -> None:
        self.stop()
        self._since = time.monotonic()
        self._status = self._console.status(f"{what} …")
        self._status.start()

    def done(self, what: str) -> None:
        from rich.markup import escape  # noqa: PLC0415 - `edge --help` stays quick

        self.stop()
        self._console.print(f"  [dim]{time.monotonic() - self._since:5.1f} s[/dim]  {escape(what)}", highlight=False)

    def stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


@app.callback(invoke_without_command=True)
def demo(
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Leave everything in this new folder, to explore.")
    ] = None,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where the HTML report goes.")] = Path("edge-demo.html"),
    broker: Annotated[str, typer.Option(help="The hub's broker: auto, mosquitto or devbroker.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was seen as one JSON object.")] = False,
) -> None:
    """Run the whole line on this machine: convert, sign, deploy, try, commit or roll back.

    Four releases of a real model go to two real agents; two of them are correctly signed but bad.
    """
    from rich.console import Console  # noqa: PLC0415 - `edge --help` stays quick

    _check_installed()
    if keep is not None and keep.exists():
        raise ConfigError("file-exists", f"{keep} exists; --keep wants a new folder")
    folder = (keep or Path(tempfile.mkdtemp(prefix="edge-demo-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    teller = _Teller(Console(stderr=as_json))
    try:
        _tell(folder, teller, report.absolute(), broker=broker, keep=keep is not None, as_json=as_json)
    except EdgeError:
        teller.stop()
        typer.echo(f"what was left of the demo is in {folder}", err=True)
        raise
    if keep is None:
        _remove(folder)


def _tell(folder: Path, teller: _Teller, report: Path, *, broker: str, keep: bool, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415 - `edge --help` stays quick
    from rich.console import Console  # noqa: PLC0415

    from edgesdk.demo.processes import Programs  # noqa: PLC0415
    from edgesdk.demo.report import render  # noqa: PLC0415
    from edgesdk.demo.story import Story  # noqa: PLC0415
    from edgesdk.demo.table import tables  # noqa: PLC0415

    with Programs(folder) as programs:
        facts = Story(folder=folder, teller=teller, programs=programs, broker=broker).tell()
        teller.doing("stopping everything")
    teller.stop()
    if not keep:
        facts = msgspec.structs.replace(facts, explore=())
    report.write_text(render(facts))
    (folder / "facts.json").write_bytes(msgspec.json.encode(facts))
    if as_json:
        typer.echo(msgspec.json.encode(facts).decode())
        return
    console = Console()
    console.print()
    console.print(tables(facts))
    console.print(f"\n{facts.seconds:.0f} s. Report: {report}", highlight=False, soft_wrap=True)
    if keep:
        console.print("\nTo explore it:", *facts.explore, sep="\n  ", highlight=False, soft_wrap=True, markup=False)


def _check_installed() -> None:
    from importlib.util import find_spec  # noqa: PLC0415 - only here

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "dependency-missing",
            f"the demo needs {', '.join(missing)}",
            hint="pip install uv && uv run --extra demo edge demo",
        )


def _remove(folder: Path) -> None:
    """Remove the demo's folder; generations are read-only on purpose."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)
