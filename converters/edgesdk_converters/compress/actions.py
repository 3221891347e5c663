"""What a child does for `prune` and `distill`. Only for children: imports TensorFlow."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras
import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgesdk.contract import Contract, load_contract_toml
from edgesdk.errors import ConfigError
from edgesdk_converters.compress.arrays import Arrays, contract_of, predict, prepare
from edgesdk_converters.compress.figures import figures, widths
from edgesdk_converters.compress.graph import flatten, load
from edgesdk_converters.compress.losses import Kind, answers_probabilities, judge, kind_of, teacher_loss
from edgesdk_converters.compress.pruners import ChannelPruner, Pruner, WeightPruner
from edgesdk_converters.compress.shrink import PROBES, shrink
from edgesdk_converters.compress.training import Checkpoint, Lesson, State, train
from edgesdk_converters.compress.words import Distil, Prune, Training
from edgesdk_converters.evaluate.compare import Question, compare
from edgesdk_converters.evaluate.scores import mean_of
from edgesdk_converters.running.isolation import Call

RESULT = "model.keras"
SETS = ("data", "validation", "evaluation")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_W = TypeVar("_W", bound=Training)


def prune(call: Call) -> dict[str, Any]:
    """Child action: write ``model.keras``, the input ``model`` with fewer channels or with zeroed weights."""
    words = _words(call, Prune)
    room = _Room(call, words, teacher=flatten(load(call.inputs["model"])))
    model = flatten(room.teacher)
    before = {"figures": figures(model), "channels": widths(model)}
    answer: dict[str, Any] = {"largest_difference": None, "removed": {}, "kept": {}}
    small, state = model, None
    if words.amount > 0:
        pruner = _pruner(model, words)
        answer["kept"] = pruner.kept
        bare = _pruned_at_once(model, words)
        answer["without_finetuning"] = room.compare(bare)
        small = bare
        if words.finetune:
            small, state = room.train(model, pruner=pruner, words=words)
    if words.by == "channels" or words.amount == 0:
        shrunk = shrink(small, room.probe())
        small = shrunk.model
        answer |= {"largest_difference": shrunk.largest_difference, "removed": shrunk.removed}
    if words.by == "channels":
        after = widths(small)
        answer["removed"] = {name: n - after[name] for name, n in before["channels"].items() if n != after[name]}
    return answer | room.finish(small, before, state)


def distil(call: Call) -> dict[str, Any]:
    """Child action: write ``model.keras``, the input ``student`` taught by the input ``teacher``."""
    words = _words(call, Distil)
    room = _Room(call, words, teacher=flatten(load(call.inputs["teacher"])))
    model = flatten(load(call.inputs["student"]))
    room.check_student(model)
    before = {"figures": figures(room.teacher), "channels": widths(room.teacher)}
    untaught = room.compare(model)
    small, state = room.train(model)
    return {"without_finetuning": untaught} | room.finish(small, before, state)


class _Room:
    """The data, the teacher and what they say about a model."""

    def __init__(self, call: Call, words: Training, *, teacher: Any) -> None:
        keras.utils.set_random_seed(words.seed)
        tf.config.experimental.enable_op_determinism()
        self.teacher = teacher
        self._call = call
        self._words_of_training = words
        self._contract = _contract(call, teacher)
        self._kind: Kind = kind_of(words.loss, self._contract.task, teacher) if self._contract else "mse"
        self._sets = {name: self._prepared(call.inputs[name]) for name in SETS if name in call.inputs}
        self._judged = next((name for name in ("evaluation", "validation") if name in self._sets), None)
        self._before: NDArray[np.float64] | None = None
        self._check_apart()

    def check_student(self, student: Any) -> None:
        """Refuse a student that does not take and answer what the teacher does.

        Raises:
            ConfigError: ``contract-mismatch``.
        """
        for kind in ("inputs", "outputs"):
            wanted, got = ([tuple(each.shape[1:]) for each in getattr(m, kind)] for m in (self.teacher, student))
            if wanted != got:
                raise ConfigError("contract-mismatch", f"the teacher's {kind} are {wanted}, the student's {got}")

    def probe(self) -> list[NDArray[Any]] | None:
        """Return a few real samples; None where there are none."""
        arrays = next(iter(self._sets.values()), None)
        return None if arrays is None else arrays.take(slice(0, PROBES))

    def compare(self, model: Any) -> dict[str, Any] | None:
        """Return a model's figures beside the teacher's on the judging data; None without labels."""
        arrays = self._sets.get(self._judged or "")
        if arrays is None or arrays.targets is None:
            return None
        if self._before is None:
            self._before = self._judge(self.teacher, arrays)
        after = self._judge(model, arrays)
        greater = self._kind in {"categorical", "binary"}
        sign = 1 if greater else -1
        found = compare(
            mean_of(sign * self._before),
            mean_of(sign * after),
            len(arrays),
            Question(greater=greater, margin=0.0, alpha=0.01),
        )
        return {
            "metric": "accuracy" if greater else self._kind,
            "before": found.source_value,
            "after": found.value,
            "difference": found.value - found.source_value,
            "interval": list(found.interval),
            "confidence": 0.95,
            "method": found.method,
            "samples": found.samples,
            "data": self._judged,
            "chosen_on_it": self._judged == "validation",
        }

    def train(self, model: Any, *, pruner: Pruner | None = None, words: Prune | None = None) -> tuple[Any, State]:
        """Train a model on, pruned by `pruner` if there is one.

        Raises:
            ConfigError: ``argument-invalid`` or ``data-invalid`` if it cannot be taught.
        """
        how = self._words_of_training
        self._check_teachable(model)
        notes = Path(self._call.params["notes"])

        def tell(state: State) -> None:
            notes.write_text(json.dumps(state.history[-1]))

        return train(
            model,
            self._lesson(model),
            how,
            checkpoint=Checkpoint(Path(self._call.params["checkpoint"])),
            progress=self._call.progress,
            tell=tell,
            ramp=int(words.ramp * how.epochs) if words is not None and words.schedule == "polynomial" else 0,
            pruner=pruner,
            amount=words.amount if words is not None else 0.0,
            settle=self._settled if words is not None and words.by == "channels" else lambda model: model,
        )

    def finish(self, model: Any, before: dict[str, Any], state: State | None) -> dict[str, Any]:
        """Write the model and return its figures beside those `before`."""
        model.name = self.teacher.name
        save(model, self._call.out / RESULT)
        after = {"figures": figures(model), "channels": widths(model)}
        training = None
        if state is not None:
            training = {"epochs": state.epoch, "best_epoch": state.best_epoch, "history": state.history}
        return {"before": before, "after": after, "evaluation": self.compare(model), "training": training}

    def _check_apart(self) -> None:
        """Refuse samples that both teach and judge.

        Raises:
            ConfigError: ``data-overlap``.
        """
        learned = self._sets["data"].digests() if "data" in self._sets else set()
        for name in ("validation", "evaluation"):
            shared = len(learned & self._sets[name].digests()) if name in self._sets else 0
            if shared:
                message = f"{shared} samples of the {name} data are also in the data to learn from"
                raise ConfigError("data-overlap", message)

    def _settled(self, model: Any) -> Any:
        return shrink(model, self.probe()).model

    def _prepared(self, path: Path) -> Arrays:
        assert self._contract is not None, "data brings a contract"
        place = list(self._call.inputs.values()).index(path)
        return prepare(path, self._contract, self.teacher, Path(self._call.params["scratch"]) / str(place))

    def _judge(self, model: Any, arrays: Arrays) -> NDArray[np.float64]:
        assert arrays.targets is not None, "it was looked"
        width = math.prod(model.outputs[0].shape[1:])
        if self._kind == "categorical" and int(arrays.targets.max()) >= width:
            found = f"the model answers {width} classes, and a label is {int(arrays.targets.max())}"
            raise ConfigError("data-invalid", found)
        probabilities = answers_probabilities(model)
        return judge(self._kind, predict(model, arrays), arrays.targets, probabilities=probabilities)

    def _lesson(self, model: Any) -> Lesson:
        share = self._words_of_training.teacher_share
        probabilities = answers_probabilities(model), answers_probabilities(self.teacher)
        data, teacher = self._sets["data"], None
        if share > 0:
            loss = teacher_loss(
                self._kind, probabilities=probabilities, temperature=self._words_of_training.temperature
            )
            teacher = predict(self.teacher, data, Path(self._call.params["scratch"]) / "teacher.npy"), loss
        return Lesson(
            data=data,
            validation=self._sets["validation"],
            kind=self._kind,
            probabilities=probabilities[0],
            teacher=teacher,
        )

    def _check_teachable(self, model: Any) -> None:
        if len(model.outputs) > 1:
            raise ConfigError(
                "argument-invalid",
                f"training takes models of one output, and {model.name!r} has {len(model.outputs)}",
                hint="Prune it with --no-finetune, or train it with your own loop.",
            )
        if self._sets["validation"].targets is None:
            raise ConfigError("data-invalid", "the validation data has no labels `y`")
        if self._sets["data"].targets is None and self._words_of_training.teacher_share == 0:
            hint = "Give labels, or let the teacher's answers stand for them: --teacher-share 1."
            raise ConfigError("data-invalid", "the data to learn from has no labels `y`, and no teacher", hint=hint)


def save(model: Any, path: Path) -> None:
    """Write a ``.keras`` file whose bytes follow from the model: Keras' own holds the time."""
    partial = path.with_name("partial.keras")
    model.save(partial)
    with zipfile.ZipFile(partial) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": ""}).encode()
            target.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    partial.unlink()


def _pruner(model: Any, words: Prune) -> Pruner:
    kinds: dict[str, Callable[..., Pruner]] = {"channels": ChannelPruner, "weights": WeightPruner}
    return kinds[words.by](model, spread=words.spread)


def _pruned_at_once(model: Any, words: Prune) -> Any:
    """Return a copy with everything pruned that is asked, untrained."""
    copy = flatten(model)
    for place, mask in _pruner(copy, words).masks(words.amount).items():
        variable = copy.variables[place]
        variable.assign(np.asarray(variable) * mask)
    return copy


def _words(call: Call, kind: type[_W]) -> _W:
    return msgspec.convert(call.params["words"], kind, dec_hook=lambda hint, value: hint(value))


def _contract(call: Call, model: Any) -> Contract | None:
    if "contract" in call.inputs:
        return load_contract_toml(call.inputs["contract"].read_text())
    data = [call.inputs[name] for name in SETS if name in call.inputs]
    return contract_of(model, data) if data else None
