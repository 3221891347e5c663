"""Steps: what a conversion consists of, in order; each runs in a child process unless its result is cached."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from edgesdk.errors import ReleaseError
from edgesdk_converters.running.cache import Entry, StepCache, step_key
from edgesdk_converters.running.durations import Durations
from edgesdk_converters.running.environments import Environment, ensure, find
from edgesdk_converters.running.isolation import Progress, Task, run_child
from edgesdk_converters.sources import source_sha256

_MODULES = ("contract.py", "stats.py")
_CODE = (
    "edgesdk_converters",
    "edgesdk_converters.backends",
    "edgesdk_converters.backends.tools",
    "edgesdk_converters.calibration",
    "edgesdk_converters.data",
    "edgesdk_converters.drafting",
    "edgesdk_converters.evaluate",
    "edgesdk_converters.lint",
    "edgesdk_converters.lint.rules",
    "edgesdk_converters.passes",
    "edgesdk_converters.running",
    "edgesdk_converters.sources",
    "edgesdk_converters.sources.tools",
    "edgesdk.runtime",
)


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A file that another step makes."""

    step: str
    file: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        name: Unique in the plan; what people see.
        action: ``module:function`` that a child calls with an `isolation.Call`.
        inputs: Files, given or made by earlier steps.
        params: Plain JSON.
        tools: Packages whose versions decide the result.
        environment: Where its tool is, which is made before the step's time begins; its packages decide the result.
        optional: Whether a failure is only noted, as ``{"failed": …}``: what it says is good to know, not needed.
    """

    name: str
    action: str
    inputs: Mapping[str, Path | Ref]
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    environment: Environment | None = None
    optional: bool = False


class Observer(Protocol):
    """Is told how a plan comes along."""

    def begin(self, step: Step) -> Progress:
        """A step starts now; the returned function is called with its progress."""
        ...

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        """A step is done."""
        ...


class Silent:
    """An observer that says nothing."""

    def begin(self, step: Step) -> Progress:
        """Take note of nothing."""
        del step
        return lambda _done, _total: None

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        """Take note of nothing."""


class Once:
    """Tells another observer of each step once, by its name: later plans find what earlier ones made.

    Attributes:
        told: What `report.json` holds of the steps, in the order in which they ended: name, whether it was at hand, and
            the seconds that it took when it ran.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._told: set[str] = set()
        self._now = False
        self.told: list[dict[str, Any]] = []

    def begin(self, step: Step) -> Progress:
        """Pass on the first beginning of a step."""
        self._now = step.name not in self._told
        self._told.add(step.name)
        return self._observer.begin(step) if self._now else lambda _done, _total: None

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        """Pass on the end that belongs to it."""
        if self._now:
            self.told.append({"name": step.name, "cached": cached, "seconds": seconds})
            self._observer.end(step, cached=cached, seconds=seconds)


