"""Compress two models in several ways, with several seeds, and judge each on data that no training saw.

    python benchmarks/compress.py [--seeds 3] [--teachers wearable fashion] [--only NAME …] [--results FILE]

`wearable` is the example's `v2.keras`: rows learn from subjects 1 to 5, their best epoch is chosen on 6 and 7, the
figures are of 8 to 10. `fashion` is the network that `benchmarks/convert` trains on Fashion-MNIST: rows learn from
15,000 of its 60,000 training pictures, the epoch is chosen on 5,000 others, the figures are of the 10,000 test
pictures. The teachers saw all training data. Results go to a file of JSON lines as they come, and a run that was
stopped goes on there, in the epoch in which it stopped; then Markdown tables are printed of all that it holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from convert import pictures, zoo
from edgesdk_converters import Compressed, distill, prune

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "wearable"
CHOOSING_SUBJECTS = (6, 7)
LEARNING, CHOOSING = 15_000, 5_000
"""Pictures of clothes."""
STUDENT = """
import sys, keras
keras.utils.set_random_seed(int(sys.argv[2]))
window = keras.Input((128, 6), name="window")
x = keras.layers.Reshape((128, 1, 6))(window)
for width, kernel in ((12, 7), (16, 5), (24, 5), (32, 3)):
    x = keras.layers.Conv2D(width, (kernel, 1), padding="same", use_bias=False)(x)
    x = keras.layers.MaxPooling2D((2, 1))(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
keras.Model(window, keras.layers.Dense(7, activation="softmax")(x)).save(sys.argv[1])
"""
Words = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to compress; `student`: a small model is taught instead of pruning the teacher."""

    name: str
    words: Words = field(default_factory=dict)
    student: bool = False


CASES = (
    Case(name="channels 30 %", words={"amount": 0.3}),
    Case(name="channels 50 %", words={"amount": 0.5}),
    Case(name="channels 50 %, same share per layer", words={"amount": 0.5, "spread": "layer"}),
    # As many multiplications as 50 % over the whole model, which takes fewer where there are most.
    Case(name="channels 43 %, same share per layer", words={"amount": 0.43, "spread": "layer"}),
    Case(name="channels 50 %, labels alone", words={"amount": 0.5, "teacher_share": 0.0}),
    Case(name="channels 50 %, at once", words={"amount": 0.5, "schedule": "oneshot"}),
    Case(name="weights 50 %", words={"amount": 0.5, "by": "weights"}),
    Case(name="weights 80 %", words={"amount": 0.8, "by": "weights"}),
    Case(name="student from scratch, distilled", student=True),
    Case(name="student from scratch, labels alone", student=True, words={"teacher_share": 0.0}),
)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A model to compress.

    Attributes:
        epochs: Most passes over the data of every row.
        prepare: Writes the data into a folder; returns the words for `prune`, the model among them.
        student: Code that writes an untrained small model: ``FILE SEED``; empty: there are no rows with students.
    """

    name: str
    epochs: int
    prepare: Callable[[Path, Path], Words]
    student: str = ""


def wearable(folder: Path, _cache: Path) -> Words:
    """The example's windows, the training people split into those to learn from and those to choose by."""
    subprocess.run([sys.executable, EXAMPLE / "dataset.py", folder], check=True, capture_output=True)
    with np.load(folder / "train.npz") as arrays:
        chosen = np.isin(arrays["subject"], CHOOSING_SUBJECTS)
        for name, rows in (("data", ~chosen), ("validation", chosen)):
            np.savez(folder / f"{name}.npz", x=arrays["x"][rows], y=arrays["y"][rows], labels=arrays["labels"])
    return {"model": EXAMPLE / "models" / "v2.keras", "contract": EXAMPLE / "contract.toml", **data_words(folder)}


def fashion(folder: Path, cache: Path) -> Words:
    """Pictures drawn from those that the network learned from; none twice, none that is also a test picture."""
    case = zoo.prepare(zoo.cases()["fashion"], cache)
    (x, y), (held, _labels) = (pictures.fashion(part, cache) for part in ("train", "t10k"))
    taken = {picture.tobytes() for picture in held}
    drawn: list[int] = []
    for row in np.random.default_rng(0).permutation(len(x) - pictures.CALIBRATING_CLOTHES).tolist():
        if len(drawn) < LEARNING + CHOOSING and (picture := x[row].tobytes()) not in taken:
            taken.add(picture)
            drawn.append(row)
    for name, rows in (("data", drawn[:LEARNING]), ("validation", drawn[LEARNING:])):
        np.savez(folder / f"{name}.npz", image=x[rows].astype(np.float32), y=y[rows])
    (folder / "evaluation.npz").unlink(missing_ok=True)
    (folder / "evaluation.npz").symlink_to(case / "evaluation.npz")
    return {"model": case / "model.keras", "contract": case / "contract.toml", **data_words(folder)}


def data_words(folder: Path) -> Words:
    return {name: folder / f"{name}.npz" for name in ("data", "validation", "evaluation")}


TEACHERS = (
    Teacher(name="wearable", epochs=20, prepare=wearable, student=STUDENT),
    Teacher(name="fashion", epochs=8, prepare=fashion),
)


class Bench:
    """Runs what the results file does not hold yet."""

    def __init__(self, cache: Path, results: Path) -> None:
        self._cache, self._results = cache, results
        lines = results.read_text().splitlines() if results.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def run(self, teacher: Teacher, cases: list[Case], seeds: int) -> None:
        """Run the rows of a teacher, the first seed of every case before the second of any."""
        done = {(row["teacher"], row["case"], row["seed"]) for row in self.rows}
        wanted = [(seed, case) for seed in range(seeds) for case in cases if teacher.student or not case.student]
        wanted = [(seed, case) for seed, case in wanted if (teacher.name, case.name, seed) not in done]
        folder = self._cache / "compress" / teacher.name
        folder.mkdir(parents=True, exist_ok=True)
        given = teacher.prepare(folder, self._cache) if wanted else {}
        for seed, case in wanted:
            words = {**given, "epochs": teacher.epochs, "cache_dir": self._cache / "compress" / "cache", "seed": seed}
            report = compress(teacher, case, words, folder).report
            row = {"teacher": teacher.name, "epochs": teacher.epochs, "case": case.name, "seed": seed, **kept(report)}
            self.rows.append(row)
            with self._results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{teacher.name}, {case.name}, seed {seed}: {report['seconds']:.0f} s", file=sys.stderr, flush=True)


def compress(teacher: Teacher, case: Case, words: Words, folder: Path) -> Compressed:
    """Make one row's model."""
    words = {**words, **case.words, "out": folder / "out.keras", "force": True}
    model = words.pop("model")
    if not case.student:
        return prune(model, **words)
    student = folder / "student.keras"
    subprocess.run(
        [sys.executable, "-c", teacher.student, student, str(words["seed"])], check=True, capture_output=True
    )
    return distill(model, student, **words)


def kept(report: dict[str, Any]) -> Row:
    """Return what a row keeps of a report."""
    before, after = ({**report[when]["figures"]} for when in ("before", "after"))
    untrained = report["without_finetuning"]["after"]
    trained = {name: report["training"][name] for name in ("epochs", "best_epoch")}
    judged = {**report["evaluation"], "untrained": untrained}
    return {"before": before, "after": after, "judged": judged, "trained": trained, "seconds": report["seconds"]}


def table(rows: list[Row]) -> Iterator[str]:
    """Yield a teacher's table, a line at a time."""
    columns = ("case", "parameters", "not zero", "MACs", "kB", "kB zlib", "accuracy")
    yield f"| {' | '.join((*columns, 'change of each seed, points (95 %)', 'untrained'))} |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    yield line("teacher", [rows[0]["before"]], [rows[0]["judged"]["before"]], "", "")
    for case in CASES:
        of_case = sorted((row for row in rows if row["case"] == case.name), key=lambda row: row["seed"])
        if of_case:
            judged = [row["judged"] for row in of_case]
            untrained = "" if case.student else spread([each["untrained"] for each in judged], ".3f")
            changes = "; ".join(map(change, judged))
            yield line(
                case.name, [row["after"] for row in of_case], [each["after"] for each in judged], changes, untrained
            )


def line(name: str, figures: list[dict[str, Any]], accuracy: list[float], *more: str) -> str:
    """Return a row; figures that the seeds do not share are a range, accuracy is the mean and the range."""
    sizes = [spread([each[word] for each in figures], ",") for word in ("parameters", "nonzero", "macs")]
    bytes_ = [spread([each[word] / 1000 for each in figures], ".1f") for word in ("bytes", "compressed_bytes")]
    mean = f"{np.mean(accuracy):.4f}"
    if len(accuracy) > 1:
        mean += f" ({spread(accuracy, '.4f')})"
    return f"| {' | '.join((name, *sizes, *bytes_, mean, *more))} |"


def spread(values: list[float], form: str) -> str:
    """Return the least and the greatest value, or the one that all are."""
    low, high = (format(each, form) for each in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def change(judged: dict[str, Any]) -> str:
    low, high = judged["interval"]
    return f"{100 * judged['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def main() -> None:
    """Run what is missing, and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [teacher.name for teacher in TEACHERS]
    parser.add_argument("--teachers", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=1, help="of every case, from 0 (%(default)d)")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], metavar="NAME", help="of cases")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgesdk-benchmark", metavar="FOLDER")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines (compress.jsonl in the cache)")
    options = parser.parse_args()
    bench = Bench(options.cache.resolve(), options.results or options.cache / "compress.jsonl")
    cases = [case for case in CASES if not options.only or case.name in options.only]
    for teacher in TEACHERS:
        if teacher.name in options.teachers:
            bench.run(teacher, cases, options.seeds)
    for name in options.teachers:
        if rows := [row for row in bench.rows if row["teacher"] == name]:
            shown = ", ".join(sorted({f"{row['epochs']} epochs at most" for row in rows}))
            print(f"\n{name}, {rows[0]['judged']['samples']:,} samples, {shown}:\n")
            print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
