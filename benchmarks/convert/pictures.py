"""Pictures: Fashion-MNIST with a small network of our own, and two models that read text."""

from __future__ import annotations

import gzip
import string
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from convert.fetch import InWheel, from_debian, from_wheel
from convert.zoo import Case, Store, in_child

FASHION = (
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CALIBRATING_CLOTHES = 400
"""The last of the 60,000: the model does not learn from them."""
ANGLE = InWheel(
    requirement="rapidocr==3.10.0",
    member="rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
)
HEIGHT, WIDTH, EDGE = 48, 192, 6
"""Of a line, in pixels, and what is left free on either side of the text."""
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "STIXGeneral")
JUDGING, CALIBRATING = 8000, 200
"""Lines of text: the gate at one point needs about 5,500, as int8 changes many answers, for better and worse."""


def make_fashion(store: Store) -> None:
    """A DS-CNN, trained in a child on the 60,000, judged on the 10,000; the last 400 of the 60,000 calibrate."""
    (x, y), (held, held_labels) = fashion("train", store.cache), fashion("t10k", store.cache)
    kept = store.cache / "fashion-ds-cnn.keras"
    if not kept.exists():
        training = store.folder / "training.npz"
        np.savez(training, x=x[:-CALIBRATING_CLOTHES], y=y[:-CALIBRATING_CLOTHES])
        in_child("train_fashion.py", training, kept)
        training.unlink()
    store.model(kept)
    calibration = slice(-CALIBRATING_CLOTHES, None)
    store.data("calibration", image=x[calibration].astype(np.float32), y=y[calibration])
    store.data("evaluation", image=held.astype(np.float32), y=held_labels)
    image = {"name": "image", "shape": [1, 28, 28, 1], "layout": "NHWC", "colour": "GRAY", "range": [0, 255]}
    store.contract(
        {
            "version": "1.0",
            "task": "classification",
            "labels": CLOTHES,
            "inputs": [{**image, "normalisation": {"mean": [127.5], "std": [127.5]}}],
            "outputs": [{"name": "probabilities", "shape": [1, 10], "range": [0, 1]}],
        }
    )


def fashion(part: str, cache: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pictures, uint8 [N, 28, 28, 1], and classes of ``train`` or ``t10k``."""
    folder = from_debian(*FASHION, cache) / "usr/share/datasets/fashion-mnist"
    images, labels = _idx(folder / f"{part}-images-idx3-ubyte.gz", 16), _idx(folder / f"{part}-labels-idx1-ubyte.gz", 8)
    return images.reshape(-1, 28, 28, 1), labels.astype(np.int64)


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    array = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
    return array if header == 8 else array.reshape(-1, 28, 28)  # noqa: PLR2004 - the header of labels


def make_angle(store: Store) -> None:
    """Lines of text, half of them upside down: which?"""
    store.model(from_wheel(ANGLE, store.cache))
    for name, count, seed in (("calibration", CALIBRATING, 1), ("evaluation", JUDGING, 2)):
        random = np.random.default_rng(seed)
        y = np.arange(count) % 2
        x = np.stack([line_of_text(random, turned=bool(turned)) for turned in y])
        store.data(name, x=x.astype(np.float32), y=y.astype(np.int64))
    picture = {"name": "x", "shape": [1, 3, HEIGHT, WIDTH], "layout": "NCHW", "colour": "BGR", "range": [0, 255]}
    store.contract(
        {
            "version": "1.0",
            "task": "classification",
            "labels": ["0", "180"],
            "inputs": [{**picture, "normalisation": {"mean": [127.5] * 3, "std": [127.5] * 3}}],
            "outputs": [{"name": "scores", "shape": [1, 2], "range": [0, 1]}],
        }
    )


def line_of_text(random: np.random.Generator, *, turned: bool) -> NDArray[np.uint8]:
    """Return uint8 [3, 48, 192], BGR: words drawn, upside down or not; what does not fit is cut off."""
    chosen = font(random)
    return drawn(random, words(random), chosen, most=WIDTH, turned=turned)


def font(random: np.random.Generator) -> ImageFont.FreeTypeFont:
    """Return one of six fonts, in a size between 20 and 33."""
    fonts = Path(mpl.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(str(fonts / f"{random.choice(FONTS)}.ttf"), int(random.integers(20, 34)))


def words(random: np.random.Generator) -> str:
    """Return up to three words of letters and digits, which mean nothing."""
    letters = list(string.ascii_lowercase * 3 + string.ascii_uppercase + string.digits)
    sizes = random.integers(2, 9, int(random.integers(1, 4)))
    return " ".join("".join(random.choice(letters, size)) for size in sizes)


def drawn(
    random: np.random.Generator, text: str, chosen: ImageFont.FreeTypeFont, *, most: int, turned: bool = False
) -> NDArray[np.uint8]:
    """Return uint8 [3, 48, most], BGR: coloured words on another colour, noise; grey behind the end of the line."""
    paper = random.integers(130, 256, 3)
    ink = random.integers(0, 90, 3)
    if random.random() < 0.3:  # noqa: PLR2004 - light on dark
        paper, ink = ink, paper
    width = min(most, int(chosen.getlength(text)) + 2 * EDGE)
    image = Image.new("RGB", (width, HEIGHT), tuple(paper.tolist()))
    pen = ImageDraw.Draw(image)
    pen.text((EDGE, int(random.integers(2, 10))), text, fill=tuple(ink.tolist()), font=chosen)
    picture = np.asarray(image.rotate(180) if turned else image, np.float64)
    picture += random.normal(0, random.uniform(0, 18), picture.shape)
    line = np.full((HEIGHT, most, 3), 127, np.uint8)
    line[:, :width] = np.clip(np.rint(picture), 0, 255)
    return line[..., ::-1].transpose(2, 0, 1)


CASES = (
    Case(
        name="fashion",
        what="depthwise separable CNN trained here on Fashion-MNIST (Keras 3; data: MIT)",
        data="Fashion-MNIST's 10,000 test pictures, labelled",
        figure="accuracy",
        make=make_fashion,
    ),
    Case(
        name="ocr-angle",
        what="PP-OCR mobile v2.0, is a line of text upside down? (ONNX opset 11, 0.6 MB, Apache-2.0)",
        data="lines of text drawn with six fonts, labelled; more since a first run's gate asked for more",
        figure="accuracy",
        make=make_angle,
        formats=("onnx",),
    ),
)
