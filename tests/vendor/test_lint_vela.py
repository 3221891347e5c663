"""The lint beside real Vela builds: a few dozen graphs of every family; `benchmarks/lint.py` does hundreds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import lint as benchmark

pytestmark = pytest.mark.vendor
GRAPHS, SEED = 60, 5
MOST_WRONG = 2


@pytest.mark.parametrize("accelerator", ["ethos-u55-128", "ethos-u85-256"])
def test_our_verdict_is_where_vela_places_the_operator(
    tool: Callable[[str], Path], tmp_path: Path, accelerator: str
) -> None:
    """NPU, CPU or no build at all: of sixty graphs at most two operators are judged otherwise."""
    folder, out = tmp_path / "graphs", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    benchmark.generate(folder, SEED, GRAPHS)
    answers = benchmark.build_all(tool("vela"), folder, out, accelerator)
    cases = list(benchmark.compare(folder, out, accelerator, answers))
    wrong = [case for case in cases if not case.agree]
    assert {case.real for case in cases} == {"NPU", "CPU", "refused"}
    assert len(cases) >= GRAPHS
    assert len(wrong) <= MOST_WRONG, wrong
