"""`edge fleet`: devices and rollouts of a hub.

Exit codes of `watch` (and of `deploy --watch`, `rollback --watch`): 0 the rollout is done; 7 it was halted or rolled
back; others as everywhere.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import click
import typer

if TYPE_CHECKING:
    from edgesdk.fleet.client import HubClient

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Devices and rollouts of a hub.")

HALTED = 7
ASK_S = 30.0
BENCHMARK_S = 120.0

WHAT = ("ping", "status", "deploy-now", "logs", "benchmark")
Hub = Annotated[str | None, typer.Option("--hub", help="The hub's URL.", envvar="EDGE_HUB")]
Token = Annotated[str | None, typer.Option("--token", help="API token.", envvar="EDGE_TOKEN", show_envvar=True)]
Folder = Annotated[Path | None, typer.Option("--dir", help="The hub's folder, on its machine.", envvar="EDGE_HUB_DIR")]
Ca = Annotated[Path | None, typer.Option("--ca", help="The authority's certificate, for https.", envvar="EDGE_CA")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it to its end, as `edge fleet watch`.")]


@app.command()
def devices(
    device: Annotated[str | None, typer.Argument(help="Only this one, with its abilities and history.")] = None,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """List devices: what they run, what they last said, and how old that is."""
    from edgesdk.cli.fleet_views import device_view, devices_table, show  # noqa: PLC0415 - `edge --help` stays quick

    with _client(hub, token, directory, ca) as client:
        if device is None:
            show(client.devices(), as_json, devices_table)
        else:
            show(client.get(f"/devices/{quote(device, safe='')}"), as_json, device_view)


@app.command()
def ask(
    device: Annotated[str, typer.Argument(help="Its id, see `edge fleet devices`.")],
    what: Annotated[str, typer.Argument(click_type=click.Choice(WHAT), help="What it is to do now.")],
    model: Annotated[str | None, typer.Option(help="benchmark: the model whose good generation is measured.")] = None,
    lines: Annotated[int | None, typer.Option(help="logs: how many, the newest.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait; left out: 30, benchmark 120.")] = None,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Ask a device that is online for something now. What it refuses is told in its words, with its code."""
    from edgesdk.cli.fleet_views import answer_lines, refusal, show  # noqa: PLC0415

    given = {"model": model, "lines": lines}
    arguments = {name: value for name, value in given.items() if value is not None}
    if timeout is None:
        timeout = BENCHMARK_S if what == "benchmark" else ASK_S
    with _client(hub, token, directory, ca) as client:
        answer = client.ask(device, what, arguments, timeout=timeout)
    if answer["reason"] is not None:
        raise refusal(device, answer["reason"])
    show(answer, as_json, lambda found: typer.echo("\n".join(answer_lines(device, what, found))))


