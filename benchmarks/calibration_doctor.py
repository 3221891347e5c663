"""Twelve planted faults on real data: which does the calibration doctor refuse, and does it refuse clean data?

    python benchmarks/calibration_doctor.py [--repetitions 10] [--datasets FOLDER] [--json]

Prints, for every fault and data set, how many of the seeded repetitions were refused (and, behind the slash, refused
under the fault's own name), and for clean data how many were refused by mistake. `FOLDER` keeps what is fetched with
`apt-get download`: Fashion-MNIST (`dataset-fashion-mnist`) and Letter, Satellite, Shuttle (`r-cran-mlbench`, read with
PyPI's `rdata` in an environment of its own); what cannot be fetched is left out and named.
"""

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edgesdk_converters.calibration.doctor import examine
from edgesdk_converters.calibration.findings import Diagnosis
from edgesdk_converters.calibration.statistics import SetStatistics, summarise
from numpy.typing import NDArray

from edgesdk.contract import Contract, Normalisation, TensorSpec

Array = NDArray[np.float32]
WEARABLE = Path(__file__).parents[1] / "examples" / "wearable" / "dataset.py"
CALIBRATION, EVALUATION = 200, 1000
_RDA = """
import sys, rdata, numpy as np
for name, path in zip(sys.argv[2::2], sys.argv[3::2]):
    table = next(iter(rdata.read_rda(path).values()))
    label = {"letter": "lettr", "satellite": "classes", "shuttle": "Class"}[name]
    y = np.unique(table[label].astype(str), return_inverse=True)[1]
    np.savez(f"{sys.argv[1]}/{name}.npz", x=table.drop(columns=[label]).to_numpy(np.float32), y=y)
"""


