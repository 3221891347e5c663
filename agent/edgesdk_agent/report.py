"""What `edge-agent status` says: from the store and from what the running agent wrote; it disturbs neither."""

from __future__ import annotations

from typing import Any

import msgspec

from edgesdk.errors import DeploymentError, EdgeError
from edgesdk.generation import read_slots
from edgesdk_agent.hub import standing
from edgesdk_agent.identity import load_identity
from edgesdk_agent.lock import is_running, tenure
from edgesdk_agent.ota.status import ModelStatus
from edgesdk_agent.paths import Paths
from edgesdk_agent.status_file import read_status as read_agent
from edgesdk_agent.store.records import Quarantined
from edgesdk_agent.telemetry.probes import Probes
from edgesdk_agent.why import Facts, without_models

SHORT = 12


def read_status(paths: Paths) -> dict[str, Any]:
    """Return the identity, whether the agent runs, what is served, and the agent's last words.

    Raises:
        DeploymentError: ``not-enrolled`` or ``store-corrupt``.
    """
    identity, running = load_identity(paths), is_running(paths.lock)
    agent = read_agent(paths.status, tenure=tenure(paths.lock) if running else None)
    return {
        "device": identity.device,
        "fleet": identity.fleet,
        "hub": identity.hub,
        "root": str(paths.root),
        "running": running,
        "slots": _slots(paths),
        "agent": agent,
    }


def read_facts(paths: Paths, model: str | None = None) -> list[Facts]:
    """Return what `edge-agent why` explains: one model, or every model that is known here.

    Raises:
        DeploymentError: ``not-enrolled``, ``store-corrupt``, or ``generation-missing`` for a model not known here.
    """
    found = read_status(paths)
    models = sorted({*found["slots"], *found["agent"].get("models", {})})
    if model is not None and model not in models and models:
        raise DeploymentError(
            "generation-missing",
            f"no model {model!r} is known here; there is {', '.join(models)}",
            hint="Check the name; deploy the model with `edge fleet deploy`.",
        )
    disk_free = Probes(paths.store).disk_free()
    names = [model] if model is not None else models
    return [_facts(found, name, disk_free) for name in names]


def ask_hub(paths: Paths, facts: list[Facts]) -> list[Facts]:
    """Add what the hub says this device's enrolment is worth, if it can be asked; it is, when the broker is not."""
    worth = standing(load_identity(paths), paths)
    return [msgspec.structs.replace(each, standing=worth) for each in facts]


def nothing_known(paths: Paths) -> str:
    """Return what `edge-agent why` says where no model is known, for people.

    Raises:
        DeploymentError: ``not-enrolled``.
    """
    found = read_status(paths)
    online = bool(found["agent"].get("online")) and found["running"]
    worth = "" if online else standing(load_identity(paths), paths)
    problem = found["agent"].get("intake", {}).get("last_problem", "")
    return without_models(running=found["running"], online=online, standing=worth, problem=problem)


def _facts(found: dict[str, Any], model: str, disk_free: int | None) -> Facts:
    agent, slots = found["agent"], found["slots"].get(model, {})
    said = agent.get("models", {}).get(model)
    status = msgspec.convert(said, ModelStatus) if said else None
    failed = agent.get("quarantine", {}).get(status.generation or "") if status else None
    return Facts(
        model=model,
        running=found["running"],
        starting=found["running"] and not agent,
        online=bool(agent.get("online")),
        serial=agent.get("serial", 0),
        problem=agent.get("intake", {}).get("last_problem", ""),
        clock=agent.get("clock", "unproven"),
        status=status,
        slot=slots.get("serve", "none"),
        serving=slots.get(slots.get("serve", "")),
        quarantined=msgspec.convert(failed, Quarantined) if failed else None,
        disk_free=disk_free,
    )


def describe(found: dict[str, Any]) -> str:
    """Write it for people."""
    starting = found["running"] and not found["agent"]
    running = "starting" if starting else "running" if found["running"] else "stopped"
    online = ", online" if found["running"] and found["agent"].get("online") else ""
    lines = [f"{found['device']} in fleet {found['fleet']}: {running}{online}"]
    models = found["agent"].get("models", {})
    for name in sorted({*found["slots"], *models}):
        lines.extend(_model_lines(name, found["slots"].get(name, {}), models.get(name, {})))
    if len(lines) == 1:
        lines.append("no model was deployed here yet")
    return "\n".join(lines)


def _model_lines(name: str, slots: dict[str, Any], model: dict[str, Any]) -> list[str]:
    if "error" in slots:
        return [f"  {name}: {slots['error']}"]
    serving = slots.get(slots.get("serve", ""))
    served = f"serves {slots['serve']} {serving[:SHORT]}" if serving else "serves nothing"
    state = f", {model['state']}" if model.get("state") else ""
    release = f" {model['release']}" if model.get("release") else ""
    lines = [f"  {name}: {served}{state}{release}"]
    reason = model.get("reason")
    if reason:
        lines.append(f"    {reason.get('message', '')} [{reason['code']}]")
        if reason.get("hint"):
            lines.append(f"    do: {reason['hint']}")
    return lines


def _slots(paths: Paths) -> dict[str, Any]:
    folder = paths.store / "models"
    found: dict[str, Any] = {}
    for model in sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else ():
        try:
            slots = read_slots(paths.store, model)
        except EdgeError as error:
            found[model] = {"error": str(error)}
            continue
        if slots is not None:
            found[model] = msgspec.to_builtins(slots)
    return found
