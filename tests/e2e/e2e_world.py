"""A fleet on one machine, made only of the commands that users type; what the end-to-end tests stand on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from edgesdk_agent.paths import Paths
from edgesdk_agent.report import read_status

from edgesdk.fleet.client import HubClient
from edgesdk.generation import generation_dir, read_slots

MODEL = "wearable"
FLEET = "lab"
PATIENCE_S = 150.0
"""Seconds after which a test gives up; nothing waits for so long when things work."""
LOOK_S = 0.1
GRACE_S = 15.0
TRIAL = "[trial]\nmin_seconds = 0.3\nmax_seconds = 80.0\nmin_calls = 20\nmax_slowdown = 20.0\n"
"""As short as a trial can be; v2 takes three times as long as v1."""
LONG_TRIAL = TRIAL.replace("0.3", "60.0")
"""Long enough that a bad release meets the recordings that it is bad on."""
HALTED = 7
GOOD = ("1.0.0", "2.0.0", "2.1.0")
"""Good releases in the order in which tests go round: the store keeps two, so the next one is always downloaded."""


def wait_for(condition: Callable[[], Any], what: str, *, look: float = LOOK_S) -> Any:
    """Return the condition's value once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(look)
    return value


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line that it printed."""
        assert self.code in {0, HALTED}, self.err
        return json.loads(self.out.splitlines()[-1])

    @property
    def error(self) -> dict[str, str]:
        """The one error that it printed."""
        errors = [line for line in self.err.splitlines() if line.startswith('{"error"')]
        assert self.code != 0
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err
        found: dict[str, str] = json.loads(errors[0])["error"]
        assert found["message"]
        assert found["hint"]
        return found


def command(module: str, *arguments: str | Path) -> Done:
    """Run ``python -m MODULE ARGUMENTS`` to its end."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=_environment())
    return Done(done.returncode, done.stdout, done.stderr)


def edge(*arguments: str | Path) -> Done:
    """Run ``edge ARGUMENTS --json`` to its end."""
    return command("edgesdk", *arguments, "--json")


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EDGE_", "EDGESDK_"))}
    return {**clean, "PYTHONUNBUFFERED": "1"}


class Program:
    """A program that is kept running. Its output and log are read all the time, so that it never blocks.

    Attributes:
        lines: What it wrote on both streams so far, line by line.
    """

    def __init__(self, *words: str | Path) -> None:
        self.lines: list[str] = []
        self._ended = False
        self._condition = threading.Condition()
        self._deadly: re.Pattern[str] | None = None
        self._process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def module(cls, name: str, *arguments: str | Path, nice: int = 0) -> Self:
        """Run ``python -m NAME ARGUMENTS``."""
        politely = ("nice", "-n", str(nice)) if nice else ()
        return cls(*politely, sys.executable, "-m", name, *arguments)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if self._deadly is not None and self._deadly.search(line):
                self._process.kill()
                self._deadly = None
            with self._condition:
                self.lines.append(line.rstrip("\n"))
                self._condition.notify_all()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def wait_line(self, pattern: str, *, start: int = 0) -> str:
        """Return the first line from `start` on in which the pattern is found; it may have been written already."""
        wanted = re.compile(pattern)

        def found() -> str | None:
            return next((line for line in self.lines[start:] if wanted.search(line)), None)

        with self._condition:
            assert self._condition.wait_for(lambda: found() or self._ended, PATIENCE_S), self._words(pattern)
            line = found()
        assert line is not None, self._words(pattern)
        return line

    def _words(self, pattern: str) -> str:
        return f"waited in vain for {pattern!r}; the program's last words:\n" + "\n".join(self.lines[-30:])

    def kill_at(self, pattern: str) -> None:
        """SIGKILL it as soon as it writes a line in which the pattern is found."""
        self._deadly = re.compile(pattern)

    def wait_killed(self) -> None:
        """Wait until `kill_at` has done its work."""
        assert self._wait() == -signal.SIGKILL, "\n".join(self.lines[-30:])

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.kill()
        self._wait()

    def end(self) -> None:
        """Ask it to stop; soon after, SIGKILL it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self.kill()

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self._process.terminate()
        return self._wait()

    def _wait(self) -> int:
        code = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None


@dataclass
class App:
    """An app that classifies recordings again and again and writes down every call."""

    program: Program
    log: Path

    def calls(self) -> list[dict[str, Any]]:
        """Return every call so far."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_answer(self, release: str) -> None:
        """Wait until a release has answered a call that begins from now on."""
        before = len(self.calls())
        wait_for(lambda: any(call["release"] == release for call in self.calls()[before:]), f"an answer by {release}")

    def wait_answer_by_anyone(self) -> None:
        """Wait until a call that begins from now on was made."""
        before = len(self.calls())
        wait_for(lambda: len(self.calls()) > before + 1, "a further call")

    def failures(self) -> list[dict[str, Any]]:
        """Return the calls that failed; a program that has died is a failure too."""
        assert self.program.alive, self.program.lines
        return [call for call in self.calls() if call.get("failed")]


