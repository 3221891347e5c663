"""The fine-tuning loop: masks kept, early stopping with the best weights restored, a checkpoint after each epoch.

Only for children: imports TensorFlow. What happens follows from the words and the seed alone: each epoch draws its own
order of samples, and a checkpoint holds everything that the next epoch reads, so a training that was killed and goes on
ends with the very weights of one that was not.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgesdk.errors import ReleaseError
from edgesdk_converters.compress.arrays import Arrays, predict
from edgesdk_converters.compress.graph import load
from edgesdk_converters.compress.losses import Kind, Pairwise, judge, label_loss
from edgesdk_converters.compress.pruners import Masks, Pruner, scheduled
from edgesdk_converters.compress.shrink import packed
from edgesdk_converters.compress.words import Training
from edgesdk_converters.running.isolation import Progress

REPORT_EVERY = 8
MASK_UPDATES = 8
"""Times in an epoch that masks are chosen anew while pruning grows."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learned from.

    Attributes:
        data: Samples to learn from; labels may be missing if there is a teacher.
        validation: Samples with labels that stop the training.
        kind: The loss of the labels.
        probabilities: Whether the model answers probabilities.
        teacher: The teacher's answers for `data`, and their loss; None without one.
    """

    data: Arrays
    validation: Arrays
    kind: Kind
    probabilities: bool
    teacher: tuple[NDArray[Any], Pairwise] | None


@dataclass(kw_only=True)
class State:
    """Where a training is.

    Attributes:
        stage: ``ramp`` while pruning grows, then ``tune``.
        epoch: Epochs done, of both stages.
        best: Score of the best epoch of ``tune`` so far, more is better; None before the first.
        best_epoch: That epoch.
        history: One entry per epoch.
    """

    stage: str = "ramp"
    epoch: int = 0
    best: tuple[float, float] | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoint:
    """One file that holds everything that the next epoch reads; it is replaced by a rename."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "checkpoint.npz"
        self.tuned = folder / "tune.keras"
        """The model with which the stage ``tune`` began."""

    def write(self, state: State, **groups: list[NDArray[Any]]) -> None:
        """Keep a state and lists of arrays by name."""
        arrays = {f"{name}-{place}": each for name, group in groups.items() for place, each in enumerate(group)}
        plain = json.dumps(state.__dict__)
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, state=np.array(plain), **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)

    def read(self) -> tuple[State, dict[str, list[NDArray[Any]]]] | None:
        """Return what was kept last; None if nothing was, or the file is damaged."""
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                state = State(**json.loads(str(arrays["state"])))
                groups: dict[str, list[NDArray[Any]]] = {}
                for name in arrays.files:  # in the order in which they were written
                    if name != "state":
                        groups.setdefault(name.partition("-")[0], []).append(arrays[name])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None
        state.best = None if state.best is None else (state.best[0], state.best[1])
        return state, groups


