"""Metrics by name, which task each is for, and which gates when none is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.canonical import sha256_hex
from edgesdk.contract import Contract, Task
from edgesdk.errors import ConfigError
from edgesdk_converters.data.functions import file_of, find_function, load_function, reported
from edgesdk_converters.data.npz import DataSet, has_batch
from edgesdk_converters.evaluate import scores
from edgesdk_converters.evaluate.classwise import FIGURES, Figure
from edgesdk_converters.evaluate.scores import Outputs, Scored

Truth = Literal["class", "classes", "values", "none"]
"""What labels a data set has: one class per sample, several, numbers, or none."""
AGREEMENT = "agreement"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model's answers on N samples, and what they are held against.

    Attributes:
        outputs: The answers.
        reference: The float source's answers on the same samples.
        truth: int64 [N] classes, int64 [N, K] classes, numbers [N, …], or None.
    """

    contract: Contract
    outputs: Outputs
    reference: Outputs
    truth: NDArray[Any] | None

    def first(self, outputs: Outputs | None = None) -> NDArray[Any]:
        """Return the first output as [N, K]."""
        values = (outputs or self.outputs)[self.contract.outputs[0].name]
        return values.reshape(len(values), -1)

    def samples(self) -> Outputs:
        """Return the outputs as ``(N, *sample)``: without the batch of one that a call has."""
        specs = {spec.name: spec for spec in self.contract.outputs}
        return {
            name: values[:, 0] if has_batch(specs[name]) and values.ndim > 1 and values.shape[1] == 1 else values
            for name, values in self.outputs.items()
        }

    def classes(self) -> NDArray[np.int64]:
        """Return the class labels."""
        assert self.truth is not None
        return self.truth.astype(np.int64)

    def numbers(self) -> NDArray[np.float64]:
        """Return the value labels as [N, K]."""
        assert self.truth is not None
        return self.truth.reshape(len(self.truth), -1).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        greater: Whether more is better.
        truth: The labels that it needs.
        relative: Whether losses are counted in standard deviations of the value labels, not in its own unit.
        share: Whether it is a share, so that a change of 0.01 is a point; a user's metric is seen to be one where
            every sample scores 0 or 1.
    """

    name: str
    what: str
    truth: frozenset[Truth]
    score: Callable[[Case], Scored]
    greater: bool = True
    relative: bool = False
    share: bool = True


def _of_classes(figure: Figure, *, weighted: bool) -> Callable[[Case], Scored]:
    def score(case: Case) -> Scored:
        found = case.first()
        return scores.averaged(found, case.classes(), max(2, found.shape[1]), figure, weighted=weighted)

    return score


def _agreement(case: Case) -> Scored:
    name, shape = case.contract.outputs[0].name, case.contract.outputs[0].shape
    if case.contract.task == "classification" and shape[-1:] not in {(), (1,)}:
        ours, theirs = (scores.answered_classes({name: each[name]}) for each in (case.outputs, case.reference))
        return scores.mean_of((ours == theirs).all(axis=1))
    return scores.reproduced(case.outputs, case.reference)


_CLASS, _VALUES = frozenset[Truth]({"class"}), frozenset[Truth]({"values"})
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            what="share of samples whose class is right",
            truth=_CLASS,
            score=lambda case: scores.right_answers(case.first(), case.classes()),
        ),
        Metric(
            name="exact-match",
            what="share of samples of which every class is right",
            truth=frozenset({"class", "classes"}),
            score=lambda case: scores.exact_matches(case.outputs, case.classes().reshape(len(case.classes()), -1)),
        ),
        *(
            Metric(
                name=figure if not weighted else f"{figure}-weighted",
                what=f"{figure} of each class, averaged {'by their size' if weighted else 'plainly'}",
                truth=_CLASS,
                score=_of_classes(figure, weighted=weighted),
            )
            for figure in FIGURES
            for weighted in (False, True)
        ),
        Metric(
            name="auc",
            what="area under the ROC curve; one-vs-rest, macro, for more than two classes",
            truth=_CLASS,
            score=lambda case: scores.area_under_curve(case.first(), case.classes()),
        ),
        Metric(
            name="rmse",
            what="root of the mean squared error",
            truth=_VALUES,
            greater=False,
            relative=True,
            share=False,
            score=lambda case: scores.root_of_squares(case.first(), case.numbers()),
        ),
        Metric(
            name="mae",
            what="mean absolute error",
            truth=_VALUES,
            greater=False,
            relative=True,
            share=False,
            score=lambda case: scores.absolute_error(case.first(), case.numbers()),
        ),
        Metric(
            name=AGREEMENT,
            what="with the float source: the same classes, or the share of its outputs' variance that is reproduced",
            truth=frozenset({"class", "classes", "values", "none"}),
            score=_agreement,
        ),
    )
}
_BY_TASK: dict[tuple[Task, Truth], str] = {
    ("classification", "class"): "accuracy",
    ("classification", "classes"): "exact-match",
    ("regression", "values"): "rmse",
}


def truth_kind(data: DataSet) -> Truth:
    """Return what labels a data set has."""
    if data.truth is None:
        return "none"
    if data.contract.task != "classification":
        return "values"
    return "class" if data.truth.ndim == 1 else "classes"


def default_metric(contract: Contract, truth: Truth) -> str:
    """Return the metric that gates when none is named: agreement with the float source where labels say nothing."""
    return _BY_TASK.get((contract.task, truth), AGREEMENT)


def find_metric(name: str, contract: Contract, truth: Truth) -> Metric:
    """Return a metric by its name, or a user's by ``module:function``.

    Raises:
        ConfigError: ``argument-invalid`` if there is none, or if it needs other labels than there are, as a user's
            does where there are none; ``file-missing`` if there is no such module.
    """
    if ":" in name:
        _check_labelled(name, truth)
        function = load_function(name, "metric")
        return Metric(
            name=name,
            what="a metric of your own",
            truth=frozenset({truth}),
            greater=bool(getattr(function, "greater_is_better", True)),
            share=False,
            score=lambda case: scores.given(_guarded(name, function), case.samples(), case.truth),
        )
    if name not in METRICS:
        known = ", ".join(METRICS)
        raise ConfigError("argument-invalid", f"no metric is called {name!r}", hint=f"Choose {known}, or module:name.")
    metric = METRICS[name]
    if truth not in metric.truth:
        needs = " or ".join(_WORDS[each] for each in sorted(metric.truth))
        message = f"the metric {name} needs {needs}; the evaluation data has {_WORDS[truth]}, and the task is"
        raise ConfigError("argument-invalid", f"{message} {contract.task}")
    return metric


_WORDS: dict[Truth, str] = {
    "class": "a class per sample",
    "classes": "several classes per sample",
    "values": "numbers per sample",
    "none": "no labels",
}


def check_metric(name: str, contract: Contract, truth: Truth) -> str:
    """Return the name of a metric that fits these labels; a user's module is looked for, not imported.

    Raises:
        ConfigError: As `find_metric`.
    """
    if ":" not in name:
        return find_metric(name, contract, truth).name
    _check_labelled(name, truth)
    find_function(name, "metric")
    return name


def _check_labelled(name: str, truth: Truth) -> None:
    """Refuse a user's metric without labels: it would compare with None, and score 0 for both models."""
    if truth == "none":
        message = f"the metric {name} compares outputs with labels, and the evaluation data has no array `y`"
        hint = "Give `y` in the evaluation data, or leave --metric out to report agreement with the float source."
        raise ConfigError("argument-invalid", message, hint=hint)


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a user's metric so that its exceptions name its file and line."""

    def call(outputs: Outputs, truth: NDArray[Any] | None) -> Any:
        with reported(name, "metric", file_of(function)):
            return function(outputs, truth)

    return call


def function_sha256(name: str) -> str:
    """Return a hash of the file of a user's ``module:function``, of its name where none is seen."""
    path = Path(*name.partition(":")[0].split("."))
    found = next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)
    return sha256_hex(found.read_bytes() if found is not None else name.encode())
