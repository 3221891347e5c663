"""Real smartwatch recordings of seven shoulder exercises: read, checked, cut into windows.

The recordings are a file inside the wheel of seglearn (BSD licence). It is found without importing seglearn; it is a
pickle, so it is unpickled once only, after its SHA-256 was compared, and kept as a plain `.npz` from then on.

    python examples/wearable/dataset.py OUT

writes `train.npz`, `calibration.npz`, `evaluation.npz`, `truth.npz` and `replay.npz` (see `README.md`). The same input
gives the same bytes.
"""

import argparse
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE_FILE = "data/watch_dataset.npy"
SOURCE_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"

LABELS = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
RATE_HZ = 50
WINDOW = 128
STEP = 32
HELD_OUT_SUBJECTS = (8, 9, 10)

CALIBRATION_EVERY = 12
TRUTH_PER_RECORDING = 6

REPLAY_HELD_OUT = (49, 84, 5, 66, 61, 80, 125)
"""One held-out recording for each exercise in the order of `LABELS`, the subjects in turn; no model was asked."""
REPLAY_FORCEFUL = (79, 119, 134)
"""The three recordings of training subjects with the hardest turns of the wrist (|wx| above 11 standard deviations;
held-out subjects stay under 8.1): what an evaluation on calm people never shows a model."""


class DatasetError(Exception):
    """The recordings are missing or are not the ones that this example was made with."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows cut from recordings; all arrays have the same length N.

    Attributes:
        x: float32 [N, 128, 6], as the watch measures: acceleration (g), then angular velocity (rad/s).
        y: int64 [N], index into `LABELS`.
        subject: int64 [N], 1 to 10.
        recording: int64 [N], index of the recording that the window was cut from.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    subject: NDArray[np.int64]
    recording: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Windows":
        """Return the windows that a mask or an index array chooses, in its order."""
        return Windows(
            x=self.x[chosen], y=self.y[chosen], subject=self.subject[chosen], recording=self.recording[chosen]
        )


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """All 140 recordings: `signals[i]` is float32 [samples, 6] of `subject[i]` doing `LABELS[label[i]]`."""

    signals: tuple[NDArray[np.float32], ...]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]

    def windows(self) -> Windows:
        """Cut every recording into windows of 128 samples (2.56 s), 32 samples apart, in order of time."""
        parts = [_cut(signal) for signal in self.signals]
        counts = [len(part) for part in parts]
        return Windows(
            x=np.concatenate(parts),
            y=np.repeat(self.label, counts),
            subject=np.repeat(self.subject, counts),
            recording=np.repeat(np.arange(len(parts), dtype=np.int64), counts),
        )


def load(cache_dir: Path) -> Recordings:
    """Read the recordings, from the plain copy in `cache_dir` if an earlier call left one there.

    Raises:
        DatasetError: seglearn is not installed, or its file has another hash than the pinned one.
    """
    cached = cache_dir / f"watch-{SOURCE_SHA256[:12]}.npz"
    if not cached.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        save(cached, _convert(_checked_source()))
    with np.load(cached, allow_pickle=False) as arrays:
        ends = np.cumsum(arrays["length"])[:-1]
        return Recordings(
            signals=tuple(np.split(arrays["samples"], ends)), label=arrays["label"], subject=arrays["subject"]
        )


def split(windows: Windows) -> tuple[Windows, Windows]:
    """Return (training, held-out) windows; no subject is in both."""
    held_out = np.isin(windows.subject, HELD_OUT_SUBJECTS)
    return windows.take(~held_out), windows.take(held_out)


def normalisation(training: Windows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each channel, float32 [6], over the training windows."""
    x = training.x.astype(np.float64)
    return x.mean((0, 1)).astype(np.float32), x.std((0, 1)).astype(np.float32)


def calibration_set(training: Windows) -> Windows:
    """Return every twelfth training window of the recordings that are not replayed."""
    rest = training.take(~np.isin(training.recording, REPLAY_FORCEFUL))
    return rest.take(np.arange(0, len(rest.y), CALIBRATION_EVERY))