@app.command()
def deploy(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    release: Annotated[str, typer.Argument(help="A release that the repository lists.")],
    only: Annotated[str | None, typer.Option("--devices", help="Ids, with commas, in the order of asking.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every device of the fleet.")] = False,
    waves: Annotated[str, typer.Option(help="Cumulative sizes: 10%,50%,100% or 1,10,100%.")] = "100%",
    policy: Annotated[Path | None, typer.Option(help="TOML: [trial], [gate] (or [[gate]] per wave), [config].")] = None,
    trial_min_seconds: Annotated[float | None, typer.Option(help="Earliest commit.")] = None,
    trial_max_seconds: Annotated[float | None, typer.Option(help="Deadline of the trial.")] = None,
    trial_min_calls: Annotated[int | None, typer.Option(help="Calls that the evidence must hold.")] = None,
    trial_slow_ms: Annotated[float | None, typer.Option(help="A call slower than this is slow.")] = None,
    trial_max_slowdown: Annotated[
        float | None, typer.Option(help="How many times the good release's time a call may take, in testing.")
    ] = None,
    trial_on_thin_evidence: Annotated[str | None, typer.Option(help="hold, commit or rollback.")] = None,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Also where it failed before.")
    ] = False,
    follow: Watch = False,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Roll a release out, in waves; each opens only on verified commits, and evidence halts it."""
    from edgesdk.errors import ConfigError  # noqa: PLC0415

    if (only is None) != everyone:
        raise ConfigError("argument-invalid", "expected either --devices IDS or --all")
    plan = _read_policy(policy)
    trial = {
        "min_seconds": trial_min_seconds,
        "max_seconds": trial_max_seconds,
        "min_calls": trial_min_calls,
        "slow_ms": trial_slow_ms,
        "max_slowdown": trial_max_slowdown,
        "on_thin_evidence": trial_on_thin_evidence,
    }
    body = {
        "model": model,
        "release": release,
        "devices": None if only is None else [each.strip() for each in only.split(",") if each.strip()],
        "waves": [each.strip() for each in waves.split(",")],
        "gates": plan.gates,
        "policy": plan.trial | {key: value for key, value in trial.items() if value is not None},
        "config": plan.config,
        "retry_quarantined": retry_quarantined,
    }
    with _client(hub, token, directory, ca) as client:
        _started(client, client.post("/rollouts", body), follow, as_json)


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    to: Annotated[str | None, typer.Option(help="The older release; the one before when left out.")] = None,
    follow: Watch = False,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Go back to an older release on every device that was asked to run the newest, all at once."""
    with _client(hub, token, directory, ca) as client:
        _started(client, client.post("/rollback", {"model": model, "to": to}), follow, as_json)


