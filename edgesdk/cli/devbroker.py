"""`edge devbroker`: the loopback MQTT broker, until interrupted."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Run the loopback MQTT broker for demos and tests.")


@app.command()
def run(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 chooses a free one.", min=0, max=65535)] = 1883,
    open_access: Annotated[bool, typer.Option("--open", help="Allow every client everything.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object once listening.")] = False,
) -> None:
    """Run the loopback MQTT broker for demos and tests, until interrupted. It keeps nothing on disk."""
    import asyncio  # noqa: PLC0415 - `edge --help` stays quick
    import signal  # noqa: PLC0415

    from edgesdk.devbroker.policy import allow_all, edge_acl  # noqa: PLC0415
    from edgesdk.devbroker.server import DevBroker  # noqa: PLC0415

    broker = DevBroker(host=host, port=port, acl=allow_all if open_access else edge_acl)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await broker.start()
        if as_json:
            typer.echo(json.dumps({"host": broker.host, "port": broker.port}))
        else:
            typer.echo(f"listening on mqtt://{broker.host}:{broker.port} (loopback only, nothing is kept on disk)")
        await stop.wait()
        await broker.stop()

    asyncio.run(serve())
