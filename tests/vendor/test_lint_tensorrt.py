"""The lint beside TensorRT-RTX's parser on graphs drawn at random; `benchmarks/lint_onnx.py` asks about thousands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.read import read_graph

from edgesdk.targets.profiles import load_profile

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import lint_onnx as benchmark

pytestmark = pytest.mark.vendor
GRAPHS, SEED, MOST_WRONG = 200, 5, 10


def test_our_verdict_is_the_parsers(tool: Callable[[str], Path], tmp_path: Path) -> None:
    """Of two hundred graphs, a fifth of which it does not take, at most ten are judged otherwise."""
    python = tool("tensorrt")
    benchmark.drawn(tmp_path, SEED, GRAPHS)
    subprocess.run([python, benchmark.GRAPHS / "nvidia_worker.py", tmp_path], check=True, capture_output=True)
    profile, wrong, refused = load_profile("jetson-orin-gpu"), [], 0
    for path in sorted(tmp_path.glob("*.onnx")):
        ours, (real, said) = check(read_graph(path), profile).refused, benchmark.off(path)
        refused += real
        if ours != real:
            wrong.append((path.stem, ours, said))
    assert refused > GRAPHS / 10
    assert len(wrong) <= MOST_WRONG, wrong