@app.command()
def status(
    rollout: Annotated[str | None, typer.Argument(help="Its id; all rollouts when left out.")] = None,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Show rollouts, or where each device of one stands."""
    from edgesdk.cli.fleet_views import rollout_table, rollouts_table, show  # noqa: PLC0415

    with _client(hub, token, directory, ca) as client:
        for warning in client.warnings():
            typer.echo(f"warning: {warning}", err=True)
        if rollout is None:
            show(client.rollouts(), as_json, rollouts_table)
        else:
            show(client.rollout(rollout), as_json, rollout_table)


@app.command()
def watch(
    rollout: Annotated[str | None, typer.Argument(help="Its id; the newest when left out.")] = None,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Follow a rollout to its end. Exit code 0: done; 7: halted or rolled back. A paused one is waited for."""
    from edgesdk.errors import ConfigError  # noqa: PLC0415

    with _client(hub, token, directory, ca) as client:
        if rollout is None:
            known = client.rollouts()
            if not known:
                raise ConfigError("rollout-unknown", "there is no rollout yet")
            rollout = str(known[0]["id"])
        _follow(client, rollout, as_json)


@app.command()
def pause(
    rollout: str, hub: Hub = None, token: Token = None, directory: Folder = None, ca: Ca = None, as_json: Json = False
) -> None:
    """Open no further wave of a rollout; devices that were asked go on."""
    _change(_client(hub, token, directory, ca), rollout, "pause", as_json)


@app.command()
def resume(
    rollout: str, hub: Hub = None, token: Token = None, directory: Folder = None, ca: Ca = None, as_json: Json = False
) -> None:
    """Go on with a paused rollout."""
    _change(_client(hub, token, directory, ca), rollout, "resume", as_json)


@app.command()
def halt(
    rollout: str, hub: Hub = None, token: Token = None, directory: Folder = None, ca: Ca = None, as_json: Json = False
) -> None:
    """End a rollout; devices that have not ended it themselves are asked for what they ran before."""
    _change(_client(hub, token, directory, ca), rollout, "halt", as_json)


@app.command(name="token")
def enrolment_token(
    valid: Annotated[int, typer.Option(help="Seconds for which it can be used.", min=1)] = 24 * 3600,
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Make a token that enrols one device, once: `edge-agent enroll TOKEN`. It is a secret."""
    with _client(hub, token, directory, ca) as client:
        made = client.post("/tokens", {"valid_seconds": valid})
    typer.echo(json.dumps(made) if as_json else made["token"])


@app.command(name="api-token")
def api_token(
    name: Annotated[str, typer.Argument(help="Whose or what for; it is named in the audit log.")],
    role: Annotated[str, typer.Option(help="viewer, operator, publisher or admin.")] = "viewer",
    hub: Hub = None,
    token: Token = None,
    directory: Folder = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Make a token for the hub's API. It is a secret, and shown once."""
    with _client(hub, token, directory, ca) as client:
        made = client.post("/api-tokens", {"name": name, "role": role})
    typer.echo(json.dumps(made) if as_json else made["token"])


@app.command()
def revoke(
    device: str, hub: Hub = None, token: Token = None, directory: Folder = None, ca: Ca = None, as_json: Json = False
) -> None:
    """Believe nothing that a device says any more. There is no way back but a new enrolment with new keys."""
    with _client(hub, token, directory, ca) as client:
        found = client.post(f"/devices/{quote(device, safe='')}/revoke")
    typer.echo(json.dumps(found) if as_json else f"{device} is revoked")


@app.command()
def audit(hub: Hub = None, token: Token = None, directory: Folder = None, ca: Ca = None, as_json: Json = False) -> None:
    """Show who did what, newest first."""
    from edgesdk.cli.fleet_views import audit_table, show  # noqa: PLC0415

    with _client(hub, token, directory, ca) as client:
        show(client.get("/audit"), as_json, audit_table)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A policy file's contents, not yet checked: the hub does that."""

    trial: dict[str, Any]
    gates: list[dict[str, Any]]
    config: dict[str, Any]


def _read_policy(path: Path | None) -> _Plan:
    from edgesdk.errors import ConfigError  # noqa: PLC0415

    if path is None:
        return _Plan({}, [{}], {})
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("file-missing", f"there is no policy file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError("config-invalid", f"{path}: {error}") from error
    if unknown := sorted(set(found) - {"trial", "gate", "config"}):
        raise ConfigError("config-unknown-key", f"{path} has {', '.join(unknown)}; known: trial, gate, config")
    gates = found.get("gate", {})
    return _Plan(found.get("trial", {}), gates if isinstance(gates, list) else [gates], found.get("config", {}))


def _client(hub: str | None, token: str | None, directory: Path | None, ca: Path | None) -> HubClient:
    from edgesdk.fleet.client import HubClient  # noqa: PLC0415

    return HubClient.find(url=hub, token=token, folder=directory, ca=ca)


def _started(client: HubClient, rollout: dict[str, Any], follow: bool, as_json: bool) -> None:
    if follow:
        _follow(client, rollout["id"], as_json)
        return
    devices = f"{rollout['devices']} device{'' if rollout['devices'] == 1 else 's'}"
    text = f"rollout {rollout['id']} of {rollout['model']} {rollout['release']} to {devices}"
    typer.echo(json.dumps(rollout) if as_json else f"{text}\nfollow it: edge fleet watch {rollout['id']}")


def _follow(client: HubClient, rollout: str, as_json: bool) -> None:
    from edgesdk.cli.fleet_views import rollout_table, trial_note, watch_line  # noqa: PLC0415

    last: dict[str, Any] = {}
    note = ""
    for last in client.watch(rollout):
        typer.echo(json.dumps(last) if as_json else watch_line(last))
        if not note and not as_json and (note := trial_note(last)):
            typer.echo(note)
    if not as_json:
        rollout_table(last)
    if last["state"] != "done":
        raise typer.Exit(HALTED)


def _change(client: HubClient, rollout: str, verb: str, as_json: bool) -> None:
    with client:
        found = client.post(f"/rollouts/{quote(rollout, safe='')}/{verb}")
    typer.echo(json.dumps(found) if as_json else f"rollout {rollout} is {found['state']}")
