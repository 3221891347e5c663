"""How `edge fleet` shows things to people; scripts get the JSON of the API."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgesdk.errors import CODES, FAMILIES, DeploymentError, EdgeError

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
HALTED = "halted"
MINUTE, HOUR, DAY = 60, 3600, 86400
_SHOWN = 30  # devices of a rollout, and statements of a device, that are listed one by one
_NAMED = 8  # devices that are named for one reason
_FOLDED = 16  # characters that a folding column keeps at least
_WIDEST = 10_000
_SHA256 = 64


def show(found: T, as_json: bool, table: Callable[[T], None]) -> None:
    """Print JSON or a table."""
    if as_json:
        print(json.dumps(found))  # noqa: T201 - the command's output
    else:
        table(found)


def devices_table(devices: list[dict[str, Any]]) -> None:
    """Show devices, one row per device and model; what is wrong stands below, with what to do."""
    if not devices:
        _say("no device has enrolled yet; make a token for one: edge fleet token")
        return
    table = _table("device", "presence", "model", "state", "runs", "asked", "said")
    notes: list[str] = []
    for device in devices:
        presence = "revoked" if device["revoked"] else "online" if device["online"] else "offline"
        for model in sorted(set(device["models"]) | set(device["desired"])) or [""]:
            said, asked = device["models"].get(model, {}), device["desired"].get(model, {})
            table.add_row(
                device["id"],
                presence,
                _plain(model) or "-",
                _coloured(said.get("state", "-")),
                _plain(said.get("good_release") or "-"),
                _asked(asked, said),
                f"{age(said['age_seconds'])} ago" if said else "-",
            )
            if said.get("reason"):
                notes += _reason([device["id"]], model, said["reason"])
        if problem := device.get("problem"):
            told = {**problem, "message": f"does not act on what it was asked: {problem['message']}"}
            notes += _reason([device["id"]], "", told)
        if device["ahead"]:
            why = "was it enrolled again, or the hub restored?"
            notes.append(f"{device['id']} is ahead of this hub: it obeys a later document ({why})")
    _print(table, [*notes, *_halted(devices)])


def _asked(asked: dict[str, Any], said: dict[str, Any]) -> str:
    """Return the release that a device's document names, in brackets if nothing comes of it any more."""
    release = asked.get("release") or "-"
    return f"({release})" if _is_dead(asked, said) else release


def _is_dead(asked: dict[str, Any], said: dict[str, Any]) -> bool:
    """Say whether a document is of a rollout that was halted before the device ran its release."""
    return asked.get("rollout") == HALTED and asked["release"] != said.get("good_release")


def _halted(devices: list[dict[str, Any]]) -> list[str]:
    """Say whose document is of a rollout that was halted, a line for each rollout."""
    who: dict[tuple[str, str, str], list[str]] = {}
    for device in devices:
        for model, asked in device["desired"].items():
            if _is_dead(asked, device["models"].get(model, {})):
                who.setdefault((asked["deployment"], model, asked["release"]), []).append(device["id"])
    return [
        f"({release}): rollout {rollout} of {_plain(model)} {release} was halted; it is still in the document of"
        f" {_names(found)}, which the next deployment or rollback replaces"
        for (rollout, model, release), found in who.items()
    ]


def device_view(device: dict[str, Any]) -> None:
    """Show one device: what it can do, what it runs, what it said."""
    _say(f"{device['id']} ({_plain(device['name'])}), enrolled {moment(device['enrolled_at'])} UTC")
    able = device.get("capabilities")
    if able:
        runtimes = ", ".join(f"{each['package']} {each['version']}" for each in able["runtimes"]) or "no runtime"
        _say(_plain(f"{able['architecture']}, {runtimes}, {able['memory_bytes'] / 2**30:.1f} GiB of memory"))
    devices_table([device])
    if device["history"]:
        table = _table("when (UTC)", "model", "release", "state", "reason", folding="reason")
        for each in device["history"][:_SHOWN]:
            reason = each["reason"] or {}
            table.add_row(
                moment(each["received_at"]),
                _plain(each["model"]),
                _plain(each["release"] or "-"),
                _coloured(each["state"]),
                _plain(reason.get("code", "")),
            )
        _print(table)


def answer_lines(device: str, what: str, answer: dict[str, Any]) -> list[str]:
    """Return what a device replied to `edge fleet ask`, line by line, harmless to a terminal."""
    result = answer["result"]
    match what:
        case "ping":
            found = [f"{device} answered in {answer['seconds']:.2f} s"]
        case "deploy-now":
            found = [f"{device} looks at the repository and at its desired document now"]
        case "logs" if isinstance(lines := result.get("lines"), list):
            found = [str(line) for line in lines]
        case _:
            width = max(map(len, result), default=0)
            texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in result.items()}
            found = [f"{key:<{width}}  {text}" for key, text in texts.items()]
    return [printable(line) for line in found]


def refusal(device: str, reason: dict[str, Any]) -> EdgeError:
    """Return a device's reason as our error, in its words."""
    code, words = printable(str(reason["code"])), printable(str(reason.get("message", "")))
    hint = printable(str(reason.get("hint", ""))) or None
    if code in CODES:
        return FAMILIES[CODES[code].family](code, f"{device} says: {words}", hint=hint)
    return DeploymentError("command-refused", f"{device} says: {words} [{code}]", hint=hint)


