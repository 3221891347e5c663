"""Deploy again and again to a device while agent, broker and hub (the repository's server) are killed at random.

`python benchmarks/soak.py --updates 200` runs real processes, all of them commands of the product: a broker, a hub
that serves the repository, an agent and an app. Good releases and bad ones come in turn, each under a policy of its
own, so that each is a new generation. During an update a seeded choice of the three is killed with SIGKILL at a
random moment and started again. After each update it checks what must hold: the hub says how it ended, a good release
is what the device serves, a bad one is not, and what serves is whole.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import planted_faults
from planted.releases import FAULTS, MODEL, Recipe, good_recipe

from edgesdk.bundle.decode import decode_manifest
from edgesdk.bundle.layout import MANIFEST_NAME
from edgesdk.demo.processes import Programs
from edgesdk.demo.scene import Device, Scene, read_lines
from edgesdk.errors import EdgeError
from edgesdk.fleet.client import HubClient
from edgesdk.generation import Slots, decode_generation, generation_dir, read_slots

PATIENCE_S = 180.0
LOOK_S = 0.3
VICTIMS = ("agent-onnx", "broker", "hub")
GOOD = ("1.0.0", "1.1.0", "1.2.0")
BAD = {"9.1.0": "label swap", "9.2.0": "NaN on rare inputs", "9.3.0": "dtype"}
BAD_SHARE = 0.3
KILL_SHARE = 0.8


@dataclass
class Tally:
    """What happened."""

    ended: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Site(Scene):
    """The demo's scene with a broker of its own, and with programs that can be killed and started again."""

    def begin(self, recordings: Path, releases: list[Path]) -> Device:
        """Start everything; return the one device."""
        self.ports = {"broker": _free_port(), "hub": _free_port()}
        self.open_repository()
        for release in releases:
            self.publish(release)
        self.start("broker")
        self.start("hub")
        device = self.enrol("onnx")
        self.start_app(device, recordings)
        return device

    def start(self, name: str) -> None:
        """Start the broker, the hub or the agent as it was started first."""
        address = f"mqtt://127.0.0.1:{self.ports['broker']}"
        if name == "broker":
            arguments = ("devbroker", "--port", str(self.ports["broker"]), "--open", "--json")
            self.programs.keep(name, *arguments, module="edgesdk")
        elif name == "hub":
            hub = ("hub", "start", str(self.folder / "hub"), "--repo", str(self.repo), "--port", str(self.ports["hub"]))
            self.hub = self.programs.keep(name, *hub, "--broker", address, "--json", module="edgesdk")
        else:
            config = self.devices[0].folder / "agent.toml"
            self.programs.keep(name, "run", "--config", str(config), "--json", module="edgesdk_agent")

    def kill(self, name: str) -> None:
        """End a program without a word, and start it again."""
        process = self.programs._kept.pop(name)  # noqa: SLF001 - the hands have no way to be rough
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self.start(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no update after so long; 0: no limit")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(Path(folder), options.updates, options.seed, options.minutes * 60)
    report(tally, options.seed, time.monotonic() - began)
    return 1 if tally.wrong else 0


def report(tally: Tally, seed: int, seconds: float) -> None:
    total = sum(tally.ended.values())
    print("| ended | updates |\n|---|---|")
    for ending, count in tally.ended.most_common():
        print(f"| {ending} | {count} |")
    kills = ", ".join(f"{name} {count}" for name, count in sorted(tally.kills.items()))
    median = sorted(tally.seconds)[len(tally.seconds) // 2] if tally.seconds else 0.0
    print(f"\n{total} updates, {len(tally.wrong)} ended wrong; killed: {kills}.")
    print(f"An update took {median:.1f} s (median), all {seconds:.0f} s; seed {seed}.")
    for line in tally.wrong:
        print(f"- {line}")


def run(folder: Path, updates: int, seed: int, limit_s: float = 0.0) -> Tally:
    """Deploy so many updates, unless time runs out."""
    factory, recordings = planted_faults.prepare(folder / "made")
    recipes = {version: good_recipe(number) for number, version in enumerate(GOOD)}
    recipes |= {version: _fault(name) for version, name in BAD.items()}
    releases = [factory.release(version, recipe) for version, recipe in recipes.items()]
    rng, tally, began = random.Random(seed), Tally(), time.monotonic()
    with Programs(folder / "site") as programs:
        site = Site(folder=folder / "site", programs=programs)
        device = site.begin(recordings, releases)
        good = ""
        for number in range(updates):
            if limit_s and time.monotonic() - began > limit_s:
                break
            bad = number > 0 and rng.random() < BAD_SHARE
            release = rng.choice(tuple(BAD)) if bad else rng.choice([each for each in GOOD if each != good])
            good = update(site, device, tally, number, release, rng, good)
            print(f"{number + 1}: {release} {'bad' if bad else 'good'}, serves {good}", file=sys.stderr, flush=True)
    return tally


def update(  # noqa: PLR0917 - one step of the loop above
    site: Site, device: Device, tally: Tally, number: int, release: str, rng: random.Random, good: str
) -> str:
    """Deploy one release with a kill or none; return the release that is good afterwards."""
    began = time.monotonic()
    rollout = ask(site, release, number)
    if rng.random() < KILL_SHARE:
        time.sleep(rng.uniform(0, 6))
        victim = rng.choice(VICTIMS)
        site.kill(victim)
        tally.kills[victim.partition("-")[0]] += 1
    state = follow(site, rollout)
    tally.seconds.append(time.monotonic() - began)
    wanted = good if release in BAD else release
    serves, whole = serving(device)
    expected = "halted" if release in BAD else "done"
    tally.ended[f"{'bad' if release in BAD else 'good'} release: {state}"] += 1
    if (state, serves, whole) != (expected, wanted, True):
        tally.wrong.append(
            f"update {number + 1}, {release}: {state}, serves {serves}, expected {wanted}, whole {whole}"
        )
    return serves


def ask(site: Site, release: str, number: int) -> str:
    """Begin a rollout; the number in its policy makes each generation a new one."""
    trial = {"min_seconds": 0.5, "max_seconds": 60.0, "min_calls": 600 + number, "max_slowdown": None}
    with HubClient.find(folder=site.folder / "hub") as hub:
        body = {"model": MODEL, "release": release, "devices": None, "waves": ["100%"], "policy": trial}
        made: dict[str, Any] = hub.post("/rollouts", body)
    return str(made["id"])


def follow(site: Site, rollout: str) -> str:
    """Wait until the hub says that the rollout is over; a hub that is being started again is waited for."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            with HubClient.find(folder=site.folder / "hub") as hub:
                state = str(hub.rollout(rollout)["state"])
            if state not in {"running", "paused"}:
                return state
        except EdgeError as error:
            if error.code != "hub-unreachable":
                raise
        time.sleep(LOOK_S)
    return "not over"


def serving(device: Device) -> tuple[str, bool]:
    """Return the release that the device serves, and whether every file is the one of its bundle's manifest."""
    slots: Slots | None = read_slots(device.store, MODEL)
    if slots is None or slots.serving is None or slots.serve != "good":
        return "", False
    folder = generation_dir(device.store, slots.serving)
    record = decode_generation((folder / "generation.json").read_bytes(), where=str(folder))
    last = read_lines(device.calls)[-1:]
    answers = not last or not last[0].get("failed")
    listed = decode_manifest((folder / MANIFEST_NAME).read_bytes()).files
    return record.release, answers and all(
        hashlib.sha256((folder / entry.path).read_bytes()).hexdigest() == entry.sha256 for entry in listed
    )


def _fault(name: str) -> Recipe:
    return next(recipe for recipe in FAULTS if recipe.fault.startswith(name))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
