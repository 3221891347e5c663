"""Train the wearable example's models v1 to v4 and export each as `.keras`, `.tflite` and `.onnx` (float32, batch 1).

python examples/wearable/train.py --select   # how v2 was chosen: subjects 2, 5 and 6 judge, the held-out never
python examples/wearable/train.py            # train, export, compare the exports, write models/README.md
"""

import argparse
import logging
import os
import tempfile
import tomllib
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from dataset import LABELS, Windows, load, normalisation, replay_set, split
from networks import Recipe, augment, build, fold, overconfident
from numpy.typing import NDArray

HERE = Path(__file__).parent
SEED = 1
BATCH = 64
LEARNING_RATE = 2e-3
OPSET = 17
IR_VERSION = 8
TOLERANCE = 1e-4
SELECTION_SUBJECTS = (2, 5, 6)

V1 = Recipe(widths=(24, 32, 48), kernels=(7, 5, 5), dropout=0.2, epochs=12, weight_limit=0.02, activation_limit=1.0)
WIDER = Recipe(widths=(24, 32, 48, 64), kernels=(5, 5, 5, 3), dropout=0.3, epochs=14)
V2 = Recipe(
    widths=(24, 32, 48, 64),
    kernels=(5, 5, 5, 3),
    dropout=0.3,
    epochs=14,
    smoothing=0.05,
    rotation_deg=25,
    speed=0.3,
)
CANDIDATES = {"v1 again": V1, "deeper": WIDER, "deeper, augmented": V2}
MIXED_UP = np.array([sorted(LABELS).index(label) for label in LABELS])
"""v3's labels: somebody numbered the exercises in the order of the alphabet. Five of the seven names are wrong."""

Floats = NDArray[np.float32]


class Normalised:
    """Windows of one set, and how the networks take them."""

    def __init__(self, windows: Windows, mean: Floats, std: Floats) -> None:
        self.windows = windows
        self._mean, self._std = mean, std

    def x(self, raw: Floats | None = None) -> Floats:
        """Return the normalised windows, or `raw` windows normalised in the same way."""
        return ((self.windows.x if raw is None else raw) - self._mean) / self._std


def train(recipe: Recipe, data: Normalised, labels: NDArray[np.int64]) -> keras.Model:
    """Return a trained network; the same call gives the same weights on the same machine."""
    keras.utils.set_random_seed(SEED)
    random = np.random.default_rng(SEED)
    model = build(recipe)
    steps = recipe.epochs * -(-len(labels) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.smoothing),
    )
    wanted = np.eye(len(LABELS), dtype=np.float32)[labels]
    for _ in range(recipe.epochs):
        raw = augment(data.windows.x, recipe, random) if recipe.rotation_deg else None
        model.fit(data.x(raw), wanted, batch_size=BATCH, epochs=1, verbose=0)
    return fold(model, recipe)


def select(training: Windows, mean: Floats, std: Floats) -> None:
    """Print the accuracy of each candidate on subjects of the training set that it was not trained on."""
    judges = np.isin(training.subject, SELECTION_SUBJECTS)
    seen, unseen = (Normalised(training.take(mask), mean, std) for mask in (~judges, judges))
    for name, recipe in CANDIDATES.items():
        answers = train(recipe, seen, seen.windows.y).predict(unseen.x(), verbose=0).argmax(1)
        print(f"{name}: accuracy {np.mean(answers == unseen.windows.y):.4f} on subjects {SELECTION_SUBJECTS}")


def export(model: keras.Model, stem: Path) -> dict[str, Path]:
    """Write the three files and return them by format."""
    paths = {suffix: stem.with_suffix(f".{suffix}") for suffix in ("keras", "tflite", "onnx")}
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="window")
    model.save(paths["keras"])
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", lambda window: model(window, training=False), input_signature=[signature])
        archive.write_out(folder, verbose=False)
        paths["tflite"].write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
    model.export(paths["onnx"], format="onnx", input_signature=[signature], opset_version=OPSET, verbose=False)
    graph = onnx.load(paths["onnx"])
    graph.ir_version = IR_VERSION
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, paths["onnx"])
    return paths


