"""A sample of how well `edge lint` knows rknn-toolkit2: one operator between two others, built for rk3588 in float16.

python benchmarks/lint_rockchip.py [--target rk3588]

The toolkit's own table says where the operator, or what it became, runs; a build that fails or dies counts as off the
NPU. The first set taught the rules, the second did not. Needs the environment of rknn-toolkit2 (1.3 GB, made on first
use).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.environments import ensure
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.graph import read_graph
from lint_graphs.onnx_ops import CASES, HELD_OUT, Case, write

from edgesdk.stats import clopper_pearson
from edgesdk.targets.profiles import load_profile

WORKER = Path(__file__).parent / "lint_graphs" / "rockchip_worker.py"
ROW = re.compile(r"^D RKNN: .*?\d+\s+(\S+)\s+\S+\s+(NPU|CPU|GPU)\s+.*\s(\S+:\S+)\s*$", re.MULTILINE)
ENDS = ("InputOperator", "OutputOperator")


def off(source: Path) -> bool:
    """Say whether the toolkit leaves the probed operator, or a part of it, off the NPU."""
    if source.with_suffix(".said").read_text() != "built":
        return True
    rows = ROW.findall(source.with_suffix(".log").read_text(errors="replace"))
    probed = [place for op, place, name in rows if op not in ENDS and not name.endswith((":first", ":last"))]
    return any(place != "NPU" for place in probed)


def compare(name: str, cases: tuple[Case, ...], target: str, python: Path) -> None:
    # The toolkit leaves files of its own where it is started.
    with tempfile.TemporaryDirectory(prefix="lint-") as work, tempfile.TemporaryDirectory(prefix="lint-") as aside:
        folder = Path(work)
        made = write(folder, cases)
        while len(list(folder.glob("*.said"))) < len(made):  # goes on after a graph that took the toolkit down
            subprocess.run([str(python), str(WORKER), str(folder), target], check=False, capture_output=True, cwd=aside)
        wrong = []
        for source in sorted(folder.glob("*.onnx")):
            report = check(read_graph(source), load_profile(target))
            ours = report.refused or any(each.node == "probe" and each.effect != "slow" for each in report.findings)
            if ours != off(source):
                wrong.append(f"- {source.stem}: we said {'off' if ours else 'NPU'}, it was {'NPU' if ours else 'off'}")
    agreed, count = len(made) - len(wrong), len(made)
    low, high = clopper_pearson(agreed, count, 0.05)
    print(
        f"\n{name}, {target}: {agreed} of {count} agree ({agreed / count:.1%}; 95 % interval {low:.1%} to {high:.1%})\n"
    )
    print("\n".join(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare edge lint with rknn-toolkit2's placement, on a sample.")
    parser.add_argument("--target", default="rk3588")
    given = parser.parse_args()
    environment = BACKENDS["rknn"].environment
    assert environment is not None
    python = ensure(environment, progress=lambda line: print(line, file=sys.stderr))
    print(f"## edge lint beside {environment.packages[0]}")
    compare("development", CASES, given.target, python)
    compare("held-out", HELD_OUT, given.target, python)


if __name__ == "__main__":
    main()