def truth_set(held_out: Windows) -> Windows:
    """Return six windows of each held-out recording, evenly spaced: every subject and exercise weighs the same."""
    chosen = [
        members[np.linspace(0, len(members) - 1, TRUTH_PER_RECORDING).astype(np.int64)]
        for members in (np.flatnonzero(held_out.recording == r) for r in np.unique(held_out.recording))
    ]
    return held_out.take(np.concatenate(chosen))


def replay_set(windows: Windows) -> Windows:
    """Return whole recordings, one after the other, as an app would see them: calm ones with forceful ones between."""
    order = list(REPLAY_HELD_OUT)
    for place, recording in zip((2, 5, 8), REPLAY_FORCEFUL, strict=True):
        order.insert(place, recording)
    return windows.take(np.concatenate([np.flatnonzero(windows.recording == r) for r in order]))


def write_sets(out: Path, windows: Windows) -> dict[str, int]:
    """Write the five files into `out` and return how many windows each holds."""
    training, held_out = split(windows)
    mean, std = normalisation(training)
    sets = {
        "train": training,
        "calibration": calibration_set(training),
        "evaluation": held_out,
        "truth": truth_set(held_out),
        "replay": replay_set(windows),
    }
    for name, part in sets.items():
        arrays = {"x": part.x, "y": part.y, "subject": part.subject, "recording": part.recording}
        save(out / f"{name}.npz", {**arrays, "labels": np.array(LABELS), "mean": mean, "std": std})
    return {name: len(part.y) for name, part in sets.items()}


def save(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write an `.npz` whose bytes depend on the arrays only (numpy's own writer stores the time), replacing `path`."""
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    partial.replace(path)


def _cut(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    views = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)[::STEP]
    return np.ascontiguousarray(views.transpose(0, 2, 1))


def _checked_source(find_spec: Callable[[str], object] = importlib.util.find_spec) -> bytes:
    spec = find_spec("seglearn")
    origin = getattr(spec, "origin", None)
    if origin is None:
        raise DatasetError("seglearn is not installed; its wheel holds the recordings: pip install seglearn==1.2.5")
    content = (Path(origin).parent / SOURCE_FILE).read_bytes()
    return check_hash(content)


def check_hash(content: bytes) -> bytes:
    """Return `content` if it is the pinned file.

    Raises:
        DatasetError: another hash; nothing of it was unpickled.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:
        raise DatasetError(
            f"seglearn's {SOURCE_FILE} has sha256 {found}, expected {SOURCE_SHA256}: install seglearn==1.2.5"
        )
    return content


def _convert(content: bytes) -> dict[str, NDArray[np.generic]]:
    # The one unpickling: these bytes were compared with the pinned hash.
    pickled = np.load(io.BytesIO(content), allow_pickle=True).item()
    if tuple(pickled["y_labels"]) != LABELS or tuple(pickled["X_labels"]) != CHANNELS:
        raise DatasetError(f"seglearn's {SOURCE_FILE} names other labels or channels than {LABELS} and {CHANNELS}")
    return {
        "samples": np.concatenate(pickled["X"]).astype(np.float32),
        "length": np.array([len(signal) for signal in pickled["X"]], dtype=np.int64),
        "label": pickled["y"].astype(np.int64),
        "subject": pickled["subject"].astype(np.int64),
    }


def main() -> None:
    """Write the five files and say how many windows each holds."""
    parser = argparse.ArgumentParser(description="Write the wearable example's data sets.")
    parser.add_argument("out", type=Path, help="folder for the five .npz files (made if missing)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    try:
        counts = write_sets(out, load(out).windows())
    except DatasetError as error:
        parser.exit(1, f"{error}\n")
    for name, count in counts.items():
        print(f"{name}.npz: {count} windows")


if __name__ == "__main__":
    main()