class Runner:
    """Runs steps in order and keeps their results for those that follow.

    Args:
        cache: Where results are kept.
        timeout_s: Wall time for each step, in seconds.
    """

    def __init__(self, cache: StepCache, *, timeout_s: float) -> None:
        self._cache = cache
        self._durations = Durations(cache.root)
        self._timeout_s = timeout_s
        self._done: dict[str, Entry] = {}
        self._failed: dict[str, ReleaseError] = {}
        self._hashes: dict[Path, str] = {}

    def cached(self, steps: Sequence[Step]) -> set[str]:
        """Return the names of the steps whose results are at hand; nothing is run."""
        found: dict[str, Entry] = {}
        for step in steps:
            if all(not isinstance(source, Ref) or source.step in found for source in step.inputs.values()):
                entry = self._cache.find(self._key(step, found))
                if entry is not None:
                    found[step.name] = entry
        return set(found)

    def expected(self, steps: Sequence[Step]) -> dict[str, float]:
        """Return about how many seconds each step takes, by name; only of those that ran here before."""
        known = {step.name: self._durations.of(step.action, step.name) for step in steps}
        return {name: seconds for name, seconds in known.items() if seconds is not None}

    def run(self, steps: Iterable[Step], observer: Observer) -> dict[str, Entry]:
        """Run steps in order; return their results by name.

        Raises:
            EdgeError: Of the first step that fails; what was done before it stays cached.
        """
        for step in steps:
            key = self._key(step, self._done)
            entry = self._cache.find(key)
            if entry is None and step.environment is not None:
                _prepare(step.environment, observer)
            progress = observer.begin(step)
            cached = entry is not None
            self._done[step.name] = entry or self._attempt(step, key, progress)
            observer.end(step, cached=cached, seconds=self._done[step.name].seconds)
        return dict(self._done)

    def rehearsal(self) -> Rehearsal:
        """Return a runner on the same cache that runs nothing."""
        made = Rehearsal(self._cache, timeout_s=self._timeout_s)
        made._hashes = self._hashes  # noqa: SLF001 - of its own kind; large files are read once
        return made

    def done(self) -> dict[str, Entry]:
        """Return the results of all steps that have run, by name."""
        return dict(self._done)

    def path(self, source: Path | Ref) -> Path:
        """Return where a file is, given or made by a step that has run."""
        return _path(source, self._done)

    def _attempt(self, step: Step, key: str, progress: Progress) -> Entry:
        """Do a step, once also where it fails; a failure of an optional one is its result, which is not kept."""
        try:
            if key in self._failed:
                raise self._failed[key]
            return self._execute(step, key, progress)
        except ReleaseError as error:
            self._failed[key] = error
            if not step.optional:
                raise
            return Entry(folder=Path(), hashes={}, result={"failed": error.to_dict()}, seconds=0.0)

    def _execute(self, step: Step, key: str, progress: Progress) -> Entry:
        inputs = {name: _path(source, self._done) for name, source in step.inputs.items()}
        with self._cache.workspace() as workspace:
            out = workspace / "out"
            out.mkdir()
            started = time.monotonic()
            result = run_child(
                Task(action=step.action, inputs=inputs, params=step.params),
                out,
                log=workspace / "log.txt",
                timeout_s=self._timeout_s,
                on_progress=progress,
            )
            seconds = round(time.monotonic() - started, 3)
            self._durations.note(step.action, step.name, seconds)
            return self._cache.store(key, out, result, seconds)

    def _key(self, step: Step, done: Mapping[str, Entry]) -> str:
        inputs = {name: self._hash(source, done) for name, source in step.inputs.items()}
        versions = {**versions_of(step.tools), "code": _code_digest()}
        if step.environment is not None:
            versions["environment"] = step.environment.key
        return step_key(step.action, inputs, dict(step.params), versions)

    def _hash(self, source: Path | Ref, done: Mapping[str, Entry]) -> str:
        if isinstance(source, Ref):
            return done[source.step].hashes[source.file]
        if source not in self._hashes:
            self._hashes[source] = source_sha256(source)
        return self._hashes[source]


class NotAtHand(Exception):  # noqa: N818 - no failure: it ends a rehearsal
    """A result is not at hand where nothing may be run."""


class Rehearsal(Runner):
    """A runner that runs nothing: it goes on with what is at hand, and stops at steps whose results are not.

    Attributes:
        met: Every step that came, by name.
        missing: Names of those whose results are not at hand.
    """

    def __init__(self, cache: StepCache, *, timeout_s: float) -> None:
        super().__init__(cache, timeout_s=timeout_s)
        self.met: dict[str, Step] = {}
        self.missing: set[str] = set()

    def run(self, steps: Iterable[Step], observer: Observer) -> dict[str, Entry]:
        """Look steps up.

        Raises:
            NotAtHand: If one of them would have to run.
        """
        del observer
        gone: set[str] = set()
        for step in steps:
            self.met.setdefault(step.name, step)
            lacks = any(isinstance(source, Ref) and source.step in gone for source in step.inputs.values())
            entry = None if lacks else self._cache.find(self._key(step, self._done))
            if entry is None:
                gone.add(step.name)
            else:
                self._done[step.name] = entry
        self.missing |= gone
        if gone:
            raise NotAtHand
        return dict(self._done)


def _path(source: Path | Ref, done: Mapping[str, Entry]) -> Path:
    return done[source.step].folder / source.file if isinstance(source, Ref) else source


def _prepare(environment: Environment, observer: Observer) -> None:
    """Make a vendor tool's environment as a step of its own: it may take minutes, once."""
    if find(environment) is not None:
        return
    making = Step(name=f"make the environment {environment.name}", action="", inputs={})
    observer.begin(making)
    started = time.monotonic()
    ensure(environment)
    observer.end(making, cached=False, seconds=round(time.monotonic() - started, 3))


def versions_of(tools: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages, ours included; ``none`` for one that is not installed."""
    return {tool: _version(tool) for tool in sorted({"edgesdk-converters", *tools})}


@functools.cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@functools.cache
def _code_digest() -> str:
    """Return a hash of our own code: while it is being changed, its version is not."""
    digest = hashlib.sha256()
    sources = [files("edgesdk") / name for name in _MODULES]
    for package in _CODE:
        sources += sorted(files(package).iterdir(), key=lambda entry: entry.name)
    for source in sources:
        if source.name.endswith(".py"):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
