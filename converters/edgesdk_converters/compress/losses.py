"""What a training makes small, per sample: the labels' loss and the distance to a teacher's answers. In children only.

A teacher's answers are compared as Hinton, Vinyals & Dean (2015, "Distilling the knowledge in a neural network") do:
``T² · KL(softmax(teacher / T) ‖ softmax(student / T))`` for a temperature T. Where a model answers probabilities their
logarithms are its logits, up to a constant that the softmax does not see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgesdk.errors import ConfigError
from edgesdk_converters.compress.shrink import PROBES, answers, random_inputs
from edgesdk_converters.compress.walk import activation_name
from edgesdk_converters.compress.words import Loss

Kind = Literal["categorical", "binary", "mse", "mae"]
Pairwise = Callable[[Any, Any], Any]
"""From (answers, targets) to one loss per sample."""
SMALLEST = 1e-7
SUM = 1e-3
"""By which probabilities may miss one in sum."""
_HALF = 0.5


def kind_of(asked: Loss, task: str, model: Any) -> Kind:
    """Return the loss of a task.

    Raises:
        ConfigError: ``argument-invalid`` if the task has none of its own.
    """
    if asked != "auto":
        return asked
    if task == "classification":
        return "binary" if model.outputs[0].shape[-1] == 1 else "categorical"
    if task == "regression":
        return "mse"
    raise ConfigError("argument-invalid", f"the task {task} has no loss of its own", hint="Give --loss.")


def answers_probabilities(model: Any) -> bool:
    """Say whether a flat model's first output went through a softmax or sigmoid, or is seen to sum to one."""
    layer = model.outputs[0]._keras_history.operation  # noqa: SLF001 - no public way
    if activation_name(getattr(layer, "activation", layer)).lower() in {"softmax", "sigmoid"}:
        return True
    rows = answers(model, random_inputs(model))[0].reshape(PROBES, -1)
    return bool(rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=SUM))


def label_loss(kind: Kind, *, probabilities: bool) -> Pairwise:
    """Return the loss against labels or true values."""

    def categorical(answers: Any, targets: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(targets, _rows(answers), from_logits=not probabilities)

    def binary(answers: Any, targets: Any) -> Any:
        wanted = ops.cast(ops.reshape(targets, (-1, 1)), "float32")
        return keras.losses.binary_crossentropy(wanted, _rows(answers), from_logits=not probabilities)

    def distance(answers: Any, targets: Any) -> Any:
        error = _rows(answers) - _rows(ops.cast(targets, "float32"))
        return ops.mean(ops.square(error) if kind == "mse" else ops.abs(error), axis=-1)

    return {"categorical": categorical, "binary": binary}.get(kind, distance)


def teacher_loss(kind: Kind, *, probabilities: tuple[bool, bool], temperature: float) -> Pairwise:
    """Return the distance to a teacher's answers.

    Args:
        kind: The loss of the labels.
        probabilities: Whether the student and the teacher answer probabilities.
        temperature: T above.
    """
    student_p, teacher_p = probabilities

    def classes(answers: Any, targets: Any) -> Any:
        student = ops.log_softmax(_logits(_rows(answers), is_probability=student_p) / temperature)
        teacher = ops.log_softmax(_logits(_rows(targets), is_probability=teacher_p) / temperature)
        return temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)

    def two(answers: Any, targets: Any) -> Any:
        wanted = _rows(targets) if teacher_p else ops.sigmoid(_rows(targets))
        return keras.losses.binary_crossentropy(wanted, _rows(answers), from_logits=not student_p)

    return {"categorical": classes, "binary": two}.get(kind, label_loss(kind, probabilities=False))


def judge(kind: Kind, answers: NDArray[Any], targets: NDArray[Any], *, probabilities: bool) -> NDArray[np.float64]:
    """Return one figure per sample, more is better: 1 for a right class, or minus the error of a value."""
    rows = answers.reshape(len(answers), -1)
    if kind == "categorical":
        right = (rows.argmax(axis=1) == targets) & np.isfinite(rows).all(axis=1)
    elif kind == "binary":
        right = (rows[:, 0] > (_HALF if probabilities else 0.0)) == (targets.reshape(-1) > _HALF)
    else:
        error = rows.astype(np.float64) - targets.reshape(len(targets), -1)
        return np.asarray(-(error**2 if kind == "mse" else np.abs(error)).mean(axis=1))
    return np.asarray(right, dtype=np.float64)


def _rows(values: Any) -> Any:
    return ops.reshape(values, (ops.shape(values)[0], -1))


def _logits(values: Any, *, is_probability: bool) -> Any:
    return ops.log(ops.clip(values, SMALLEST, 1.0)) if is_probability else values
