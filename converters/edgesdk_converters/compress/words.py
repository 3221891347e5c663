"""What a caller asks for: the same words in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgesdk.errors import ConfigError
from edgesdk_converters.compress.lineage import report_beside
from edgesdk_converters.places import check_writable

Loss = Literal["auto", "categorical", "binary", "mse", "mae"]
Share = Annotated[float, Meta(ge=0, lt=1)]
DAY = 86_400.0


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How a compressed model is trained on.

    Attributes:
        data: What it learns from, as `inputs.as_npz` takes it; without a contract an ``.npz`` whose arrays are what the
            model itself takes (already normalised).
        validation: What stops the training and chooses its best epoch.
        evaluation: What the figures before and after are taken on; None: `validation`, and the report says so.
        contract: TOML file of the contract: names, normalisation, labels, task.
        loss: ``auto`` follows the contract's task, or, without one, the type of `y`.
        epochs: Most passes over `data`.
        patience: Passes without a better validation before the training stops.
        batch: Samples in one step.
        learning_rate: Of Adam, at the start; it falls along a cosine.
        seed: Of everything random; the same seed gives the same model.
        teacher_share: Alpha, the weight of the teacher's answers in the loss (0..1); the rest are the labels.
        temperature: By which both answers are softened before they are compared.
        timeout_s: Wall time for everything, in seconds.
        cache_dir: Where half done training is kept; None: the user's cache.
        force: Whether an existing result is replaced.
    """

    data: Path | None = None
    validation: Path | None = None
    evaluation: Path | None = None
    contract: Path | None = None
    loss: Loss = "auto"
    epochs: Annotated[int, Meta(ge=1)] = 30
    patience: Annotated[int, Meta(ge=1)] = 8
    batch: Annotated[int, Meta(ge=1)] = 64
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    teacher_share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Meta(gt=0)] = 2.0
    timeout_s: Annotated[float, Meta(gt=0)] = DAY
    cache_dir: Path | None = None
    force: bool = False


class Prune(Training, frozen=True, kw_only=True):
    """One call of `prune`.

    Attributes:
        model: A ``.keras`` file.
        out: Where the smaller one is written; its report goes beside it.
        by: ``channels`` gives a smaller dense model; ``weights`` zeroes single weights, which makes nothing faster.
        amount: Share of the channels or weights that go; 0 removes only what no answer depends on.
        schedule: Whether pruning grows over the first epochs (``polynomial``) or is done at once (``oneshot``).
        ramp: Share of the epochs in which it grows.
        spread: Whether each layer gives the same share, or the least of the whole model go.
        finetune: Whether the smaller model is trained on.
    """

    model: Path
    out: Path
    by: Literal["channels", "weights"] = "channels"
    amount: Share = 0.5
    schedule: Literal["polynomial", "oneshot"] = "polynomial"
    ramp: Share = 0.3
    spread: Literal["layer", "model"] = "model"
    finetune: bool = True


class Distil(Training, frozen=True, kw_only=True):
    """One call of `distill`.

    Attributes:
        teacher: A ``.keras`` file.
        student: A ``.keras`` file with the architecture, and the weights to start from.
        out: Where the trained student is written.
    """

    teacher: Path
    student: Path
    out: Path


def check(words: Prune | Distil) -> None:
    """Refuse words that contradict each other, and a place that cannot be written.

    Raises:
        ConfigError: ``argument-invalid``, ``file-missing``, ``file-exists`` or ``folder-unwritable``.
    """
    models = [words.model] if isinstance(words, Prune) else [words.teacher, words.student]
    for model in models:
        if not model.is_file():
            raise ConfigError("file-missing", f"no model file {model}")
        if model.suffix != ".keras":
            raise ConfigError("model-format", f"{model} is no .keras file; only Keras 3 models are compressed")
        if words.out.exists() and words.out.samefile(model):
            raise ConfigError("argument-invalid", f"{words.out} is the model itself", hint="Give another --out.")
    if words.out.suffix != ".keras":
        raise ConfigError("argument-invalid", f"the result is a .keras file, got the name {words.out}")
    for written in (words.out, report_beside(words.out)):
        if written.is_dir():
            raise ConfigError("file-exists", f"{written} is a folder", hint="Give --out the name of a file.")
    if words.out.exists() and not words.force:
        raise ConfigError("file-exists", f"{words.out} exists", hint="Choose another file, or give --force.")
    check_writable(words.out)
    trains = not isinstance(words, Prune) or (words.finetune and words.amount > 0)
    if trains and (words.data is None or words.validation is None):
        missing = "data to learn from" if words.data is None else "validation data"
        hint = "Give --data and --validation; or --no-finetune, which loses accuracy and says how much."
        raise ConfigError("argument-invalid", f"training has no {missing}", hint=hint)
