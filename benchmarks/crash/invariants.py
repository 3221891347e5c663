"""What must hold after every fault; each broken one is a sentence."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from edgesdk_agent.paths import Paths
from edgesdk_agent.store.disk import Reserve

from crash.device import Device, Want, generation_of
from crash.facts import Facts
from crash.repository import MODEL
from crash.scenarios import Scenario
from edgesdk.bundle.decode import decode_manifest
from edgesdk.errors import EdgeError
from edgesdk.generation import Slots, decode_generation, generation_dir, read_slots, slots_file

READABLE_FILE, READABLE_FOLDER = 0o444, 0o555


def serving(root: Path, scenario: Scenario, bundles: Path, facts: Facts) -> Iterator[str]:
    """Look with an app's eyes at what lies there, before any agent runs: old or new, and whole."""
    store = Paths(root).store
    try:
        slots = read_slots(store, MODEL)
    except EdgeError as error:
        yield f"the slots are not readable: {error}"
        return
    allowed = [generation_of(bundles, want) if want else None for want in scenario.good]
    good = slots.good if slots else None
    if good not in allowed:
        yield f"good is {good}, allowed are {allowed}"
        return
    told = facts.stated["good"] if facts.stated and "good" in facts.stated else allowed[0]
    if told in allowed and allowed.index(good) < allowed.index(told):
        yield f"good went back to {good} after {told} was stated"
    if slots is None:
        if scenario.before:
            yield "the slots are gone"
        return
    if slots.serve == "none" and good is not None:
        yield f"nothing is served although {good} is good"
    slots_at = slots_file(store, MODEL)
    for path in (store, store / "models", store / "generations", slots_at.parent, slots_at):
        yield from closed(path)
    if slots.trial in facts.ended:
        yield f"{slots.trial} is on trial after its end was stated"
    yield from whole(store, slots)


def whole(store: Path, slots: Slots) -> Iterator[str]:
    """Check that what is served and what a rollback would serve are whole, and that apps may read them."""
    for generation in sorted({each for each in (slots.serving, slots.good) if each}):
        folder = generation_dir(store, generation)
        try:
            found = decode_generation((folder / "generation.json").read_bytes(), where=generation)
            manifest = decode_manifest((folder / "manifest.json").read_bytes())
        except (OSError, EdgeError) as error:
            yield f"generation {generation} is not whole: {error}"
            continue
        if found.generation != generation or found.release != manifest.release:
            yield f"generation {generation} says that it is {found.generation}, {found.release}"
        for entry in manifest.files:
            path = folder / entry.path
            data = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                yield f"generation {generation}: {entry.path} is not what was signed"
        yield from unreadable(folder)


def unreadable(folder: Path) -> Iterator[str]:
    """Name what an app of another user could not read."""
    for path in (folder, *folder.rglob("*")):
        yield from closed(path)


def closed(path: Path) -> Iterator[str]:
    """Say so if others may not read a file or folder."""
    wanted = READABLE_FOLDER if path.is_dir() else READABLE_FILE
    if path.stat().st_mode & wanted != wanted:
        yield f"apps cannot read {path.name}: mode {path.stat().st_mode & 0o777:o}"


def resumed(device: Device, bundles: Path, scenario: Scenario, facts: Facts) -> Iterator[str]:
    """Check the restarted agent before it does anything new: nothing that was promised is forgotten."""
    state = device.state
    slots = read_slots(device.paths.store, MODEL)
    stated = state.latest_drafts().get(MODEL)
    if stated and slots and (stated.good, stated.serving) != (slots.good, slots.serve):
        yield f"stated is ({stated.good}, {stated.serving}), served is ({slots.good}, {slots.serve})"
    if missing := facts.condemned - set(state.quarantined()):
        yield f"the quarantine of {missing} is forgotten"
    if extra := set(state.quarantined()) - {generation_of(bundles, want) for want in scenario.condemned}:
        yield f"{extra} are in quarantine without a reason"
    if state.serial_floor < facts.serial:
        yield f"the serial floor is {state.serial_floor}, {facts.serial} was accepted"


def ended(device: Device, end: str, want: Want | None, wanted_end: str, bundles: Path) -> Iterator[str]:
    """Check how a deployment ended, and that it left nothing behind."""
    if end != wanted_end:
        yield f"ended {end!r}, expected {wanted_end!r}"
    slots = read_slots(device.paths.store, MODEL)
    good = generation_of(bundles, want) if want else None
    if (slots.good if slots else None) != good:
        yield f"good is {slots and slots.good}, expected {good}"
    if slots is not None:
        if slots.trial is not None:
            yield f"{slots.trial} is still on trial"
        yield from whole(device.paths.store, slots)
        named = {slots.good, slots.previous}
        if left := {path.name for path in (device.paths.store / "generations").iterdir()} - named:
            yield f"generations that no slot names: {left}"
    for folder in (device.paths.staging, device.paths.downloads):
        if left := {path.name for path in folder.iterdir() if not path.name.startswith("anchor-")}:
            yield f"left in {folder.name}: {left}"
    if not Reserve(device.paths.reserve).held:
        yield "the reserve is not held"


def statements(facts: Facts, before: Facts) -> Iterator[str]:
    """Check that no counter that the world has seen is used again."""
    if facts.stated and before.counter and facts.stated["counter"] <= before.counter:
        yield f"statement counter {facts.stated['counter']} after {before.counter}"


def database(path: Path) -> Iterator[str]:
    """Check the closed state.db."""
    db = sqlite3.connect(path)
    try:
        found = db.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        found = [(str(error),)]
    finally:
        db.close()
    if found != [("ok",)]:
        yield f"state.db: {found}"
