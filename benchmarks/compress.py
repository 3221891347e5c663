"""Compress the wearable model in several ways and judge each on people that no model was trained or chosen on.

    python benchmarks/compress.py [--data FOLDER] [--epochs 24] [--only NAME …]

Teacher: `v2.keras`. It learns from subjects 1 to 5, its best epoch is chosen on 6 and 7 (which the teacher saw, these
trainings did not), and the figures are of 8 to 10. Every row has the same seed and budget. Prints a Markdown table:
parameters, multiplications, bytes as float32 and after zlib, accuracy with the exact paired interval of the change.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from edgesdk_converters import Compressed, distill, prune

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "wearable"
TEACHER = EXAMPLE / "models" / "v2.keras"
CHOOSING_SUBJECTS = (6, 7)
STUDENT = """
import sys, keras
keras.utils.set_random_seed(0)
window = keras.Input((128, 6), name="window")
x = keras.layers.Reshape((128, 1, 6))(window)
for width, kernel in ((12, 7), (16, 5), (24, 5), (32, 3)):
    x = keras.layers.Conv2D(width, (kernel, 1), padding="same", use_bias=False)(x)
    x = keras.layers.MaxPooling2D((2, 1))(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
keras.Model(window, keras.layers.Dense(7, activation="softmax")(x)).save(sys.argv[1])
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table; without `words` a student is taught."""

    name: str
    words: dict[str, Any] = field(default_factory=dict)
    student: bool = False


CASES = (
    Case(name="channels 30 %", words={"amount": 0.3}),
    Case(name="channels 50 %", words={"amount": 0.5}),
    Case(name="channels 50 %, labels alone", words={"amount": 0.5, "teacher_share": 0.0}),
    Case(name="channels 50 %, at once", words={"amount": 0.5, "schedule": "oneshot"}),
    Case(name="channels 50 %, same share per layer", words={"amount": 0.5, "spread": "layer"}),
    Case(name="weights 50 %", words={"amount": 0.5, "by": "weights"}),
    Case(name="weights 80 %", words={"amount": 0.8, "by": "weights"}),
    Case(name="student from scratch, distilled", student=True),
    Case(name="student from scratch, labels alone", student=True, words={"teacher_share": 0.0}),
)


def write_data(folder: Path) -> dict[str, Path]:
    """Write the example's windows, the training people split into those to learn from and those to choose by."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, EXAMPLE / "dataset.py", folder], check=True, capture_output=True)
    with np.load(folder / "train.npz") as arrays:
        chosen = np.isin(arrays["subject"], CHOOSING_SUBJECTS)
        for name, rows in (("fit", ~chosen), ("choose", chosen)):
            np.savez(folder / f"{name}.npz", x=arrays["x"][rows], y=arrays["y"][rows], labels=arrays["labels"])
    names = {"data": "fit", "validation": "choose", "evaluation": "evaluation"}
    return {word: folder / f"{name}.npz" for word, name in names.items()}


def compress(case: Case, words: dict[str, Any], folder: Path) -> Compressed:
    """Make one row's model."""
    out = folder / f"{case.name.replace(' ', '-').replace('%', 'percent')}.keras"
    if case.student:
        student = folder / "student.keras"
        subprocess.run([sys.executable, "-c", STUDENT, student], check=True, capture_output=True)
        return distill(TEACHER, student, out=out, force=True, **words, **case.words)
    return prune(TEACHER, out=out, force=True, **words, **case.words)


def rows(cases: list[Case], words: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield the table, a line at a time."""
    yield "| case | parameters | not zero | MACs | kB | kB zlib | accuracy | change, points (95 %) | untrained |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for place, case in enumerate(cases):
        report = compress(case, words, folder).report
        if not place:
            yield line("teacher", report["before"]["figures"], f"{report['evaluation']['before']:.4f}", "", "")
        found, bare = report["evaluation"], report["without_finetuning"]
        low, high = found["interval"]
        change = f"{100 * found['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
        untrained = "" if case.student else f"{bare['after']:.4f}"
        yield line(case.name, report["after"]["figures"], f"{found['after']:.4f}", change, untrained)


def line(name: str, figures: dict[str, Any], *more: str) -> str:
    sizes = (f"{figures['parameters']:,}", f"{figures['nonzero']:,}", f"{figures['macs']:,}")
    kilobytes = (f"{figures['bytes'] / 1000:.1f}", f"{figures['compressed_bytes'] / 1000:.1f}")
    return f"| {' | '.join((name, *sizes, *kilobytes, *more))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compress the wearable model in several ways.")
    parser.add_argument("--data", type=Path, help="folder for the data and the models (default: a temporary one)")
    parser.add_argument("--epochs", type=int, default=24, help="most passes over the data")
    parser.add_argument("--cache", type=Path, help="where half done training is kept")
    parser.add_argument("--only", nargs="*", help="names of rows")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        words = {**write_data(folder), "contract": EXAMPLE / "contract.toml", "epochs": options.epochs}
        for text in rows(cases, {**words, "cache_dir": options.cache or folder / "cache"}, folder):
            print(text, flush=True)


if __name__ == "__main__":
    main()
