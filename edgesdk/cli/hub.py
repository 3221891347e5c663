"""`edge hub`: make a fleet hub and run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Run a fleet hub.")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    fleet: Annotated[str, typer.Option(help="Name of the fleet: [a-z0-9-].")],
    repo: Annotated[
        Path | None, typer.Option(help="The repository to pin; the first `edge hub start` pins its own when left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a hub: its certificate authority, its deployment key and its first token.

    With EDGE_KEY_PASSPHRASE set the two private keys are encrypted; `edge hub start` then needs it too.
    """
    import os  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.fleet.folder import HubFolder  # noqa: PLC0415
    from edgesdk.trust.keys import passphrase_from  # noqa: PLC0415

    folder = HubFolder.create(directory, fleet=fleet, passphrase=passphrase_from(os.environ), repo=repo)
    public = folder.path / "keys" / "deployment.pub"
    if as_json:
        facts = {"hub": str(folder.path), "fleet": fleet, "deployment_keyid": folder.deployment_public.keyid}
        pinned = folder.settings.root_sha256
        typer.echo(json.dumps({**facts, "deployment_public": str(public), "root_sha256": pinned}))
        return
    typer.echo(f"hub of fleet {fleet} made in {folder.path}; its folder holds private keys: keep it, back it up")
    typer.echo("next, where the repository's keys are, let devices accept what this hub signs:")
    typer.echo(f"  edge repo deployment-keys {public} --repo REPO")
    typer.echo(f"then:\n  edge hub start {folder.path} --repo REPO")


@app.command()
def start(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder made by `edge hub init`.")] = Path("hub"),
    repo: Annotated[Path, typer.Option(help="The repository's folder, which is served under /repo/.")] = Path("repo"),
    dir_option: Annotated[Path | None, typer.Option("--dir", help="The same as DIR.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback needs --tls.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0: the one of last time, else a free one.", min=0)] = 0,
    broker: Annotated[str, typer.Option(help="auto, mosquitto, devbroker, or mqtt(s)://HOST:PORT.")] = "auto",
    broker_port: Annotated[int, typer.Option(help="TCP port of the hub's own broker; 0 as for --port.", min=0)] = 0,
    tls: Annotated[bool, typer.Option("--tls", help="HTTPS, and MQTT with client certificates.")] = False,
    public_host: Annotated[str | None, typer.Option(help="Name by which devices reach this machine.")] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL; SQLite in DIR when left out.")] = None,
    online_keys: Annotated[
        Path | None,
        typer.Option(metavar="KEYS", help="The repository's snapshot and timestamp keys: sign anew before expiry."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a hub until it is interrupted or terminated; one line (or JSON object) says when everything is ready."""
    import logging  # noqa: PLC0415
    import os  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import threading  # noqa: PLC0415

    from edgesdk.fleet.folder import HubFolder, to_json  # noqa: PLC0415
    from edgesdk.fleet.hub import Hub, Options, describe  # noqa: PLC0415
    from edgesdk.trust.keys import passphrase_from  # noqa: PLC0415

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    options = Options(
        repo=repo,
        host=host,
        port=port,
        broker=broker,
        broker_port=broker_port,
        tls=tls,
        public_host=public_host,
        database=database,
        passphrase=passphrase_from(os.environ),
        online_keys=online_keys,
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("edgesdk").setLevel(logging.INFO)
    with Hub(HubFolder(dir_option or directory), options) as hub:
        running = hub.start()
        lines = [json.dumps(to_json(running))] if as_json else describe(running)
        for line in lines:
            print(line, flush=True)  # noqa: T201 - flushed: scripts wait for this line
        stop.wait()


@app.command()
def certificate(
    role: Annotated[str, typer.Argument(help="subscriber (reads telemetry and events) or hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for ca.pem, certificate and key.")],
    directory: Annotated[Path, typer.Option("--dir", help="The hub's folder.", envvar="EDGE_HUB_DIR")] = Path("hub"),
    name: Annotated[
        str, typer.Option(help="For several at once, each its own: the broker knows it as ROLE.NAME.")
    ] = "",
    days: Annotated[int, typer.Option(help="Validity.", min=1, max=1825)] = 365,
    database: Annotated[str | None, typer.Option(help="As for `edge hub start`.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key and certificate for a client of the broker, on the hub's machine; a running hub follows at once."""
    import getpass  # noqa: PLC0415
    import os  # noqa: PLC0415

    from edgesdk.fleet import certificates  # noqa: PLC0415
    from edgesdk.fleet.folder import HubFolder  # noqa: PLC0415
    from edgesdk.fleet.registry import Registry  # noqa: PLC0415
    from edgesdk.trust.keys import passphrase_from  # noqa: PLC0415

    folder = HubFolder(directory)
    authority = folder.authority(passphrase_from(os.environ))
    registry = Registry(database or folder.path / "hub.db")
    actor = f"{getpass.getuser()} at the hub"
    issued = certificates.issue_role(
        registry, authority, certificates.parse_role(role), name=name, days=days, actor=actor
    )
    registry.close()
    files = certificates.write_issued(out, f"{role}.{name}" if name else role, issued, authority.certificate_pem)
    if as_json:
        typer.echo(json.dumps({key: str(path) for key, path in files.items()}))
        return
    typer.echo(f"made {files['cert']} and {files['key']} (a secret), valid for {days} days")
    running = folder.running()
    if running is not None and running.broker.startswith("mqtts://"):
        host, _, port = running.broker.removeprefix("mqtts://").rpartition(":")
        options = f"--cafile {files['ca']} --cert {files['cert']} --key {files['key']}"
        typer.echo(f"  mosquitto_sub -h {host} -p {port} {options} -t 'edge/v1/+/+/up/telemetry'")
    else:
        typer.echo("  it opens a broker that was started with `edge hub start --tls`")


@app.command(name="revoke-certificate")
def revoke_certificate(
    subject: Annotated[str, typer.Argument(metavar="NAME", help="subscriber, subscriber.NAME or hub.NAME.")],
    directory: Annotated[Path, typer.Option("--dir", help="The hub's folder.", envvar="EDGE_HUB_DIR")] = Path("hub"),
    database: Annotated[str | None, typer.Option(help="As for `edge hub start`.")] = None,
) -> None:
    """Let no certificate of this name open the broker any more; devices are revoked with `edge fleet revoke`.

    A running hub ends its open connection too.
    """
    import getpass  # noqa: PLC0415

    from edgesdk.fleet import certificates  # noqa: PLC0415
    from edgesdk.fleet.folder import HubFolder  # noqa: PLC0415
    from edgesdk.fleet.registry import Registry  # noqa: PLC0415

    registry = Registry(database or HubFolder(directory).path / "hub.db")
    count = certificates.revoke_role(registry, subject, actor=f"{getpass.getuser()} at the hub")
    registry.close()
    typer.echo(f"revoked {count} certificates of {subject}; a running hub follows at once")
