"""What `edge fleet` shows on an 80-column terminal: short facts in the table, explanations below, no id cut."""

import json
import time

import pytest

from edgesdk.cli import fleet_views as views

NOW = int(time.time() * 1000)
LONG = "kitchen-camera-on-the-north-side-of-the-house-bb6977"
REASON = {"code": "trial-evidence", "message": "12 of 300 answers were NaN", "hint": "Look at the golden set."}


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def device(name, **said):
    statement = {
        "state": "committed", "release": "1.0.0", "good_release": "1.0.0", "age_seconds": 21.0, "received_at": NOW,
        "reason": None, "model": "wearable",
    }  # fmt: skip
    return {
        "id": name, "name": "A camera", "revoked": False, "online": True, "ahead": False, "enrolled_at": NOW,
        "models": {"wearable": statement | said}, "desired": {"wearable": {"release": "1.1.0"}}, "capabilities": None,
        "history": [statement | said],
    }  # fmt: skip


def rollout(devices, why="", **more):
    each = {"standing": "committed", "state": "committed", "reason": "", "message": "", "hint": ""}
    shown = [each | {"device": name} | more for name in devices]
    return {
        "id": "r-0123456789", "model": "wearable", "release": "1.1.0", "state": "halted", "reason": why,
        "created_at": NOW, "opened": 1, "devices": len(devices), "waves": [{"opened_at": NOW, "devices": shown}],
    }  # fmt: skip


def test_a_usual_fleet_fits_into_80_columns(capsys):
    """Ids of 20 characters, every fact whole, one line a device."""
    views.devices_table([device("wrist-left-de-0a9a98"), device("wrist-right-d-d07c48", state="rolled_back")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert lines[1].split() == [
        "wrist-left-de-0a9a98",
        "online",
        "wearable",
        "committed",
        "1.0.0",
        "1.1.0",
        "21",
        "s",
        "ago",
    ]


def test_what_a_halted_rollout_asked_says_so(capsys):
    """The document still names the release; that its rollout was halted is marked, and said once below the table."""
    halted = {"wearable": {"release": "1.1.0", "rollout": "halted", "deployment": "r-0123456789"}}
    names = ["wrist-left-de-0a9a98", "wrist-right-d-d07c48"]
    found = [device(name, state="rolled_back") | {"desired": halted} for name in names]
    views.devices_table([*found, device("cam-1", good_release="1.1.0") | {"desired": halted}])
    lines = capsys.readouterr().out.splitlines()
    assert ["(1.1.0)" in line for line in lines[1:4]] == [True, True, False]
    assert max(len(line.rstrip()) for line in lines) <= 80
    said = " ".join(" ".join(lines[4:]).split())
    assert said.count("r-0123456789 of wearable 1.1.0 was halted") == 1
    assert ", ".join(names) in said
    assert "cam-1" not in said  # it runs what was asked


def test_ids_and_times_are_never_cut(capsys):
    """An id as long as they get stays whole in every table, and can be copied."""
    views.devices_table([device(LONG)])
    views.device_view(device(LONG, reason=REASON))
    views.rollout_table(rollout([LONG]))
    entry = {"at": NOW, "actor": "admin", "action": "device.revoke", "subject": LONG, "details": {"reason": "x " * 60}}
    views.audit_table([entry])
    views.rollouts_table([rollout([LONG], why="why " * 40) | {"waves": 1}])
    out = capsys.readouterr().out
    assert out.count(LONG) == 6
    assert out.count(views.moment(NOW)) == 4
    assert "…" not in out


def test_what_is_wrong_stands_below_with_the_fix(capsys):
    """The message and its fix follow the table; many devices with one reason are one note."""
    names = [f"cam-{number}" for number in range(12)]
    fields = {"state": "rolled_back", "standing": "bad", "reason": REASON["code"]}
    views.rollout_table(rollout(names, message=REASON["message"], hint=REASON["hint"], **fields))
    out = capsys.readouterr().out
    assert " ".join(out.split()).count(REASON["message"]) == 1
    assert "and 4 more" in out
    assert f"do:  {REASON['hint']}" in out


def test_a_device_that_does_not_act_says_why(capsys):
    """What a device tells of why it does not act on what it was asked is below the table, harmless, with its fix."""
    problem = {"code": "disk-full", "message": "no [b]room[/b]", "hint": "Make room."}
    views.devices_table([device("cam-1") | {"problem": problem}])
    out = " ".join(capsys.readouterr().out.split())
    assert "cam-1: does not act on what it was asked: no [b]room[/b] [disk-full]" in out
    assert "do: Make room." in out
    waits = rollout(["cam-1"], state="", standing="silent", reason="disk-full", message="no room", hint="")
    views.rollout_table(waits)
    assert "no room [disk-full]" in " ".join(capsys.readouterr().out.split())
    assert "silent (disk-full)" in views.watch_line(waits)


def test_a_large_rollout_lists_who_is_not_done(capsys):
    """Of a thousand devices the committed ones are a number."""
    found = rollout([f"cam-{number}" for number in range(1000)])
    found["waves"][0]["devices"][7] |= {"standing": "bad", "state": "failed"}
    views.rollout_table(found)
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 10
    assert "wave 1: 1 bad, 999 committed" in out
    assert "cam-7 " in out


def test_an_empty_hub_says_what_is_next(capsys):
    """No empty tables."""
    views.devices_table([])
    views.rollouts_table([])
    out = capsys.readouterr().out
    assert "edge fleet token" in out
    assert "edge fleet deploy" in out


def test_devices_do_not_write_markup(capsys):
    """Markup and control characters in a device's words are shown as they are, harmless."""
    nasty = {"code": "x", "message": "[red]\x1b[2J[/bold]", "hint": "[link=file:///]y"}
    views.devices_table([device("cam-1", reason=nasty)])
    out = capsys.readouterr().out
    assert "[red]" in out
    assert "[link=file:///]y" in out
    assert "\x1b" not in out


def test_json_is_the_api(capsys):
    """With --json nothing is shortened."""
    views.show({"a": 1}, True, print)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_a_trial_says_what_it_waits_for():
    """Once a device is in a trial, the operator reads which evidence it lacks and where to look; not before."""
    found = rollout(["a", "b"]) | {"policy": {"min_calls": 200, "min_seconds": 60.0}}
    assert views.trial_note(found) == ""
    found["waves"][0]["devices"][1]["state"] = "trial"
    note = views.trial_note(found)
    assert "200 calls over at least 60 s" in note
    assert "edge-agent why wearable" in note