def answers_of(path: Path, x: Floats) -> Floats:
    """Return the probabilities [N, 7] that the file at `path` gives for normalised windows, one at a time."""
    if path.suffix == ".keras":
        return np.asarray(keras.models.load_model(path).predict(x, verbose=0))
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([session.run(None, {name: window[None]})[0] for window in x])
    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    results = []
    for window in x:
        interpreter.set_tensor(source, window[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(sink))
    return np.concatenate(results)


def row(name: str, model: keras.Model, paths: dict[str, Path], held_out: Normalised, replay: Normalised) -> str:
    """Return one line of the table of figures.

    Raises:
        SystemExit: An export answers differently from the Keras model.
    """
    expected = {"held-out": answers_of(paths["keras"], held_out.x()), "replay": answers_of(paths["keras"], replay.x())}
    for suffix in ("tflite", "onnx"):
        for part, data in (("held-out", held_out), ("replay", replay)):
            got = answers_of(paths[suffix], data.x())
            if not np.allclose(got, expected[part], atol=TOLERANCE, equal_nan=True):
                raise SystemExit(f"{paths[suffix]} differs from {paths['keras']} on {part} windows")
    accuracy = np.mean(expected["held-out"].argmax(1) == held_out.windows.y)
    each = [
        np.mean(expected["held-out"].argmax(1)[mask] == held_out.windows.y[mask])
        for mask in (held_out.windows.subject == s for s in np.unique(held_out.windows.subject))
    ]
    faults = int(np.isnan(expected["replay"]).any(1).sum())
    sizes = " / ".join(f"{paths[suffix].stat().st_size / 1000:.0f}" for suffix in ("keras", "tflite", "onnx"))
    subjects = " / ".join(f"{value:.3f}" for value in each)
    return f"| {name} | {model.count_params():,} | {sizes} | {accuracy:.4f} | {subjects} | {faults} |"


def check_contract(mean: Floats, std: Floats) -> None:
    """Stop unless `contract.toml` declares this very normalisation."""
    declared = tomllib.loads((HERE / "contract.toml").read_text())["inputs"][0]["normalisation"]
    if not (np.array_equal(np.float32(declared["mean"]), mean) and np.array_equal(np.float32(declared["std"]), std)):
        raise SystemExit(f"contract.toml must declare mean = {[*map(str, mean)]} and std = {[*map(str, std)]}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Train and export the wearable example's models.")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="folder for the plain copy of the data")
    parser.add_argument("--out", type=Path, default=HERE / "models", help="folder for the models")
    parser.add_argument("--select", action="store_true", help="only print how the candidates compare")
    options = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="keras|tensorflow")
    tf.config.experimental.enable_op_determinism()

    windows = load(options.cache).windows()
    training, held_out = split(windows)
    mean, std = normalisation(training)
    check_contract(mean, std)
    if options.select:
        select(training, mean, std)
        return

    data = Normalised(training, mean, std)
    judges = Normalised(held_out, mean, std), Normalised(replay_set(windows), mean, std)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [
        "| model | parameters | kB .keras / .tflite / .onnx | held-out accuracy | subject 8 / 9 / 10 | NaN in replay |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines))
    v1, v2 = train(V1, data, training.y), train(V2, data, training.y)
    models = {"v1": v1, "v2": v2, "v3": train(V2, data, MIXED_UP[training.y]), "v4": overconfident(v2)}
    for name, model in models.items():
        lines.append(row(name, model, export(model, options.out / name), *judges))
        print(lines[-1], flush=True)
    (options.out / "README.md").write_text("\n".join(["# Written by `train.py`", "", *lines, ""]))


if __name__ == "__main__":
    main()
