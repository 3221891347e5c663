"""How far runtimes lie apart is told of the samples that both answered: instalments may end one before the other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from edgesdk_converters.evaluate.looks import order
from edgesdk_converters.judge import read_measured
from edgesdk_converters.running.cache import Entry

COUNT = 1000
ANSWERS = np.random.default_rng(0).normal(size=(COUNT, 1, 3))


def ran(folder: Path, package: str, samples: int, answers: np.ndarray) -> Entry:
    """What a measuring step leaves of a runtime that stopped after that many samples."""
    path = folder / package
    path.mkdir()
    np.savez(path / "evaluation.npz", y=answers[np.sort(order(COUNT)[:samples])])
    result = {"runtime": package, "bindings": {"inputs": [], "outputs": []}}
    return Entry(folder=path, result=result, hashes={"evaluation.npz": ""}, seconds=0.0)


@pytest.mark.parametrize("sizes", [(250, 500), (500, 250), (1000, 250), (1000, 1000)])
def test_the_same_samples_are_compared(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """Whichever stopped first: equal answers are no distance, and another answer to a shared sample is one."""
    variant = SimpleNamespace(measures={"old": "old", "new": "new"})
    other = ANSWERS.copy()
    entries = {name: ran(tmp_path, name, size, ANSWERS) for name, size in zip(("old", "new"), sizes, strict=True)}
    assert read_measured(variant, entries, {"evaluation": COUNT}).spread == {"y": 0.0}
    other[order(COUNT)[0]] += 0.25
    entries["new"] = ran(tmp_path, "moved", sizes[1], other)
    assert read_measured(variant, entries, {"evaluation": COUNT}).spread == {"y": pytest.approx(0.25)}
    if min(sizes) < COUNT:
        other = ANSWERS.copy()
        other[order(COUNT)[min(sizes)]] += 0.25  # only one of them came so far
        entries["new"] = ran(tmp_path, "later", sizes[1], other)
        assert read_measured(variant, entries, {"evaluation": COUNT}).spread == {"y": 0.0}
