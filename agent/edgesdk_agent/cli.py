"""The device's command `edge-agent`: enrol, run, look, install."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesdk.cli.main import run as run_command
from edgesdk.clock import SystemClock
from edgesdk.errors import DeploymentError

app = typer.Typer(
    name="edge-agent",
    help="The edgesdk device agent: pulls signed model updates, tries each before it believes it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The file; /etc/edge-agent/agent.toml if it exists.")
]
RootOption = Annotated[Path | None, typer.Option("--root", help="Folder of this agent; the configuration's `root`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def enroll(
    token: Annotated[str, typer.Argument(help="From `edge fleet token`; - reads it from standard input.")],
    root: RootOption = None,
    config: ConfigOption = None,
    name: Annotated[str, typer.Option(help="What the operator sees beside the device id.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the identity that this device has.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Enrol this device with a one-time token: keys are made here and never leave it."""
    from edgesdk_agent.enrol import enrol  # noqa: PLC0415 - loads cryptography
    from edgesdk_agent.paths import Paths  # noqa: PLC0415 - with the command

    settings = _settings(config, root)
    text = sys.stdin.readline() if token == "-" else token  # noqa: S105 - a dash is no secret
    hint = name or re.sub(r"[^A-Za-z0-9 ._-]", "-", socket.gethostname())[:64]
    identity = enrol(Paths(Path(settings.root)), text, name=hint, force=force, clock=SystemClock())
    shown = {"device": identity.device, "fleet": identity.fleet, "hub": identity.hub, "root": settings.root}
    where = f" --config {config}" if config else ""
    where += f" --root {root}" if root else ""
    text = f"enrolled as {identity.device} in fleet {identity.fleet}; start the agent: edge-agent run{where}"
    _print(shown, text, as_json)


@app.command()
def run(
    root: RootOption = None,
    config: ConfigOption = None,
    print_modules: Annotated[
        bool, typer.Option("--print-modules", help="Print the modules of the resident process once it is ready.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line when ready; the log is on stderr.")
    ] = False,
) -> None:
    """Run the agent until SIGTERM."""
    from edgesdk_agent.app import build  # noqa: PLC0415 - with the command
    from edgesdk_agent.commands import LogTail  # noqa: PLC0415
    from edgesdk_agent.identity import load_identity  # noqa: PLC0415
    from edgesdk_agent.lock import only_agent  # noqa: PLC0415
    from edgesdk_agent.paths import Paths  # noqa: PLC0415
    from edgesdk_agent.rotation import finish_rotation  # noqa: PLC0415
    from edgesdk_agent.supervisor import loaded_modules  # noqa: PLC0415

    settings = _settings(config, root)
    paths = Paths(Path(settings.root))
    identity = load_identity(paths)
    logs = LogTail()
    _configure_logging(settings.log_level, logs)
    paths.make()
    with only_agent(paths.lock):
        finish_rotation(paths)
        supervisor = build(settings, paths, identity, logs)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())

        def ready() -> None:
            if print_modules:
                print(json.dumps({"modules": loaded_modules()}), flush=True)  # noqa: T201 - the command's output
            elif as_json:
                print(json.dumps({"device": identity.device, "pid": os.getpid()}), flush=True)  # noqa: T201 - as above

        supervisor.run(ready=ready)


@app.command()
def status(root: RootOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what this device serves, whether the agent runs, and what it is doing."""
    from edgesdk_agent.paths import Paths  # noqa: PLC0415
    from edgesdk_agent.report import describe, read_status  # noqa: PLC0415 - with the command

    found = read_status(Paths(Path(_settings(config, root).root)))
    _print(found, describe(found), as_json)


@app.command()
def why(
    model: Annotated[str | None, typer.Argument(help="A model; left out: every model that is known here.")] = None,
    root: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in a paragraph why this device has or has not an update, and what to do next."""
    import msgspec  # noqa: PLC0415 - with the command

    from edgesdk_agent.paths import Paths  # noqa: PLC0415
    from edgesdk_agent.report import ask_hub, nothing_known, read_facts  # noqa: PLC0415
    from edgesdk_agent.why import explain  # noqa: PLC0415

    paths = Paths(Path(_settings(config, root).root))
    facts = read_facts(paths, model)
    if not facts or not facts[0].online:
        facts = ask_hub(paths, facts)
    found = [explain(each) for each in facts]
    text = "\n\n".join(f"{each.text}\nNext: {each.next or 'nothing.'}" for each in found)
    _print({"models": msgspec.to_builtins(found)}, text or nothing_known(paths), as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="From `edge bundle export`.")],
    root: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a release from a file, verified as if it came over the network; stop the agent first."""
    import msgspec  # noqa: PLC0415 - with the command

    from edgesdk_agent.importing import import_file  # noqa: PLC0415
    from edgesdk_agent.paths import Paths  # noqa: PLC0415

    settings = _settings(config, root)
    found = import_file(file, paths=Paths(Path(settings.root)), config=settings)
    text = f"{found.model} {found.release}: verified, {found.bundles} files taken over; "
    if not found.deployed:
        text += "kept ready until a desired document asks for it"
    elif found.reason:
        text += f"{found.state}: {found.reason}"
    else:
        text += f"{found.state}; start the agent to test and try it"
    _print(msgspec.to_builtins(found), text, as_json)


@app.command("rotate-keys")
def rotate_keys(root: RootOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Change this device's TLS key and statement key, certified by the hub; stop the agent first."""
    from edgesdk_agent.paths import Paths  # noqa: PLC0415 - with the command
    from edgesdk_agent.rotation import rotate  # noqa: PLC0415 - loads cryptography

    public = rotate(Paths(Path(_settings(config, root).root)))
    text = f"new keys are in place, statement key {public[:16]}…; start the agent: the old ones end with its first word"
    _print({"statement_public": public}, text, as_json)


@app.command("systemd-unit")
def systemd_unit(
    user: Annotated[str, typer.Option(help="Runs the agent.")] = "edge-agent",
    group: Annotated[str, typer.Option(help="Its group; apps that send evidence belong to it.")] = "",
    accelerator: Annotated[bool, typer.Option("--accelerator", help="Let tests see devices (GPU, NPU).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a hardened systemd unit for /etc/systemd/system/edge-agent.service."""
    from edgesdk_agent.systemd import unit  # noqa: PLC0415 - with the command

    program = shutil.which(sys.argv[0]) or shutil.which("edge-agent")
    if program is None:
        raise DeploymentError("worker-failed", "edge-agent is not on PATH", hint="Call it by its full path.")
    text = unit(str(Path(program).absolute()), user=user, group=group or user, accelerator=accelerator)
    _print({"unit": text}, text.rstrip("\n"), as_json)


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    found = {"agent": installed_version("edgesdk-agent"), "edgesdk": installed_version("edgesdk")}
    _print(found, f"edge-agent {found['agent']} (edgesdk {found['edgesdk']})", as_json)


def _settings(config: Path | None, root: Path | None) -> Any:
    import msgspec  # noqa: PLC0415 - with the command

    from edgesdk_agent.config import load_config  # noqa: PLC0415

    settings = load_config(config, os.environ)
    return msgspec.structs.replace(settings, root=str(root.absolute())) if root else settings


def _configure_logging(level: str, tail: logging.Handler) -> None:
    stream = logging.StreamHandler()
    stream.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[stream, tail])


def _print(found: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(found) if as_json else text)  # noqa: T201 - the command's output


def main() -> None:
    """Entry point of `edge-agent`."""
    raise SystemExit(run_command(typer.main.get_command(app), sys.argv[1:], name="edge-agent"))


if __name__ == "__main__":
    main()