class Trainer:
    """Trains one model; made anew for each stage.

    Args:
        model: The model; its weights change.
        lesson: What it learns from.
        words: How.
        total: Steps of both stages together, for the progress.
        progress: Is told how many are done.
    """

    def __init__(self, model: Any, lesson: Lesson, words: Training, *, total: int, progress: Progress) -> None:
        self.model = model
        self._lesson = lesson
        self._words = words
        self._total = total
        self._progress = progress
        self._optimizer = keras.optimizers.Adam(words.learning_rate)
        self._optimizer.build(model.trainable_variables)
        self._labels = label_loss(lesson.kind, probabilities=lesson.probabilities)
        self._masks: dict[int, Any] = {}
        self._step = tf.function(self._one_step, reduce_retracing=True)

    @property
    def steps(self) -> int:
        """Steps in an epoch; samples that fill no batch wait for the next epoch's order."""
        return max(1, len(self._lesson.data) // self._words.batch)

    def mask(self, masks: Masks) -> None:
        """Zero what masks leave out, now and after each step."""
        for place, mask in masks.items():
            values = mask.astype(np.float32)
            if place not in self._masks:
                self._masks[place] = tf.Variable(values, trainable=False)
                self._step = tf.function(self._one_step, reduce_retracing=True)
            self._masks[place].assign(values)
        self._keep_masks()

    def epoch(self, number: int, rate: float, pruner: tuple[Pruner, Callable[[int], float]] | None = None) -> float:
        """Train one epoch; return its mean loss.

        Args:
            number: The epoch, from 0; it decides the order of samples.
            rate: Learning rate.
            pruner: Chooses masks, by the amount for a step of this epoch.

        Raises:
            ReleaseError: ``training-diverged``.
        """
        random = np.random.default_rng((self._words.seed, number))
        order = random.permutation(len(self._lesson.data))
        self._optimizer.learning_rate.assign(rate)
        losses = []
        every = max(1, self.steps // MASK_UPDATES)
        for step in range(self.steps):
            if pruner is not None and step % every == 0:
                self.mask(pruner[0].masks(pruner[1](step)))
            rows = np.sort(order[step * self._words.batch : (step + 1) * self._words.batch])
            losses.append(self._step(*self._batch(rows)))
            if step % REPORT_EVERY == 0:
                self._progress(number * self.steps + step, self._total)
        mean = float(np.mean([float(each) for each in losses]))
        if not math.isfinite(mean):
            raise ReleaseError("training-diverged", f"the loss of epoch {number + 1} is {mean}")
        return mean

    def score(self) -> tuple[float, float]:
        """Return how good the model is on the validation data, more is better: its figure, and minus its loss."""
        validation = self._lesson.validation
        answers, targets = predict(self.model, validation), validation.targets
        assert targets is not None, "validation data has labels"
        figure = judge(self._lesson.kind, answers, targets, probabilities=self._lesson.probabilities).mean()
        loss = float(np.mean(np.asarray(self._labels(tf.constant(answers), tf.constant(targets)))))
        return float(figure), -loss

    def weights(self) -> list[NDArray[Any]]:
        """Return the model's variables as they are now."""
        return [np.array(each) for each in self.model.variables]

    def variables(self) -> dict[str, list[NDArray[Any]]]:
        """Return everything that the next step reads, by name."""
        return {
            "model": self.weights(),
            "optimizer": [np.asarray(each) for each in self._optimizer.variables],
            "place": [np.array(sorted(self._masks), dtype=np.int64)],
            "mask": [self._masks[place].numpy() for place in sorted(self._masks)],
        }

    def restore(self, groups: dict[str, list[NDArray[Any]]]) -> None:
        """Set what `variables` returned."""
        for variable, values in zip(self.model.variables, groups["model"], strict=True):
            variable.assign(values)
        for variable, values in zip(self._optimizer.variables, groups["optimizer"], strict=True):
            variable.assign(values)
        places = groups["place"][0].tolist()
        self.mask(dict(zip(places, (mask != 0 for mask in groups.get("mask", [])), strict=True)))

    def _batch(self, rows: NDArray[np.int64]) -> tuple[Any, ...]:
        data = self._lesson.data
        targets = np.zeros(len(rows), np.float32) if data.targets is None else data.targets[rows]
        taught = np.zeros(len(rows), np.float32) if self._lesson.teacher is None else self._lesson.teacher[0][rows]
        return [tf.constant(each) for each in data.take(rows)], tf.constant(targets), tf.constant(taught)

    def _one_step(self, inputs: list[Any], targets: Any, taught: Any) -> Any:
        with tf.GradientTape() as tape:
            answers = tf.nest.flatten(self.model(packed(self.model, inputs), training=True))[0]
            loss = tf.add_n([self._objective(answers, targets, taught), *self.model.losses])
        variables = self.model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        self._keep_masks()
        return loss

    def _objective(self, answers: Any, targets: Any, taught: Any) -> Any:
        share = self._words.teacher_share if self._lesson.teacher is not None else 0.0
        labelled = self._lesson.data.targets is not None and share < 1
        parts = [(1 - share) * tf.reduce_mean(self._labels(answers, targets))] if labelled else []
        if self._lesson.teacher is not None and share > 0:
            parts.append(share * tf.reduce_mean(self._lesson.teacher[1](answers, taught)))
        return tf.add_n(parts)

    def _keep_masks(self) -> None:
        for place, mask in self._masks.items():
            variable = self.model.variables[place]
            variable.assign(variable * mask)


def train(
    model: Any,
    lesson: Lesson,
    words: Training,
    *,
    checkpoint: Checkpoint,
    progress: Progress,
    ramp: int = 0,
    pruner: Pruner | None = None,
    amount: float = 0.0,
    settle: Callable[[Any], Any] = lambda model: model,
    tell: Callable[[State], None] = lambda _state: None,
) -> tuple[Any, State]:
    """Train a model and return it with its best weights, and how it went.

    Args:
        model: The model to begin with.
        lesson: What it learns from.
        words: How.
        checkpoint: Where it goes on if it was killed.
        progress: Is told the steps that are done.
        ramp: Epochs in which pruning grows, before those that are judged.
        pruner: Chooses masks; None without pruning.
        amount: What is pruned at the end of the ramp.
        settle: Called with the model after the ramp; returns the one that is trained from then on.
        tell: Called after each epoch.
    """
    total = words.epochs * max(1, len(lesson.data) // words.batch)

    def trainer_of(each: Any) -> Trainer:
        return Trainer(each, lesson, words, total=total, progress=progress)

    state, groups = checkpoint.read() or (State(), {})
    masks: Masks = {}
    if state.stage == "ramp":
        trainer = trainer_of(model)
        if groups:
            trainer.restore(groups)
        _ramp(trainer, state, checkpoint, words, pruner=pruner, ramp=ramp, amount=amount, tell=tell)
        masks, groups = _settle(trainer, checkpoint, settle, pruner=pruner, amount=amount), {}
    tuned = trainer_of(load(checkpoint.tuned))
    if groups:
        tuned.restore(groups)
        best = groups["best"]
    else:
        tuned.mask(masks)
        best = tuned.weights()
        state.stage, state.best, state.best_epoch = "tune", tuned.score(), ramp
    _tune(tuned, state, checkpoint, words, ramp=ramp, best=best, tell=tell)
    progress(total, total)
    return tuned.model, state


def _settle(
    trainer: Trainer, checkpoint: Checkpoint, settle: Callable[[Any], Any], *, pruner: Pruner | None, amount: float
) -> Masks:
    """End the ramp: keep the model that the stage ``tune`` begins with; return the masks that still hold."""
    masks = pruner.masks(amount) if pruner is not None else {}
    trainer.mask(masks)
    partial = checkpoint.tuned.with_name("partial.keras")
    settle(trainer.model).save(partial)
    partial.replace(checkpoint.tuned)
    return masks if pruner is not None and pruner.lasting else {}


def _tune(
    trainer: Trainer,
    state: State,
    checkpoint: Checkpoint,
    words: Training,
    *,
    ramp: int,
    best: list[NDArray[Any]],
    tell: Callable[[State], None],
) -> None:
    """Train until the validation no longer improves; leave the best weights in the model."""
    while state.epoch < words.epochs and state.epoch - state.best_epoch < words.patience:
        share = (state.epoch - ramp) / (words.epochs - ramp)
        loss = trainer.epoch(state.epoch, words.learning_rate * (1 + math.cos(math.pi * share)) / 2)
        score = trainer.score()
        state.epoch += 1
        if state.best is None or score > state.best:
            state.best, state.best_epoch, best = score, state.epoch, trainer.weights()
        _note(state, loss, score)
        checkpoint.write(state, **trainer.variables(), best=best)
        tell(state)
    for variable, values in zip(trainer.model.variables, best, strict=True):
        variable.assign(values)


def _ramp(
    trainer: Trainer,
    state: State,
    checkpoint: Checkpoint,
    words: Training,
    *,
    pruner: Pruner | None,
    ramp: int,
    amount: float,
    tell: Callable[[State], None],
) -> None:
    while state.epoch < ramp:
        assert pruner is not None, "only pruning has a ramp"
        done = state.epoch * trainer.steps

        def wanted(step: int, done: int = done) -> float:
            return scheduled(amount, (done + step) / (ramp * trainer.steps))

        loss = trainer.epoch(state.epoch, words.learning_rate, (pruner, wanted))
        state.epoch += 1
        _note(state, loss, trainer.score())
        checkpoint.write(state, **trainer.variables())
        tell(state)


def _note(state: State, loss: float, score: tuple[float, float]) -> None:
    figures = {"loss": loss, "validation": score[0], "validation_loss": -score[1]}
    state.history.append({"epoch": state.epoch, "stage": state.stage, **figures})
