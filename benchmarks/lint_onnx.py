"""How well `edge lint` knows compilers that take ONNX: one operator between two others.

python benchmarks/lint_onnx.py [--targets rk3588 qualcomm-htp jetson-orin-gpu]

rknn-toolkit2's own table, or onnxruntime-qnn's assignment, says where the operator, or what it became, runs; a build
that fails or dies counts as off the NPU. Rockchip's toolkit gets float, as it quantizes itself; Qualcomm's plug-in gets
uint8. TensorRT-RTX's parser takes a file whole or not. Two sets are written by hand, the others drawn at random. The
first set and the development seeds taught the rules; the second set taught a few, the held-out seed none. Rockchip's
toolkit gets norms and GELUs in many orders too, which taught its rules. Makes the
vendors' environments on first use (1.3 GB, 0.5 GB and 0.2 GB).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).parent))
from edgesdk_converters.backends import BACKENDS, find_backend
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.running.environments import ensure
from lint_graphs import onnx_draw, onnx_marks, onnx_patterns
from lint_graphs.onnx_ops import CASES, HELD_OUT, write

from edgesdk.stats import clopper_pearson
from edgesdk.targets.profiles import load_profile

WORKERS = {"rknn": "rockchip_worker.py", "qnn": "qualcomm_worker.py", "tensorrt": "nvidia_worker.py"}
GRAPHS = Path(__file__).parent / "lint_graphs"
ROW = re.compile(r"^D RKNN: .*?\d+\s+(\S+)\s+\S+\s+(NPU|CPU|GPU)\s+.*\s(\S+:\S+)\s*$", re.MULTILINE)
DRAWN = {"jetson-orin-gpu": 1000, "qualcomm-htp": 200}
"""How many are drawn at random for a target whose tool is fast enough."""
SEEDS = {"development (seed 1)": 1, "held-out (seed 21)": 21}
ENDS = ("InputOperator", "OutputOperator")


def off(source: Path) -> tuple[bool, str]:
    """Say whether the tool leaves the probed operator, or a part of it, off the NPU, and in what words."""
    said = source.with_suffix(".said").read_text()
    if said != "built":
        return said != "NPU", said.splitlines()[0][:90]
    rows = ROW.findall(source.with_suffix(".log").read_text(errors="replace"))
    probed = [place for op, place, name in rows if op not in ENDS and not name.endswith((":first", ":last"))]
    return any(place != "NPU" for place in probed), "built"


def compare(name: str, source: Callable[[Path], object], target: str, command: list[str]) -> None:
    # A tool may leave files of its own where it is started.
    with tempfile.TemporaryDirectory(prefix="lint-") as work, tempfile.TemporaryDirectory(prefix="lint-") as aside:
        folder = Path(work)
        source(folder)
        made = sorted(folder.glob("*.onnx"))
        while len(list(folder.glob("*.said"))) < len(made):  # goes on after a graph that took the tool down
            subprocess.run([*command, str(folder), target], check=False, capture_output=True, cwd=aside)
        wrong, profile, beside = [], load_profile(target), 0
        for path in made:
            report = check(read_graph(path), profile)
            ours = report.refused or any(
                each.node.startswith("probe") and each.effect != "slow" for each in report.findings
            )
            real, said = off(path)
            beside += real
            if ours != real:
                places = ("off", "NPU") if ours else ("NPU", "off")
                rules = ", ".join(sorted({each.rule for each in report.findings if each.effect != "slow"}))
                wrong.append(f"- {path.stem}: we said {places[0]} ({rules or 'no rule'}), it was {places[1]} ({said})")
    agreed, count = len(made) - len(wrong), len(made)
    low, high = clopper_pearson(agreed, count, 0.05)
    print(
        f"{name}, {target}: {agreed} of {count} agree ({agreed / count:.1%}; 95 % interval {low:.1%} to {high:.1%}); "
        f"the tool took {count - beside}\n"
    )
    print("\n".join([*wrong, ""]) if wrong else "", end="\n" if wrong else "")


def drawn(folder: Path, seed: int, count: int) -> None:
    for name, model in onnx_draw.generate(seed, count):
        onnx.save(model, folder / f"{name}.onnx")


def marked(folder: Path, source: Callable[[Path], object]) -> None:
    """Write what `source` writes, quantized to uint8 as for Qualcomm's HTP; what bears marks already is left out."""
    source(folder)
    for path in folder.glob("*.onnx"):
        model = onnx.load(path)
        bare = not any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        path.unlink()
        if bare:
            onnx.save(onnx_marks.quantized(model), path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare edge lint with placements of compilers that take ONNX.")
    parser.add_argument("--targets", nargs="*", default=["rk3588", "qualcomm-htp", "jetson-orin-gpu"])
    given = parser.parse_args()
    for target in given.targets:
        backend = find_backend(load_profile(target))
        assert backend is not None
        environment = BACKENDS[backend.name].environment
        python = ensure(environment, progress=lambda line: print(line, file=sys.stderr))
        print(f"### edge lint beside {environment.packages[0]}\n")
        command = [str(python), str(GRAPHS / WORKERS[backend.name])]
        sets: dict[str, Callable[[Path], object]] = {
            "first set": partial(write, cases=CASES),
            "second set": partial(write, cases=HELD_OUT),
        }
        if backend.name == "rknn":
            sets["norms and GELUs"] = onnx_patterns.write
        for name, seed in SEEDS.items() if target in DRAWN else ():
            sets[name] = partial(drawn, seed=seed, count=DRAWN[target])
        for name, source in sets.items():
            compare(name, partial(marked, source=source) if backend.name == "qnn" else source, target, command)


if __name__ == "__main__":
    main()