def rollouts_table(rollouts: list[dict[str, Any]]) -> None:
    """Show rollouts, newest first."""
    if not rollouts:
        _say("nothing was deployed yet: edge fleet deploy MODEL RELEASE --all")
        return
    table = _table("rollout", "release", "state", "waves", "devices", "started (UTC)")
    notes = []
    for each in rollouts:
        waves = f"{each['opened']}/{each['waves']}"
        started = moment(each["created_at"])
        name = f"{each['model']} {each['release']}"
        table.add_row(each["id"], name, _coloured(each["state"]), waves, str(each["devices"]), started)
        if each["reason"]:
            notes.append(f"{each['id']}: {_plain(each['reason'])}")
    _print(table, notes)


def rollout_table(rollout: dict[str, Any]) -> None:
    """Show one rollout: its waves, each device (of many, only those that are not done), and what is wrong."""
    line = f"{rollout['id']}: {rollout['model']} {rollout['release']} is {_coloured(rollout['state'])}"
    _say(line + (f"; {_plain(rollout['reason'])}" if rollout["reason"] else ""))
    waves = rollout["waves"]
    many = sum(len(wave["devices"]) for wave in waves) > _SHOWN
    table = _table("wave", "device", "standing", "state")
    wrong: dict[tuple[str, str, str], list[str]] = {}
    for number, wave in enumerate(waves, start=1):
        if many:
            counted = Counter(_standing(wave, each) for each in wave["devices"])
            _say(f"wave {number}: " + ", ".join(f"{count} {name}" for name, count in sorted(counted.items())))
        for each in wave["devices"]:
            standing = _standing(wave, each)
            if not many or standing not in {"committed", "waiting"}:
                table.add_row(str(number), each["device"], standing, _coloured(each["state"] or "-"))
            if each["reason"]:
                wrong.setdefault((each["reason"], each["message"], each["hint"]), []).append(each["device"])
    notes = [
        line
        for (code, message, hint), found in wrong.items()
        for line in _reason(found, "", {"code": code, "message": message, "hint": hint})
    ]
    _print(table, notes)


def _standing(wave: dict[str, Any], device: dict[str, Any]) -> str:
    return str(device["standing"]) if wave["opened_at"] is not None else "waiting"


def _reason(devices: list[str], model: str, reason: dict[str, Any]) -> list[str]:
    """Say what is wrong with these devices, in their words, and what to do."""
    who = f"{_names(devices)}{' ' + _plain(model) if model else ''}"
    lines = [f"{who}: {_plain(reason['message'])} \\[{_plain(reason['code'])}]"]
    return [*lines, f"  do:  {_plain(reason['hint'])}"] if reason.get("hint") else lines


def _names(devices: list[str]) -> str:
    more = f" and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
    return ", ".join(devices[:_NAMED]) + more


def audit_table(entries: list[dict[str, Any]]) -> None:
    """Show the audit log: a line for what was done, one below it for how."""
    for each in entries:
        subject, actor = _plain(_short(each["subject"])), _plain(each["actor"])
        _say(f"{moment(each['at'])}  [bold]{each['action']:<18}[/]  {subject}  by {actor}")
        if details := [f"{key}={_detail(key, value)}" for key, value in each["details"].items() if value]:
            _say(f"  {_plain(', '.join(details))}")


def _detail(key: str, value: Any) -> str:
    if key == "expires_at":
        return moment(value)
    return " ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _short(subject: str) -> str:
    """Return an id as it is; of a token's, which is a whole SHA-256, the beginning."""
    return f"{subject[:12]}…" if len(subject) == _SHA256 else subject


def watch_line(rollout: dict[str, Any]) -> str:
    """Return one line about a rollout as it is now."""
    opened = [wave for wave in rollout["waves"] if wave["opened_at"] is not None]
    said = Counter(_words(device) for wave in opened for device in wave["devices"])
    shown = ", ".join(f"{count} {words}" for words, count in sorted(said.items()))
    line = f"{rollout['state']:<8} wave {len(opened)}/{len(rollout['waves'])}: {shown or 'nothing asked yet'}"
    return f"{line}; {printable(rollout['reason'])}" if rollout["reason"] else line


def trial_note(rollout: dict[str, Any]) -> str:
    """Say what a trial waits for, once a device is in one; empty before."""
    if not any(device["state"] == "trial" for wave in rollout["waves"] for device in wave["devices"]):
        return ""
    policy = rollout["policy"]
    needs = f"apps must make {policy['min_calls']} calls over at least {policy['min_seconds']:g} s"
    return f"         a trial waits for evidence: {needs}; what one lacks: edge-agent why {rollout['model']} (there)"


def _words(device: dict[str, Any]) -> str:
    """Say where one device stands: its own word, and why."""
    if not device["state"]:
        return printable(f"silent ({device['reason']})" if device["reason"] else "silent")
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
    """Return a time stamp for people, in UTC: of today the time, of other days the date too."""
    then, today = datetime.fromtimestamp(unix_ms / 1000, UTC), datetime.now(UTC).date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M")


def _plain(text: Any) -> str:
    """Make text that a device chose harmless in a table: no markup, no control characters."""
    return escape(printable(str(text)))


def _coloured(state: str) -> str:
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def _table(*names: str, folding: str = "") -> Table:
    """Make a table whose cells are never cut; `folding` names the column that may take several lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for name in names:
        table.add_column(name, no_wrap=name != folding, overflow="fold", min_width=_FOLDED if name == folding else None)
    return table


def _print(table: Table, notes: Sequence[str] = ()) -> None:
    """Print a table, wider than the terminal rather than with an id cut, and the notes below it."""
    console = Console(highlight=False)
    if table.row_count:
        for column in table.columns:
            if column.no_wrap:
                column.min_width = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
        needed = console.measure(table, options=console.options.update(width=_WIDEST)).minimum
        Console(width=max(console.width, needed), highlight=False).print(table)
    for note in notes:
        _say(note)


def _say(line: str) -> None:
    """Print a line; it breaks at blanks."""
    Console(highlight=False).print(line)
