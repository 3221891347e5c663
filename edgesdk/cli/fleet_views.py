"""How `edge fleet` shows things to people; scripts get the JSON of the API."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

T = TypeVar("T")
COLOURS = {
    "committed": "green",
    "done": "green",
    "running": "cyan",
    "paused": "yellow",
    "halted": "red",
    "failed": "red",
    "rolled_back": "red",
    "refused": "yellow",
}
MINUTE, HOUR, DAY = 60, 3600, 86400


def show(found: T, as_json: bool, table: Callable[[T], None]) -> None:
    """Print JSON or a table."""
    if as_json:
        print(json.dumps(found))  # noqa: T201 - the command's output
    else:
        table(found)


def devices_table(devices: list[dict[str, Any]]) -> None:
    """Show devices, one row per device and model."""
    table = Table("device", "name", "presence", "model", "state", "runs", "asked for", "said", "reason")
    for device in devices:
        presence = "revoked" if device["revoked"] else "online" if device["online"] else "offline"
        models = sorted(set(device["models"]) | set(device["desired"])) or [""]
        for model in models:
            said, asked = device["models"].get(model, {}), device["desired"].get(model, {})
            table.add_row(
                device["id"],
                _plain(device["name"]),
                presence,
                _plain(model),
                _coloured(said.get("state", "-")),
                _plain(said.get("good_release") or "-"),
                asked.get("release") or "-",
                f"{age(said['age_seconds'])} ago" if said else "-",
                _plain((said.get("reason") or {}).get("code", "")) or ("ahead of this hub" if device["ahead"] else ""),
            )
    _print(table)


def rollouts_table(rollouts: list[dict[str, Any]]) -> None:
    """Show rollouts, newest first."""
    table = Table("rollout", "model", "release", "state", "waves", "devices", "started", "why")
    for each in rollouts:
        waves = f"{each['opened']}/{each['waves']}"
        started = moment(each["created_at"])
        table.add_row(
            each["id"],
            each["model"],
            each["release"],
            _coloured(each["state"]),
            waves,
            str(each["devices"]),
            started,
            _plain(each["reason"]),
        )
    _print(table)


def rollout_table(rollout: dict[str, Any]) -> None:
    """Show one rollout, device by device."""
    table = Table("wave", "device", "standing", "state", "reason", "message", "fix")
    for number, wave in enumerate(rollout["waves"], start=1):
        for each in wave["devices"]:
            standing = each["standing"] if wave["opened_at"] is not None else "waiting"
            table.add_row(
                str(number),
                each["device"],
                standing,
                _coloured(each["state"] or "-"),
                _plain(each["reason"]),
                _plain(each["message"]),
                _plain(each["hint"]) if each["reason"] else "",
            )
    _print(table)
    line = f"{rollout['id']}: {rollout['model']} {rollout['release']} is {_coloured(rollout['state'])}"
    Console().print(line + (f"; {_plain(rollout['reason'])}" if rollout["reason"] else ""), highlight=False)


def audit_table(entries: list[dict[str, Any]]) -> None:
    """Show the audit log."""
    table = Table("when", "who", "did", "to", "details")
    for each in entries:
        details = ", ".join(f"{key}={value}" for key, value in each["details"].items() if value not in (None, "", []))
        table.add_row(
            moment(each["at"]), _plain(each["actor"]), each["action"], _plain(each["subject"]), _plain(details)
        )
    _print(table)


def watch_line(rollout: dict[str, Any]) -> str:
    """Return one line about a rollout as it is now."""
    opened = [wave for wave in rollout["waves"] if wave["opened_at"] is not None]
    said = Counter(_words(device) for wave in opened for device in wave["devices"])
    shown = ", ".join(f"{count} {words}" for words, count in sorted(said.items()))
    line = f"{rollout['state']:<8} wave {len(opened)}/{len(rollout['waves'])}: {shown or 'nothing asked yet'}"
    return f"{line}; {printable(rollout['reason'])}" if rollout["reason"] else line


def _words(device: dict[str, Any]) -> str:
    """Say where one device stands: its own word, and why."""
    if not device["state"]:
        return "silent"
    return printable(f"{device['state']} ({device['reason']})" if device["reason"] else device["state"])


def printable(text: str) -> str:
    """Replace control characters: what a device says must not steer the operator's terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def age(seconds: float) -> str:
    """Return a duration for people: 42 s, 5 min, 3 h, 2 d."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def moment(unix_ms: int) -> str:
    """Return a time stamp for people, in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(text: Any) -> str:
    """Make text that a device chose harmless in a table: no markup, no control characters."""
    return escape(printable(str(text)))


def _coloured(state: str) -> str:
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def _print(table: Table) -> None:
    Console().print(table)