@dataclass(frozen=True, kw_only=True)
class Real:
    """A data set: rows in the app's units; `draw` gives (calibration, evaluation) row numbers for a seed."""

    name: str
    x: Array
    y: NDArray[np.int64]
    layout: str | None
    range: tuple[float, float] | None
    colour: str | None
    draw: Callable[[np.random.Generator], tuple[NDArray[np.int64], NDArray[np.int64]]]

    def contract(self, *, normalised_by_app: bool = False) -> Contract:
        """Return the contract: the runtime normalises, or (the other convention) the app does."""
        mean, std = self.moments()
        spec = TensorSpec(
            name="x",
            shape=(1, *self.x.shape[1:]),
            layout=self.layout,
            range=None if normalised_by_app else self.range,
            colour=self.colour,
            normalisation=None
            if normalised_by_app
            else Normalisation(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
        )
        classes = int(self.y.max()) + 1
        output = TensorSpec(name="scores", shape=(1, classes))
        labels = tuple(f"c{k}" for k in range(classes))
        return Contract(version="1.0", task="classification", labels=labels, inputs=(spec,), outputs=(output,))

    def moments(self) -> tuple[Array, Array]:
        """Return mean and deviation of each channel (the last axis; one for all pixels of a grey image)."""
        axes = tuple(range(self.x.ndim - 1))
        return self.x.mean(axes), self.x.std(axes) + np.float32(1e-6)


Fault = Callable[[Real, Array, NDArray[np.int64], Array, NDArray[np.int64], np.random.Generator], "Planted | None"]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Calibration data with a fault, the evaluation data beside it, and the contract that both are read by."""

    x: Array
    y: NDArray[np.int64] | None
    evaluation: Array | None = None
    normalised_by_app: bool = False


def noise(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917 - a Fault, like all below
    axes = tuple(range(x.ndim - 1))
    if rng.random() < 0.5:  # noqa: PLR2004 - either kind
        return Planted(x=rng.normal(x.mean(axes), x.std(axes), x.shape), y=None)
    low, high = real.range or (float(x.min()), float(x.max()))
    return Planted(x=rng.uniform(max(low, x.min()), min(high, x.max()), x.shape), y=None)


def constant(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    return Planted(x=np.full_like(x, rng.choice([0.0, float(np.median(x)), float(x.max())])), y=None)


def duplicates(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    rows = rng.integers(0, rng.integers(1, 40), len(x))
    return Planted(x=x[rows], y=None)


def not_finite(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    spoilt = x.copy().reshape(len(x), -1)
    spoilt[rng.integers(len(x)), rng.integers(spoilt.shape[1])] = rng.choice([np.nan, np.inf, -np.inf])
    return Planted(x=spoilt.reshape(x.shape), y=y)


def wrong_range(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    return Planted(x=x * np.float32(rng.choice([0.02, 0.1, 10.0, 100.0])), y=y)


def double_normalised(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    mean, std = real.moments()
    return Planted(x=(x - mean) / std, y=y)


def both_normalised(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    mean, std = real.moments()
    return Planted(x=(x - mean) / std, y=y, evaluation=(e - mean) / std)


def not_normalised(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    if real.range == (0, 255):
        return Planted(x=x, y=y, evaluation=e / np.float32(255), normalised_by_app=True)
    mean, std = real.moments()
    return Planted(x=x, y=y, evaluation=(e - mean) / std, normalised_by_app=True)


def layout(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    if x.ndim == 3:  # noqa: PLR2004 - rows of two axes
        return Planted(x=x.transpose(0, 2, 1).reshape(x.shape), y=y)
    if x.ndim == 4:  # noqa: PLR2004 - images
        order = (0, 3, 1, 2) if x.shape[-1] > 1 else (0, 2, 1, 3)
        return Planted(x=x.transpose(order).reshape(x.shape), y=y)
    return None


def colour(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    return Planted(x=x[..., ::-1], y=y) if real.colour else None


def leak_label(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    spoilt = x.copy().reshape(len(x), -1)
    classes = int(real.y.max()) + 1
    if rng.random() < 0.5 or classes > spoilt.shape[1]:  # noqa: PLR2004 - either kind
        spoilt[:, rng.integers(spoilt.shape[1])] = y
    else:
        spoilt[:, -classes:] = np.eye(classes, dtype=np.float32)[y]
    return Planted(x=spoilt.reshape(x.shape), y=y)


def leak_rows(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    mixed = x.copy()
    mixed[: len(x) // 20] = e[: len(x) // 20]
    return Planted(x=mixed, y=None)


def too_few(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    rows = int(rng.integers(4, 40))
    return Planted(x=x[:rows], y=y[:rows])


def one_class(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, ARG001, PLR0917
    label = rng.choice(np.unique(y))
    own = rng.permutation(np.flatnonzero(real.y == label))
    own = own[~np.isin(_hashes(real.x[own]), _hashes(e))][:CALIBRATION]
    return Planted(x=real.x[own], y=real.y[own])


def one_class_unlabelled(real, x, y, e, ey, rng):  # noqa: ANN001, ANN201, PLR0917
    planted = one_class(real, x, y, e, ey, rng)
    return Planted(x=planted.x, y=None)


FAULTS: dict[str, tuple[Fault, set[str]]] = {
    "random noise": (noise, {"calibration-noise"}),
    "constant": (constant, {"calibration-constant"}),
    "duplicates": (duplicates, {"calibration-repeated", "calibration-constant"}),
    "NaN or infinity": (not_finite, {"calibration-not-finite"}),
    "wrong range": (wrong_range, {"calibration-range", "calibration-double-normalised", "calibration-not-normalised"}),
    "double-normalised": (double_normalised, {"calibration-double-normalised"}),
    "both normalised": (both_normalised, {"calibration-double-normalised", "calibration-range"}),
    "un-normalised": (not_normalised, {"calibration-not-normalised"}),
    "wrong layout": (layout, {"calibration-layout"}),
    "BGR for RGB": (colour, {"calibration-colour"}),
    "labels as inputs": (leak_label, {"calibration-leak"}),
    "rows of evaluation": (leak_rows, {"calibration-overlap"}),
    "too few": (too_few, {"calibration-few"}),
    "one class": (one_class, {"calibration-one-class"}),
    "one class, no labels": (one_class_unlabelled, {"calibration-one-class"}),
}


def sets(folder: Path) -> Iterator[Real]:
    """Yield the data sets that can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, WEARABLE, folder], check=True, capture_output=True)
    with np.load(folder / "train.npz") as train, np.load(folder / "evaluation.npz") as held:
        x, y, seam = np.concatenate([train["x"], held["x"]]), np.concatenate([train["y"], held["y"]]), len(train["x"])
    yield _real("wearable", x, y, "NTC", (-40, 40), None, seam=seam)
    yield from _scikit_learn()
    yield from _debian(folder)


