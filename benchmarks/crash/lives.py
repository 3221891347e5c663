"""Lives of the agent: forked children with the shim armed, one after the other on one folder, each with its fault."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crash import invariants, mutants
from crash.device import Device
from crash.facts import Facts
from crash.filesystem import FileSystem, Keep, materialise
from crash.scenarios import FRESH, FRESH_SERIAL, Scenario
from crash.shim import INJECTED, Call, Shim, read_log

LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: ``kill``, ``ENOSPC``, ``EIO``, ``short``, ``full``, or ``power``.
        at: Number of the call that meets it; the call is not done (``short``: half of it is).
        outcome: Of a power cut: which of the ways it turned out.
    """

    kind: str
    at: int
    outcome: int = 0


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything of a worker lies.

    Attributes:
        bundles: The releases; served at `url`.
        starts: The folders in which scenarios begin, by name.
        scratch: Private to this worker.
        mutant: How the agent is broken on purpose.
    """

    bundles: Path
    url: str
    starts: Path
    scratch: Path
    mutant: str = ""


class Lives:
    """Runs lives and checks what they leave.

    Args:
        ground: Where everything lies.
        shim: The shim of this process.

    Attributes:
        root: The agent's folder.
        reached: Whether every fault of the last life came to pass.
    """

    def __init__(self, ground: Ground, shim: Shim) -> None:
        self._ground, self._shim = ground, shim
        self._life = 1
        self._unsynced: FileSystem | None = None
        self.reached = False
        self.root = ground.scratch / "agent"

    # ---- one child ----------------------------------------------------------------------------------------------

    def child(
        self, log: Path, faults: tuple[Fault, ...], act: Callable[[Callable[[object], None]], None]
    ) -> list[Call]:
        """Let a child do `act` on the folder with the shim armed; return what it did."""
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            self._in_child(log, faults, act)
        _, status = os.waitpid(process, 0)
        calls = read_log(log)
        if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise RuntimeError(f"a child ended with status {status}; see its error output")
        return calls

    def _in_child(self, log: Path, faults: tuple[Fault, ...], act: Callable[[Callable[[object], None]], None]) -> None:
        try:
            signal.alarm(LIMIT_S)
            gc.disable()
            logging.disable(logging.CRITICAL)
            os.umask(0o077)  # as strict as a service's: what apps must read has to be made readable
            mutants.apply(self._ground.mutant)
            self._shim.begin(self.root, log)
            for fault in faults:
                self._shim.fault(fault.at, fault.kind)
            act(lambda fact: self._shim.note(json.dumps(fact)))
            self._shim.end()
        except BaseException:  # noqa: BLE001 - nothing may come back into the parent's code
            traceback.print_exc()
            os._exit(3)
        os._exit(0)

    def _device(self, note: Callable[[object], None]) -> Device | None:
        """Start the agent; None if an injected error ended its start (systemd would start it again)."""
        try:
            ground = self._ground
            return Device(self.root, ground.bundles, ground.url, note=note, life=self._life)
        except Exception as error:  # noqa: BLE001 - whatever an injected error becomes
            note({"raised": f"start: {error!r}"})
            return None

    def prepare(self, scenario: Scenario) -> None:
        """Make the folder in which a scenario begins, and the log of its undisturbed run."""
        self._clear()
        self.root.mkdir()

        def before(note: Callable[[object], None]) -> None:
            if scenario.before:
                device = self._device(note)
                assert device
                scenario.prepare(device)
                device.close()

        self.child(self._ground.scratch / "prepare.log", (), before)
        shutil.copytree(self.root, self._ground.starts / scenario.name, symlinks=True)

    def record(self, scenario: Scenario) -> tuple[FileSystem, list[Call]]:
        """Walk a scenario undisturbed; return the file system before it, and its log."""
        self._begin(scenario)
        system = FileSystem.load(self.root)
        calls = self.child(self._ground.scratch / "record.log", (), lambda note: self._walk(scenario, note))
        return system, calls

    # ---- histories ----------------------------------------------------------------------------------------------

    def run(self, scenario: Scenario, faults: tuple[tuple[Fault, ...], ...]) -> list[str]:
        """Live a history: a life for each entry, with its faults, then one without; return what is broken.

        A power cut may only be the last fault of a life.
        """
        self._begin(scenario)
        before = Facts()
        for number, of_life in enumerate(faults):
            self._life = number + 1
            before = self._one(scenario, of_life, before, first=number == 0)
            broken = [*before.broken, *self._look(scenario, before)]
            if broken:
                return [f"life {number + 1}: {each}" for each in broken]
        self._life = len(faults) + 1
        return self._recover(scenario, before)

    def _one(self, scenario: Scenario, faults: tuple[Fault, ...], before: Facts, *, first: bool) -> Facts:
        system = self._unsynced or FileSystem.load(self.root)
        cut = next((fault for fault in faults if fault.kind == "power"), None)
        injected = tuple(Fault("kill", fault.at) if fault is cut else fault for fault in faults)
        calls = self.child(
            self._ground.scratch / "life.log",
            injected,
            lambda note: self._walk(scenario, note) if first else self._restart(scenario, note),
        )
        for call in calls:
            system.apply(call)
        if cut:
            self._cut(system, cut)
        self._unsynced = None if cut else system  # what a killed process did not sync may still be lost
        self.reached = sum(bool(call.flags & INJECTED) for call in calls) >= len(faults)
        before.end = ""
        before.hear(calls)
        passing = all(fault.kind in {"ENOSPC", "EIO", "short"} for fault in faults)
        if passing and before.end not in {"", scenario.end}:
            before.broken.append(f"ended {before.end!r} in the life of the error, expected {scenario.end!r}")
        return before

    def replayed(self, scenario: Scenario, calls: list[Call], system: FileSystem, keep: Keep) -> list[str]:
        """Judge one outcome of a power cut of a recorded run: `calls` came before it, `system` is the state there."""
        self._clear()
        materialise(system.after(keep), self.root)
        facts = Facts().hear(calls)
        self._life = 2
        return list(self._look(scenario, facts)) or self._recover(scenario, facts)

    def _cut(self, system: FileSystem, cut: Fault) -> None:
        ways = system.outcomes()
        nodes = system.after(ways[cut.outcome % len(ways)])
        self._clear()
        materialise(nodes, self.root)

    def _begin(self, scenario: Scenario) -> None:
        self._clear()
        self._unsynced = None
        shutil.copytree(self._ground.starts / scenario.name, self.root, symlinks=True)

    def _clear(self) -> None:
        if self.root.exists():
            for folder, _, _ in os.walk(self.root):
                Path(folder).chmod(0o700)
            shutil.rmtree(self.root)

    # ---- what a child does --------------------------------------------------------------------------------------

    def _walk(self, scenario: Scenario, note: Callable[[object], None]) -> None:
        device = self._device(note)
        if device:
            note({"end": scenario.walk(device)})

    def _restart(self, scenario: Scenario, note: Callable[[object], None]) -> None:
        """Go on after a fault."""
        device = self._device(note)
        if device:
            note({"end": scenario.go_on(device)})

    def _look(self, scenario: Scenario, facts: Facts) -> Iterator[str]:
        return invariants.serving(self.root, scenario, self._ground.bundles, facts)

    def _recover(self, scenario: Scenario, before: Facts) -> list[str]:
        """Start once more, undisturbed: the deployment must end right, and a fresh one too."""

        def act(note: Callable[[object], None]) -> None:
            try:
                for what in self._recovery(scenario, before, note):
                    note({"broken": what})
            except Exception as error:  # noqa: BLE001 - an agent that does not start is what we look for
                note({"broken": f"the restarted agent raised {error!r}"})

        calls = self.child(self._ground.scratch / "recovery.log", (), act)
        facts = Facts().hear(calls)
        first = next((fact for fact in _stated(calls)), None)
        counters = list(invariants.statements(Facts(stated=first), before)) if first else []
        return [*facts.broken, *counters]

    def _recovery(self, scenario: Scenario, before: Facts, note: Callable[[object], None]) -> Iterator[str]:
        bundles = self._ground.bundles
        device = Device(self.root, bundles, self._ground.url, note=note, life=self._life)
        device.step()  # a move of the slots that was cut off is made by the first step
        yield from invariants.resumed(device, bundles, scenario, before)
        end = scenario.go_on(device)
        yield from invariants.ended(device, end, scenario.final, scenario.end, bundles)
        device.ask(FRESH, FRESH_SERIAL)
        for what in invariants.ended(device, device.finish(), FRESH, "committed", bundles):
            yield f"wedged: {what}"
        device.close()
        yield from invariants.database(device.paths.state_db)


def _stated(calls: list[Call]) -> Iterator[dict[str, object]]:
    for call in calls:
        if call.op == "note" and "stated" in (fact := json.loads(call.data)):
            yield fact["stated"]
