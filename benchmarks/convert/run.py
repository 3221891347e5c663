"""One case on one target: our conversion and the other tools', judged and timed alike; a row for each artifact.

Every artifact is run by the same code on the same samples and compared with the same float model. Where a target's
artifact cannot be run here, its row holds what our release's report says, and ``judged`` says so.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from edgesdk_converters import Request, convert
from edgesdk_converters.data import open_data
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.pipeline import SilentPlan
from edgesdk_converters.request import read_contract
from edgesdk_converters.steps import Step

from convert import measured, peers, zoo
from convert.figures import Compared, compare, median_ratio
from convert.peers import Peer
from convert.zoo import Case
from edgesdk.bundle.archive import open_bundle
from edgesdk.errors import EdgeError
from edgesdk.targets.profiles import load_profile

HERE = f"linux-{platform.machine()}-cpu"
RECIPE = {"jetson-orin-gpu": "int8-tensorrt", "qualcomm-htp": "int8-qnn"}
"""Where it is not ``int8``."""
MAX_DROP = 0.01
"""What our gate is given: one point."""
REFUSALS = frozenset({"accuracy-gate", "accuracy-thin", "repair-exhausted"})
SLOW_S = 20.0
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
        artifact: The file that can be run here; None if there is none.
        row: What is known without running it.
    """

    artifact: Path | None
    row: Row


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
    """

    def __init__(self, cache: Path, results: Results, say: Any = print) -> None:
        self._cache, self._results, self._say = cache, results, say

    def run(self, case: Case, target: str, formats: tuple[str, ...]) -> None:
        """Add the rows of one case on one target that are not there yet."""
        folder = zoo.prepare(case, self._cache)
        for artifact_format in formats:
            models = [path for path in zoo.sources(folder) if path.suffix[1:] in {artifact_format, "keras"}]
            tools = [OURS, *(peer.name for peer in peers.available() if peer.suffix == artifact_format)]
            missing = [tool for tool in tools if not self._results.has(case.name, target, artifact_format, tool)]
            if models and missing:
                _Place(self, case, folder, target, artifact_format).fill(models[0], missing)

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
        self._bench, self._case, self._folder = bench, case, folder
        self._target, self._format = target, artifact_format
        self._scratch = bench.cache / "work" / case.name / artifact_format

    def fill(self, model: Path, tools: list[str]) -> None:
        """Make, judge and time the artifacts of `tools`, and add their rows."""
        reference = self._float(model)
        if reference.artifact is None:
            for tool in tools:
                self._add(tool, {**reference.row, "status": "no float model"})
            return
        source = reference.artifact if model.suffix == ".keras" else model
        made = {tool: self._make(tool, model, source) for tool in tools}
        answers = measured.outputs(reference.artifact, self._folder, self._scratch / "answers")
        rows = {tool: {**each.row, **self._judge(tool, each, answers)} for tool, each in made.items()}
        for tool, each in made.items():
            if each.artifact and not each.row.get("placement"):
                rows[tool]["placement"] = self._lint(each.artifact)
        for row in rows.values():
            row["float_bytes"] = reference.artifact.stat().st_size
            if row.get("bytes"):
                row["size_ratio"] = row["bytes"] / row["float_bytes"]
        runnable = {tool: each.artifact for tool, each in made.items() if each.artifact and "value" in rows[tool]}
        if self._target == HERE and runnable:
            self._race({FLOAT: reference.artifact, **runnable}, rows)
        for tool, row in rows.items():
            self._add(tool, row)

    def _add(self, tool: str, row: Row) -> None:
        head = {"case": self._case.name, "target": self._target, "format": self._format, "tool": tool}
        self._bench.add({**row, **head, "run": circumstances()})
        told = row.get("difference", row.get("words", ""))
        self._bench.say(f"{' '.join(head.values())}: {row['status']} {told}")

    def _float(self, model: Path) -> Made:
        """Return the float artifact as our recipe ``float`` gives it: the same for every target."""
        return self._ours(model, "float", HERE, gate=False, reason="it is the float model itself")

    def _make(self, tool: str, model: Path, source: Path) -> Made:
        if tool == OURS:
            return self._ours(model, RECIPE.get(self._target, "int8"), self._target, max_drop=MAX_DROP, **_repair())
        peer = next(peer for peer in peers.PEERS if peer.name == tool)
        out = self._scratch / tool
        if not (out / MADE).exists():  # defaults know no target, so what was made for another one will do
            shutil.rmtree(out, ignore_errors=True)
            row = self._by_peer(peer, source, out)
            (out / MADE).write_text(zoo.dumps(row))
        row = json.loads((out / MADE).read_text())
        return Made(artifact=out / f"model.{peer.suffix}" if row["status"] == "made" else None, row=row)

    def _by_peer(self, peer: Peer, source: Path, out: Path) -> Row:
        out.mkdir(parents=True)
        try:
            feeds = measured.write_feeds(source, self._folder, self._scratch / "feeds")
            artifact = peer.quantize(source, feeds, out)
        except EdgeError as error:
            return {"status": "failed", "code": error.code, "words": str(error)}
        note = out / "note.txt"
        noted = {"note": note.read_text()} if note.exists() else {}
        return {"status": "made", "bytes": artifact.stat().st_size, **noted}

    def _ours(self, model: Path, recipe: str, target: str, **words: Any) -> Made:
        out = self._scratch / f"release-{target}-{recipe}"
        shutil.rmtree(out, ignore_errors=True)
        data = {name: self._folder / f"{name}.npz" for name in ("calibration", "evaluation")}
        try:
            made = convert(
                model,
                name=self._case.name,
                release="1.0.0",
                targets=[target],
                contract=self._folder / "contract.toml",
                out=out,
                formats=[self._format],
                recipes=[recipe],
                cache_dir=self._bench.cache / "steps",
                observer=_Told(self._bench.say),
                **data,
                **words,
            )
        except EdgeError as error:
            refused = error.code in REFUSALS
            row = {"status": "refused" if refused else "failed", "code": error.code, "words": str(error)}
            return Made(artifact=None, row=row)
        variant = made.report["variants"][0]
        with open_bundle(next(made.folder.glob("*.edge"))) as bundle:
            bundle.extract(out / "unpacked")
            artifact = out / "unpacked" / bundle.manifest.stages[0].artifact
            evaluation = msgspec.to_builtins(bundle.manifest.evaluation)
        row = {
            "status": "made",
            "bytes": artifact.stat().st_size,
            "recipe": variant["recipe"]["name"],
            "placement": variant.get("placement"),
            "pareto": made.report.get("pareto"),
            "report": evaluation,
        }
        return Made(artifact=artifact, row=row)

    def _judge(self, tool: str, made: Made, reference: dict[str, Any]) -> Row:
        if made.artifact is None:
            return {}
        try:
            found = measured.outputs(made.artifact, self._folder, self._scratch / "answers")
        except EdgeError as error:
            if tool == OURS and made.row["report"] is not None:
                return {**_from_report(made.row["report"]), "judged": "by the release's report"}
            return {"status": "broken", "code": error.code, "words": str(error)}
        return {**self._compare(reference, found).plain(), "judged": "here"}

    def _lint(self, artifact: Path) -> Row | None:
        """Return where the target's rules say that the operators run; None for a CPU, or where there are no rules."""
        if self._target.endswith("-cpu"):
            return None
        try:
            found = check(read_graph(artifact), load_profile(self._target))
        except EdgeError:
            return None
        share = 1 - found.macs_off / found.macs if found.macs else None
        on = found.ops - found.ops_off
        return {"accelerator": on, "cpu": found.ops_off, "macs_share": share, "refused": found.refused, "by": "lint"}

    def _compare(self, reference: dict[str, Any], found: dict[str, Any]) -> Compared:
        contract = read_contract(self._folder / "contract.toml")
        labels = open_data(self._folder / "evaluation.npz", contract, labelled=self._case.labelled).labels
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


def _from_report(evaluation: dict[str, Any]) -> Row:
    return {
        "value": evaluation["value"],
        "float_value": evaluation["source_value"],
        "difference": evaluation["difference"],
        "interval": list(evaluation["interval"]),
        "samples": evaluation["samples"],
    }


def _repair() -> dict[str, bool]:
    """Return ``repair=True`` where this version knows it."""
    known = {field.name for field in msgspec.structs.fields(Request)}
    return {"repair": True} if "repair" in known else {}


def selected(names: list[str] | None) -> Iterator[Case]:
    """Yield the named cases, or all."""
    for name, case in zoo.cases().items():
        if not names or name in names:
            yield case