@dataclass
class Device:
    """One device: its folder, its agent and its apps.

    Attributes:
        root: What the agent writes into.
    """

    site: Site
    folder: Path
    root: Path
    id: str = ""
    agent: Program | None = None

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.folder / "agent.toml"

    def configure(self, *, runtime: str = "tflite-runtime", interval: float = 1.0, **sections: str) -> None:
        """Write the configuration; further sections are given as TOML lines."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = f'root = "{self.root}"\n[telemetry]\ninterval_seconds = {interval}\n'
        text += f'[runtime]\npackages = ["{runtime}"]\n[retry]\nfirst_seconds = 0.2\nmax_seconds = 1.0\n'
        self.config.write_text(text + "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items()))

    def enrol(self, token: str, *more: str) -> Done:
        """Run ``edge-agent enroll TOKEN``."""
        done = command("edgesdk_agent", "enroll", token, "--config", self.config, *more, "--json")
        if done.code == 0:
            self.id = done.json["device"]
        return done

    def start(self, *, nice: int = 0) -> Program:
        """Start the agent; it is ready when this returns."""
        self.agent = Program.module("edgesdk_agent", "run", "--config", self.config, "--json", nice=nice)
        self.site.running.append(self.agent)
        self.agent.wait_line(r'^\{"device"')
        return self.agent

    def status(self) -> dict[str, Any]:
        """Run ``edge-agent status --json``."""
        found: dict[str, Any] = command("edgesdk_agent", "status", "--config", self.config, "--json").json
        return found

    def look(self) -> dict[str, Any]:
        """Return what ``edge-agent status --json`` would print, without starting a process: for waiting."""
        return read_status(Paths(self.root))

    def good_release(self) -> str | None:
        """Return the release that the good slot names."""
        slots = read_slots(self.root / "store", MODEL)
        if slots is None or slots.good is None:
            return None
        folder = generation_dir(self.root / "store", slots.good)
        release: str = json.loads((folder / "generation.json").read_bytes())["release"]
        return release

    def next_release(self) -> str:
        """Return the good release after the one that is good here: its bundle is not in the store."""
        return GOOD[(GOOD.index(self.good_release() or GOOD[-1]) + 1) % len(GOOD)]

    def journal(self) -> dict[str, Any]:
        """Return the durable journal of the model, as a dead agent left it."""
        with sqlite3.connect(self.root / "state" / "state.db") as db:
            row = db.execute("SELECT body FROM journal WHERE model = ?", (MODEL,)).fetchone()
        found: dict[str, Any] = json.loads(row[0])
        return found

    def start_app(self, *, pause: float = 0.01) -> App:
        """Start an app on this device."""
        log = self.folder / "calls.jsonl"
        program = Program.module(
            "edgesdk.demo.app", "--store", self.root / "store", "--recordings", self.site.recordings, "--log", log,
            "--pause", str(pause),
        )  # fmt: skip
        self.site.running.append(program)
        return App(program, log)


@dataclass
class Site:
    """A repository and a hub that belong together, and everything that runs there.

    Attributes:
        releases: Folders of releases that were made by `edge convert`, by version.
        recordings: What apps classify.
    """

    folder: Path
    releases: dict[str, Path]
    recordings: Path
    running: list[Program] = field(default_factory=list)
    hub: Program | None = None
    url: str = ""
    broker: str = ""

    @property
    def repo(self) -> Path:
        """The repository."""
        return self.folder / "repo"

    @property
    def hub_folder(self) -> Path:
        """The hub's folder."""
        return self.folder / "hub"

    def make(self) -> None:
        """Make hub, keys and repository; the repository names the hub's deployment key."""
        made = edge("hub", "init", self.hub_folder, "--fleet", FLEET).json
        edge("repo", "init", self.repo, "--no-passphrase").json  # noqa: B018 - it asserts success
        edge("repo", "deployment-keys", made["deployment_public"], "--repo", self.repo).json  # noqa: B018 - as above

    def publish(self, release: str) -> Done:
        """Publish a release."""
        return edge("repo", "publish", self.releases[release], "--repo", self.repo)

    def start_hub(self, *options: str) -> dict[str, Any]:
        """Start the hub; return what it says when it is ready."""
        self.hub = Program.module("edgesdk", "hub", "start", self.hub_folder, "--repo", self.repo, "--json", *options)
        self.running.append(self.hub)
        said: dict[str, Any] = json.loads(self.hub.wait_line(r'^\{"url"'))
        self.url, self.broker = said["url"], said["broker"]
        return said

    def fleet(self, *arguments: str | Path) -> Done:
        """Run ``edge fleet ARGUMENTS``."""
        return edge("fleet", *arguments, "--dir", self.hub_folder)

    def device(self, name: str = "dev", *, root: Path | None = None, **options: Any) -> Device:
        """Enrol a device; its agent is not started."""
        folder = self.folder / "devices" / name
        device = Device(self, folder, root or folder / "root")
        device.configure(**options)
        assert device.enrol(self.fleet("token").json["token"], "--name", name).code == 0
        return device

    def policy(self, trial: str = TRIAL) -> Path:
        """Write a policy file."""
        path = self.folder / "policy.toml"
        path.write_text(trial)
        return path

    def deploy(self, release: str, *devices: Device, trial: str = TRIAL, more: tuple[str, ...] = ()) -> str:
        """Run ``edge fleet deploy`` for these devices, or all; return the rollout's id."""
        whom = ("--devices", ",".join(device.id for device in devices)) if devices else ("--all",)
        made = self.fleet("deploy", MODEL, release, *whom, "--policy", self.policy(trial), *more).json
        rollout: str = made["id"]
        return rollout

    def watch(self, rollout: str, *, expect: str = "done") -> dict[str, Any]:
        """Run ``edge fleet watch`` until the rollout has ended; return its end."""
        done = self.fleet("watch", rollout)
        seen: dict[str, Any] = done.json
        assert seen["state"] == expect, seen
        assert done.code == (0 if expect == "done" else HALTED)
        return seen

    def roll_out(self, release: str, *devices: Device, trial: str = TRIAL, expect: str = "done") -> dict[str, Any]:
        """Deploy and watch."""
        return self.watch(self.deploy(release, *devices, trial=trial), expect=expect)

    def stated(self, device: Device) -> dict[str, Any]:
        """Return the device's last statement as ``edge fleet devices --json`` would, without a process: for waiting."""
        with HubClient.find(folder=self.hub_folder) as client:
            (row,) = (each for each in client.devices() if each["id"] == device.id)
        found: dict[str, Any] = row["models"].get(MODEL) or {}
        return found

    def close(self) -> None:
        """End everything that was started here, what was started last first; the hub ends its broker."""
        for program in reversed(self.running):
            if program.alive:
                program.end()


def copy_of(template: Site, folder: Path) -> Site:
    """Return a site of its own that begins as another one that has never run."""
    shutil.copytree(template.folder, folder)
    return Site(folder, template.releases, template.recordings)
