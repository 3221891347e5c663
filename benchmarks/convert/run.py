"""One case on one target: our conversion and the other tools', judged and timed alike; a row for each artifact.

Every artifact answers the same samples and is compared with the same float model. Where a target has a compiler, ours
and the others' go through it, and ``judged`` says who answered: the vendor's simulator where there is one, else the
portable file on this machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from edgesdk_converters import convert
from edgesdk_converters.data.npz import open_data
from edgesdk_converters.pipeline import SilentPlan
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.steps import Step

from convert import measured, onchip, peers, zoo
from convert.figures import Compared, compare, median_ratio
from convert.limits import RowTimeoutError, capped, limited, most_samples
from convert.peers import Peer
from convert.zoo import Case
from edgesdk.bundle.archive import open_bundle
from edgesdk.errors import EdgeError

HERE = f"linux-{platform.machine()}-cpu"
RECIPE = {"jetson-orin-gpu": "int8-tensorrt", "qualcomm-htp": "int8-qnn"}
"""Where it is not ``int8``."""
FAILURES = frozenset({"conversion-timeout", "tool-timeout", "environment-failed", "file-missing"})
"""Of all typed errors those that say nothing of the model and the target."""
UNTYPED = "without an answer", "Error: "
"""In the words of a child that died or raised what it should not: its error is a failure of ours."""
SLOW_S, ROW_S = 20.0, 1200.0
TOOLS = ("onnxruntime", "litert-quantizer", "ai-edge-litert")
OURS, FLOAT, MADE = "edgesdk", "float", "made.json"
Row = dict[str, Any]


class Results:
    """Rows in a file of JSON lines; the last of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.rows: dict[tuple[str, ...], Row] = {_key(row): row for row in rows}

    def has(self, case: str, target: str, artifact_format: str, tool: str) -> bool:
        """Say whether this was run already."""
        return (case, target, artifact_format, tool) in self.rows

    def add(self, row: Row) -> None:
        """Keep a row, on disk too."""
        self.rows[_key(row)] = row
        with self.path.open("a") as file:
            file.write(zoo.dumps(row) + "\n")


