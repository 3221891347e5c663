"""How well `edge lint` knows Vela: generated graphs, our verdict beside a real build's, with exact intervals.

python benchmarks/lint.py [--graphs 660] [--seeds 12] [--held-out 13] [--accelerators ethos-u55-128 ethos-u85-256]

Every graph is written directly as a flatbuffer (no TensorFlow), most of them near a limit. Vela 5.2.0 builds each in an
environment of its own (`edgesdk_converters.running.environments`), in a process that may crash. An operator's place is
read from the file that Vela wrote: what is left of it runs on the CPU, all else on the NPU; without a file the build
failed, and all its operators count as refused. The development seeds were looked at while the rules were written; the
held-out seed was not. Prints Markdown: agreement per operator with Clopper-Pearson intervals (95 %; operators of one
graph are not quite independent, so graphs are counted too), and every disagreement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.lint.check import find, off_nodes
from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.rules import find_rules
from edgesdk_converters.running.environments import ensure
from lint_graphs import layout, products, values
from lint_graphs.draw import Draw

from edgesdk.stats import clopper_pearson
from edgesdk.targets.profiles import load_profile

FAMILIES = {**products.FAMILIES, **values.FAMILIES, **layout.FAMILIES}
WORKER = Path(__file__).parent / "lint_graphs" / "worker.py"
STUCK_S = 20.0


@dataclass(frozen=True)
class Case:
    """One operator: what we said, and what Vela did."""

    graph: str
    op: str
    ours: str
    real: str
    why: str

    @property
    def agree(self) -> bool:
        return self.ours == self.real


def generate(folder: Path, seed: int, count: int) -> None:
    """Write `count` graphs; family by family in turn, each as often as its weight says."""
    names = [name for name, (_, weight) in FAMILIES.items() for _ in range(weight)]
    order = np.random.default_rng(seed).permutation(len(names))
    for index in range(count):
        name = names[order[index % len(names)]]
        content = FAMILIES[name][0](Draw(np.random.default_rng([seed, index])))
        (folder / f"{index:05d}-{name}.tflite").write_bytes(content)


def build_all(python: Path, folder: Path, out: Path, accelerator: str) -> dict[str, dict[str, Any]]:
    """Build every file; one that takes Vela down, or does not end, is a failed build too."""
    log = out / "answers.jsonl"
    log.touch()
    count = len(list(folder.glob("*.tflite")))
    while len(log.read_text().splitlines()) < count:
        died = _work([str(python), str(WORKER), str(folder), str(out), accelerator, str(log)], log)
        if died:
            answer = {"file": (out / "current").read_text(), "ok": False, "error": died, "words": "", "seconds": 0.0}
            with log.open("a") as lines:
                lines.write(json.dumps(answer) + "\n")
    return {answer["file"]: answer for answer in map(json.loads, log.read_text().splitlines())}


def _work(command: list[str], log: Path) -> str:
    """Run the worker; return how it died, or nothing."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    size, since = log.stat().st_size, time.monotonic()
    while child.poll() is None:
        if log.stat().st_size != size:
            size, since = log.stat().st_size, time.monotonic()
        if time.monotonic() - since > STUCK_S:
            child.kill()
            child.wait()
            return f"no end within {STUCK_S:g} s"
        time.sleep(0.05)
    return "" if child.returncode == 0 else f"died of signal {-child.returncode}"


def compare(folder: Path, out: Path, accelerator: str, answers: dict[str, dict[str, Any]]) -> Iterator[Case]:
    """Give every operator of every graph with both verdicts."""
    rules = find_rules(load_profile(accelerator), "tflite")
    for path in sorted(folder.glob("*.tflite")):
        graph, answer = read_graph(path), answers[path.name]
        findings = tuple(find(graph, rules))
        refused = any(finding.effect == "refused" for finding in findings)
        off = off_nodes(graph, findings)
        left = _left(out / f"{path.stem}_vela.tflite") if answer["ok"] else set()
        for node in graph.nodes:
            ours = "refused" if refused else "CPU" if node.name in off else "NPU"
            real = "refused" if not answer["ok"] else "CPU" if (node.op, node.name) in left else "NPU"
            said = "; ".join(f"{each.rule}: {each.found}" for each in findings[:2])
            why = f"{said or 'no finding'} | Vela: {answer['error'].splitlines()[0] if answer['error'] else 'built'}"
            yield Case(path.stem, node.op, ours, real, why)


def _left(made: Path) -> set[tuple[str, str]]:
    """Return what Vela left on the CPU; a bool output is renamed by a conversion after it."""
    graph: Graph = read_graph(made)
    return {(node.op, node.name.removesuffix("_int8")) for node in graph.nodes}


def report(name: str, accelerator: str, cases: list[Case], seconds: float) -> None:
    agreed, count = sum(case.agree for case in cases), len(cases)
    graphs = {case.graph for case in cases}
    wrong = {case.graph for case in cases if not case.agree}
    low, high = clopper_pearson(agreed, count, 0.05)
    glow, ghigh = clopper_pearson(len(graphs) - len(wrong), len(graphs), 0.05)
    places = Counter(case.real for case in cases)
    print(f"\n### {name}, {accelerator}: {len(graphs)} graphs, {seconds:.0f} s\n")
    print("| | agree | of | share | 95 % interval |\n| --- | --- | --- | --- | --- |")
    print(f"| operators | {agreed} | {count} | {agreed / count:.2%} | {low:.2%} to {high:.2%} |")
    whole = len(graphs) - len(wrong)
    print(f"| graphs | {whole} | {len(graphs)} | {whole / len(graphs):.2%} | {glow:.2%} to {ghigh:.2%} |")
    print("\nVela: " + ", ".join(f"{places[place]} {place}" for place in ("NPU", "CPU", "refused")) + ".")
    by_op = Counter(case.op for case in cases)
    print(f"{len(by_op)} kinds of operators, most often " + ", ".join(op for op, _ in by_op.most_common(8)) + ".")
    for case in cases:
        if not case.agree:
            print(f"- {case.graph} {case.op}: we said {case.ours}, it was {case.real} ({case.why})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare edge lint with real Vela builds.")
    parser.add_argument("--graphs", type=int, default=660, help="graphs per seed")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[12], help="development seeds (1, 2, 3, 11 and 12 were looked at)"
    )
    parser.add_argument("--held-out", type=int, default=13, help="the seed that was not looked at")
    parser.add_argument("--accelerators", nargs="*", default=["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
    given = parser.parse_args()
    environment = BACKENDS["vela"].environment
    assert environment is not None
    python = ensure(environment, progress=lambda line: print(line, file=sys.stderr))
    print(f"## edge lint beside {environment.packages[0]}")
    for name, seed in [*(("development", seed) for seed in given.seeds), ("held-out", given.held_out)]:
        with tempfile.TemporaryDirectory(prefix="lint-") as work:
            folder = Path(work, "graphs")
            folder.mkdir()
            generate(folder, seed, given.graphs)
            for accelerator in given.accelerators:
                out = Path(work, accelerator)
                out.mkdir()
                started = time.monotonic()
                answers = build_all(python, folder, out, accelerator)
                cases = list(compare(folder, out, accelerator, answers))
                report(f"{name} (seed {seed})", accelerator, cases, time.monotonic() - started)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
