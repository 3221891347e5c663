"""`edge telemetry`: watch what devices report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Watch what devices report.")


@app.callback()
def telemetry() -> None:
    """Watch what devices report."""


@app.command()
def watch(
    broker: Annotated[str, typer.Option(help="mqtt://HOST:PORT or mqtts://HOST:PORT", envvar="EDGE_BROKER")] = (
        "mqtt://127.0.0.1:1883"
    ),
    fleet: Annotated[str, typer.Option(help="Only this fleet.")] = "+",
    device: Annotated[str, typer.Option(help="Only this device.")] = "+",
    ca: Annotated[Path | None, typer.Option(help="Authority of the broker's certificate (mqtts).")] = None,
    cert: Annotated[Path | None, typer.Option(help="The subscriber's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Stop after so many items; 0 goes on.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Print telemetry, events and gaps as they come, until interrupted."""
    from rich.console import Console  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.telemetry.subscriber import subscribe  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    with subscribe(broker, fleet=fleet, device=device, ca=ca, cert=cert, key=key) as items:
        for number, item in enumerate(items, 1):
            if as_json:
                typer.echo(as_line(item))
            else:
                console.print(as_text(item))
            if number == limit:
                return


def as_line(item: Any) -> str:
    """Return one item as a JSON object with its `type`: ``telemetry``, ``event`` or ``gap``."""
    import msgspec  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.protocol.messages import Record  # noqa: PLC0415
    from edgesdk.telemetry.sequence import Gap  # noqa: PLC0415

    kind = "gap" if isinstance(item, Gap) else "telemetry" if isinstance(item, Record) else "event"
    return msgspec.json.encode({"type": kind, **msgspec.to_builtins(item)}).decode()


def as_text(item: Any) -> Any:
    """Return one item as a line for people; what devices wrote is never read as markup."""
    from rich.text import Text  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.protocol.messages import Record  # noqa: PLC0415
    from edgesdk.telemetry.sequence import Gap  # noqa: PLC0415

    if isinstance(item, Gap):
        why = "dropped by the device" if item.declared else "missing"
        return Text(f"{item.device}  {why}: records {item.first} to {item.last} of run {item.run}", style="yellow")
    line = Text.assemble((item.ts, "dim"), "  ", (item.device, "bold"), "  ")
    if item.historical:
        line.append("stored  ", style="dim")
    if isinstance(item, Record):
        models = [_model_text(model) for model in item.models]
        return line.append("; ".join(models) or "no calls")
    style = "red" if item.reason is not None else "green"
    line.append(f"{item.kind} {item.model or ''} {item.state or ''}".rstrip(), style=style)
    if item.reason is not None:
        line.append(f"  {item.reason.message or ''} [{item.reason.code}]")
    return line


def _model_text(model: Any) -> str:
    from edgesdk.errors import LinkError  # noqa: PLC0415 - `edge --help` stays quick
    from edgesdk.telemetry.sketches import DDSketch  # noqa: PLC0415

    text = f"{model.model} {model.release} ({model.slot}) {model.calls} calls"
    total = model.latency_ms.get("total")
    if total is not None:
        try:
            sketch = DDSketch.from_dict(total)
            p50, p99 = sketch.quantile(0.5), sketch.quantile(0.99)
        except LinkError:
            return f"{text}, latency unreadable"
        if p50 is not None and p99 is not None:
            text += f", p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    faults = {
        "errors": sum(model.errors.values()),
        "NaN": model.nan,
        "rejected": model.rejects,
        "slow": model.slow,
        "answered by good": model.answered_by_good,
    }
    return text + "".join(f", {count} {name}" for name, count in faults.items() if count)