def _real(name, x, y, layout, limits, colour, seam=None) -> Real:  # noqa: ANN001, PLR0917
    def draw(rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if seam is not None:  # other people in the two sets
            return rng.permutation(seam)[:CALIBRATION], seam + rng.permutation(len(x) - seam)[:EVALUATION]
        rows = rng.permutation(len(x))
        return rows[:CALIBRATION], rows[CALIBRATION : CALIBRATION + EVALUATION]

    x = np.ascontiguousarray(x, np.float32)
    return Real(name=name, x=x, y=y.astype(np.int64), layout=layout, range=limits, colour=colour, draw=draw)


def _scikit_learn() -> Iterator[Real]:
    from sklearn.datasets import load_digits, load_sample_images  # noqa: PLC0415 - may be missing

    digits = load_digits()
    yield _real("digits", digits.images, digits.target, "NHW", (0, 16), None)
    patches, labels = [], []
    for label, photo in enumerate(load_sample_images().images):
        for top in range(0, photo.shape[0] - 31, 32):
            for left in range(0, photo.shape[1] - 31, 32):
                patches.append(photo[top : top + 32, left : left + 32])
                labels.append(label)
    yield _real("photos", np.stack(patches), np.array(labels), "NHWC", (0, 255), "RGB")


def _debian(folder: Path) -> Iterator[Real]:
    if not (folder / "usr").exists():
        subprocess.run(["apt-get", "download", "dataset-fashion-mnist", "r-cran-mlbench"], cwd=folder, check=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    fashion = folder / "usr/share/datasets/fashion-mnist"
    x = np.frombuffer(gzip.decompress((fashion / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    y = np.frombuffer(gzip.decompress((fashion / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    yield _real("fashion", x.reshape(-1, 28, 28, 1), y, "NHWC", (0, 255), None)
    tables = {"letter": "LetterRecognition", "satellite": "Satellite", "shuttle": "Shuttle"}
    if not all((folder / f"{name}.npz").exists() for name in tables):
        data = folder / "usr/lib/R/site-library/mlbench/data"
        pairs = [text for name, file in tables.items() for text in (name, str(data / f"{file}.rda"))]
        command = ["uv", "run", "--no-project", "--with", "rdata", "python", "-c", _RDA, str(folder), *pairs]
        subprocess.run(command, check=True, capture_output=True)
    for name in tables:
        with np.load(folder / f"{name}.npz") as arrays:
            x, y = arrays["x"], arrays["y"]
        yield _real(name, x, y, None, None, None)
        if name == "satellite":  # 3 x 3 pixels of 4 bands: three of them make a false-colour image
            bands = x.reshape(-1, 3, 3, 4)[..., :3]
            yield _real("satellite RGB", bands, y, "NHWC", (0, 255), "RGB")


def look(real: Real, planted: Planted, evaluation: SetStatistics | None, y: NDArray[np.int64]) -> Diagnosis:
    """Examine planted calibration data."""
    contract = real.contract(normalised_by_app=planted.normalised_by_app)
    if planted.evaluation is not None or evaluation is None:
        assert planted.evaluation is not None
        evaluation = summarise(contract, {"x": planted.evaluation}, y)
    return examine(summarise(contract, {"x": planted.x}, planted.y), contract, evaluation)


def measure(real: Real, repetitions: int, *, faults: bool, verbose: bool) -> dict[str, object]:
    """Count refusals on one data set."""
    caught = {fault: [0, 0, 0] for fault in FAULTS}
    clean, warned, seconds = 0, 0, 0.0
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        rows, judged = real.draw(rng)
        judged = judged[~np.isin(_hashes(real.x[judged]), _hashes(real.x[rows]))]  # some sets hold the same row twice
        x, y, e, ey = real.x[rows], real.y[rows], real.x[judged], real.y[judged]
        evaluation = summarise(real.contract(), {"x": e}, ey)
        started = time.process_time()
        for labels in (y, None):
            diagnosis = look(real, Planted(x=x, y=labels), evaluation, ey)
            clean += bool(diagnosis.refusals)
            warned += len(diagnosis.findings) > len(diagnosis.refusals)
            if verbose and diagnosis.findings:
                print(real.name, "clean", seed, [f"{f.severity} {f.code} {f.sentence()}" for f in diagnosis.findings])
        seconds += (time.process_time() - started) / 2
        for fault, (plant, codes) in FAULTS.items() if faults else ():
            planted = plant(real, x, y, e, ey, rng)
            if planted is None:
                continue
            diagnosis = look(real, planted, evaluation, ey)
            caught[fault][0] += 1
            caught[fault][1] += bool(diagnosis.refusals)
            named = bool(codes & {finding.code for finding in diagnosis.refusals})
            caught[fault][2] += named
            if verbose and not named:
                print(real.name, fault, seed, [f"{f.severity} {f.code} {f.sentence()}" for f in diagnosis.findings])
    return {
        "clean": 2 * repetitions,
        "false_alarms": clean,
        "warned": warned,
        "seconds": round(seconds / repetitions, 3),
        "faults": {
            fault: dict(zip(("n", "refused", "named"), counts, strict=True)) for fault, counts in caught.items()
        },
    }


def _hashes(x: Array) -> NDArray[np.int64]:
    return np.array([hash(row.tobytes()) for row in np.ascontiguousarray(x)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--datasets", type=Path, default=Path.home() / ".cache" / "edgesdk-benchmarks")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clean", action="store_true", help="Only clean data: false alarms.")
    parser.add_argument("--only", help="One data set.")
    parser.add_argument("--verbose", action="store_true", help="Print what was not found, and every false alarm.")
    asked = parser.parse_args()
    found = {
        real.name: measure(real, asked.repetitions, faults=not asked.clean, verbose=asked.verbose)
        for real in sets(asked.datasets)
        if asked.only in {None, real.name}
    }
    if asked.json:
        print(json.dumps(found))
        return
    print(f"refused / refused by name, of {asked.repetitions} seeded repetitions; calibration {CALIBRATION} rows")
    print(f"{'fault':22}" + "".join(f"{name:>15}" for name in found))
    for fault in FAULTS:
        cells = [result["faults"][fault] for result in found.values()]
        texts = [f"{cell['refused']}/{cell['named']}" if cell["n"] else "-" for cell in cells]
        print(f"{fault:22}" + "".join(f"{text:>15}" for text in texts))
    for key, title in (("false_alarms", "clean, refused"), ("warned", "clean, warned"), ("clean", "clean, examined")):
        print(f"{title:22}" + "".join(f"{result[key]:>15}" for result in found.values()))
    print(f"{'CPU s, one set':22}" + "".join(f"{result['seconds']:>15.2f}" for result in found.values()))


if __name__ == "__main__":
    main()