def _key(row: Row) -> tuple[str, ...]:
    return row["case"], row["target"], row["format"], row["tool"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a tool made.

    Attributes:
        artifact: The portable file or, of ours for a target with a compiler, what it made; None if there is none.
        row: What is known without running it.
        outputs: What it answered already, where it cannot be asked here.
    """

    artifact: Path | None
    row: Row
    outputs: dict[str, Any] | None = None


class _Told(SilentPlan):
    """Says each step of ours that took its time."""

    def __init__(self, say: Any) -> None:
        self._say = say

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        """Say it."""
        if not cached and seconds > SLOW_S:
            self._say(f"  {step.name}: {seconds:.0f} s")


class Bench:
    """Runs cases.

    Args:
        cache: Where everything fetched and made is kept.
        results: Where rows go.
        say: Is told how it comes along.
        row_s: Seconds that one tool's row may take.
    """

    def __init__(self, cache: Path, results: Results, say: Any = print, row_s: float = ROW_S) -> None:
        self._cache, self._results, self._say, self.row_s = cache, results, say, row_s

    def run(self, case: Case, target: str, formats: tuple[str, ...]) -> None:
        """Add the rows of one case on one target that are not there yet."""
        folder, backend = zoo.prepare(case, self._cache), onchip.backend_of(target, case.name)
        for artifact_format in formats if backend is None else (backend.source,):
            # A target with a compiler takes one format, which is converted to if need be.
            frameworks = (artifact_format, "keras", "pt2")
            wanted = frameworks if backend is None else (*frameworks, "tflite", "onnx")
            models = {path.suffix[1:]: path for path in zoo.sources(folder)}
            found = next((models[suffix] for suffix in wanted if suffix in models), None)
            tools = [OURS, *(peer.name for peer in peers.available() if peer.suffix == artifact_format)]
            missing = [tool for tool in tools if not self._results.has(case.name, target, artifact_format, tool)]
            if found is not None and missing:
                _Place(self, case, folder, target, artifact_format).fill(found, missing)

    def say(self, words: str) -> None:
        """Tell how it comes along."""
        self._say(words)

    def add(self, row: Row) -> None:
        """Keep a row."""
        self._results.add(row)

    @property
    def cache(self) -> Path:
        """Where everything fetched and made is kept."""
        return self._cache


class _Place:
    """One case on one target in one format."""

    def __init__(self, bench: Bench, case: Case, folder: Path, target: str, artifact_format: str) -> None:
        self._bench, self._case, self._whole = bench, case, folder
        self._target, self._format = target, artifact_format
        self._backend = onchip.backend_of(target, case.name)
        self._scratch = bench.cache / "work" / case.name / artifact_format
        # Compilers of ONNX want fixed sizes, which the float artifact has; elsewhere others get the model as it is.
        self._fixed = self._backend is not None and artifact_format == "onnx"
        most = most_samples(case.name, target) if self._backend and self._backend.measure else None
        self._folder = capped(folder, most, bench.cache / "work" / case.name / f"of-{most}")
        self._answers = self._scratch / f"answers-{self._folder.name}"

    def fill(self, model: Path, tools: list[str]) -> None:
        """Make, judge and time the artifacts of `tools`, and add their rows."""
        reference = self._guarded(lambda: self._float(model))
        if reference.artifact is None:
            for tool in tools:
                nothing = {"status": "no float model", "words": "there is no float model of this format"}
                self._add(tool, reference.row if tool == OURS else nothing)
            return
        plain = not self._fixed and model.suffix[1:] == self._format
        source, runnable = (model if plain else reference.artifact), {}
        answers = measured.outputs(reference.artifact, self._folder, self._answers)
        rows: dict[str, Row] = {}
        for tool in tools:
            made = self._guarded(lambda tool=tool: self._judged(self._make(tool, model, source), answers))
            rows[tool] = {**made.row, "float_bytes": reference.artifact.stat().st_size}
            if made.row.get("bytes"):
                rows[tool]["size_ratio"] = made.row["bytes"] / rows[tool]["float_bytes"]
            if made.artifact and "value" in made.row:
                runnable[tool] = made.artifact
            if self._target != HERE:
                self._add(tool, rows[tool])
        if self._target == HERE:
            if runnable:
                self._race({FLOAT: reference.artifact, **runnable}, rows)
            for tool, row in rows.items():
                self._add(tool, row)

    def _guarded(self, make: Callable[[], Made]) -> Made:
        """Return what was made, or a row of what went wrong: nothing that one row does ends the run."""
        try:
            with limited(self._bench.row_s):
                return make()
        except EdgeError as error:
            row = {"status": "refused" if _says_why(error) else "failed", "code": error.code}
            return Made(artifact=None, row={**row, "words": str(error), "cure": error.hint})
        except RowTimeoutError as error:
            return Made(artifact=None, row={"status": "failed", "code": "row-timeout", "words": str(error)})
        except Exception as error:  # noqa: BLE001 - a mistake of ours is a row too
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            return Made(artifact=None, row={"status": "failed", "code": "exception", "words": words})

    def _add(self, tool: str, row: Row) -> None:
        head = {"case": self._case.name, "target": self._target, "format": self._format, "tool": tool}
        self._bench.add({**row, **head, "run": circumstances()})
        told = row.get("difference", row.get("words", ""))
        self._bench.say(f"{' '.join(head.values())}: {row['status']} {told}")

    def _float(self, model: Path) -> Made:
        """Return the float artifact as our recipe ``float`` gives it: the same for every target."""
        return self._ours(model, "float", HERE, self._whole, gate=False, reason="it is the float model itself")

    def _make(self, tool: str, model: Path, source: Path) -> Made:
        if tool == OURS:
            recipe = RECIPE.get(self._target, "int8")
            target = onchip.profile_of(self._target, self._case.name)
            return self._ours(model, recipe, target, self._folder, **self._gate())
        peer = next(peer for peer in peers.PEERS if peer.name == tool)
        out = self._scratch / (f"{tool}-fixed" if self._fixed else tool)
        if not (out / MADE).exists():  # defaults know no target, so what was made for another one will do
            shutil.rmtree(out, ignore_errors=True)
            row = self._by_peer(peer, source, out)
            (out / MADE).write_text(zoo.dumps(row))
        row = json.loads((out / MADE).read_text())
        return Made(artifact=out / f"model.{peer.suffix}" if row["status"] == "made" else None, row=row)

    def _gate(self) -> dict[str, Any]:
        return {"repair": True, "max_drop": self._case.max_drop, "metric": self._case.metric}

    def _by_peer(self, peer: Peer, source: Path, out: Path) -> Row:
        out.mkdir(parents=True)
        try:
            feeds = measured.write_feeds(source, self._whole, self._scratch / "feeds")
            artifact = peer.quantize(source, feeds, out)
        except EdgeError as error:
            return {"status": "failed", "code": error.code, "words": str(error)}
        note = out / "note.txt"
        noted = {"note": note.read_text()} if note.exists() else {}
        return {"status": "made", "bytes": artifact.stat().st_size, **noted}

    def _ours(self, model: Path, recipe: str, target: str, folder: Path, **words: Any) -> Made:
        out = self._scratch / f"release-{Path(target).stem}-{recipe}"
        shutil.rmtree(out, ignore_errors=True)
        data = {name: folder / f"{name}.npz" for name in ("calibration", "evaluation")}
        made = convert(
            model,
            name=self._case.name,
            release="1.0.0",
            targets=[target],
            contract=folder / "contract.toml",
            out=out,
            formats=[self._format],
            recipes=[recipe],
            cache_dir=self._bench.cache / "steps",
            observer=_Told(self._bench.say),
            **data,
            **words,
        )
        [judged], [variant] = made.judged, made.report["variants"]
        with open_bundle(next(made.folder.glob("*.edge"))) as bundle:
            bundle.extract(out / "unpacked")
            artifact = out / "unpacked" / bundle.manifest.stages[0].artifact
        row = {
            "status": "made",
            "bytes": artifact.stat().st_size,
            "recipe": variant["recipe"]["name"],
            "pareto": made.report.get("pareto"),
        }
        if judged.compiled is None:
            return Made(artifact=artifact, row=row)
        result = judged.compiled.result
        row |= {"placement": onchip.placement(result), "estimate": result.get("estimate")}
        return Made(artifact=artifact, row=row, outputs=judged.measured.outputs["evaluation"])

    def _judged(self, made: Made, reference: dict[str, Any]) -> Made:
        """Return what was made with its figures: those of the target, where it can answer for itself."""
        if made.artifact is None:
            return made
        row, found = dict(made.row), made.outputs
        if self._backend is not None and found is None:
            there = onchip.run(made.artifact, self._target, self._case.name, self._folder, self._bench.cache / "steps")
            row |= {"bytes": there.size, "placement": there.placement}
            found = there.outputs
        try:
            found = found or measured.outputs(made.artifact, self._folder, self._answers)
        except EdgeError as error:
            return Made(artifact=None, row={**row, "status": "broken", "code": error.code, "words": str(error)})
        figures = self._compare(reference, found).plain()
        return Made(artifact=made.artifact, row={**row, **figures, "judged": self._judge()})

    def _judge(self) -> str:
        """Return who answered for the artifact."""
        if self._backend is None:
            return "itself" if self._target == HERE else f"itself, on {platform.machine()}"
        if self._backend.measure is None:
            return f"the file before compilation, on {platform.machine()}"
        return f"{self._backend.title} on {platform.machine()}"

    def _compare(self, reference: dict[str, Any], found: dict[str, Any]) -> Compared:
        contract = read_contract(self._folder / "contract.toml")
        labels = open_data(self._folder / "evaluation.npz", contract, labelled=False).truth
        ordered = {spec.name: found[spec.name] for spec in contract.outputs}
        return compare(self._case.figure, reference, ordered, labels)

    def _race(self, artifacts: dict[str, Path], rows: dict[str, Row]) -> None:
        times = measured.latencies(artifacts, self._folder, self._scratch / "race")
        for tool in artifacts.keys() - {FLOAT}:
            ratio, low, high = median_ratio(times[tool], times[FLOAT])
            rows[tool] |= {"latency_ratio": ratio, "latency_interval": [low, high], "rounds": len(times[tool])}
            rows[tool] |= {"float_ms": float(np.median(times[FLOAT])), "ms": float(np.median(times[tool]))}


def circumstances() -> dict[str, Any]:
    """Return when, where and with what a row was made."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{cpu.partition(':')[2].strip()} ({os.cpu_count()} processors, {platform.machine()})",
        "commit": done.stdout.strip() or "unknown",
        "versions": {name: version(name) for name in TOOLS},
    }


def _says_why(error: EdgeError) -> bool:
    """Say whether an error is an answer about the model and the target, not a failure of ours or a tool's."""
    if error.code == "conversion-failed":
        return not any(words in error.message for words in UNTYPED)
    return error.code not in FAILURES


def selected(names: list[str] | None) -> Iterator[Case]:
    """Yield the named cases, or all."""
    for name, case in zoo.cases().items():
        if not names or name in names:
            yield case
