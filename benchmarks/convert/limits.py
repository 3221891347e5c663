"""What keeps a run within its time: fewer samples where a simulator is slow, and an end for every row."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CAPS = {"qualcomm-htp": 2000, "rk3588": 8000}
"""Evaluation samples at most, where a vendor's simulator computes them."""
LARGE = {("rk3588", "efficientnet-lite0"): 1000, ("rk3588", "ocr-reading"): 1000}
"""Fewer, where a call takes it a tenth of a second."""
SEED = 7


def most_samples(case: str, target: str) -> int | None:
    """Return how many evaluation samples of a case are run on a target at most; None: all."""
    return LARGE.get((target, case), CAPS.get(target))


class RowTimeoutError(Exception):
    """A row took longer than it may."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End what runs within after so many seconds; the children that it waits for are ended by their own parents.

    Raises:
        RowTimeoutError: The time was over.
    """

    def over(_number: int, _frame: Any) -> None:
        raise RowTimeoutError(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def capped(folder: Path, most: int | None, out: Path) -> Path:
    """Return a case's folder with at most so many evaluation samples: itself, or a copy in `out` with fewer.

    They are drawn once, whatever is judged by them; everything else is the case's own.
    """
    with np.load(folder / "evaluation.npz") as arrays:
        held = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(held.values())))
    if most is None or count <= most:
        return folder
    out.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        link = out / path.name
        if path.name != "evaluation.npz" and not link.exists():
            link.symlink_to(path.resolve())
    if not (out / "evaluation.npz").exists():
        rows = np.sort(np.random.default_rng(SEED).permutation(count)[:most])
        partial = out / "partial.npz"
        np.savez(partial, **{name: each[rows] if len(each) == count else each for name, each in held.items()})
        partial.rename(out / "evaluation.npz")
    return out
