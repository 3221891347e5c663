"""The first gate: a float model that only guesses is refused before anything is compared with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgesdk.errors import ReleaseError
from edgesdk_converters.cache import Entry
from edgesdk_converters.data import class_names
from edgesdk_converters.evaluate.checks import EVALUATION, OUTPUTS
from edgesdk_converters.evaluate.metrics import decide
from edgesdk_converters.evaluate.source import Suspicion, suspect
from edgesdk_converters.evaluate.step import read_npz
from edgesdk_converters.plan import VariantPlan
from edgesdk_converters.request import Prepared
from edgesdk_converters.steps import Observer, Runner, Step

BY_CLASS = frozenset({"accuracy", "exact-match", *(f"{each}{kind}" for each in ("precision", "recall", "f1")
                      for kind in ("", "-weighted"))})  # fmt: skip
SURE = 5.0
"""Standard deviations above guessing from which on another preparation is named; and those by
which it must beat the contract's own, a quarter of 200 rows, to refuse what does not guess."""


def check_source(
    prepared: Prepared, variant: VariantPlan, runner: Runner, entries: Mapping[str, Entry], observer: Observer
) -> None:
    """Refuse a float classifier that guesses on labelled data, or that is right far more often prepared otherwise.

    So is one whose labels are in another order.

    Raises:
        ReleaseError: ``source-wrong``, with the preparation of inputs that would make it right where one does.
    """
    if not prepared.request.gate or EVALUATION not in prepared.data:
        return
    found = _suspicion(prepared, entries[variant.source_measure])
    if found is not None and found.moved:
        hint = "Put the contract's labels in the order of the model's outputs, or correct `y`."
        raise ReleaseError("source-wrong", f"{prepared.request.evaluation}: {found.reason}", hint=hint)
    if not _classifies(prepared):
        return
    tried = _tried(prepared, variant, runner, observer)
    if found is not None:
        raise ReleaseError("source-wrong", f"{prepared.request.evaluation}: {found.reason}", hint=_hint(tried))
    if tried and tried["right"] - tried["now"] > SURE * math.sqrt(tried["rows"] / 2):
        reason = f"the float model is right on {tried['now']} of {tried['rows']} rows as the contract prepares them"
        raise ReleaseError("source-wrong", f"{prepared.request.evaluation}: {reason}", hint=_hint(tried))


def _classifies(prepared: Prepared) -> bool:
    return prepared.data[EVALUATION].labels is not None and prepared.wanted.metric in BY_CLASS


def _suspicion(prepared: Prepared, entry: Entry) -> Suspicion | None:
    data = prepared.data[EVALUATION]
    if not _classifies(prepared):
        return None  # another metric may see what the answered class does not
    labels, names = data.labels, class_names(prepared.contract)
    scores = read_npz(entry.folder / OUTPUTS)[prepared.contract.outputs[0].name]
    scores = scores.reshape(len(scores), -1)
    if labels is None or scores.shape[1] not in {1, len(names)}:
        return None
    return suspect(decide(scores), labels, names)


def _tried(prepared: Prepared, variant: VariantPlan, runner: Runner, observer: Observer) -> dict[str, Any]:
    """Try other preparations of the inputs; what fails is no hint."""
    measure = next(step for step in prepared.plan.steps if step.name == variant.source_measure)
    step = Step(
        name=f"try other normalisations of {variant.format}",
        action="edgesdk_converters.evaluate.tried:retry",
        inputs={"artifact": measure.inputs["artifact"], EVALUATION: prepared.data[EVALUATION].path},
        params={key: measure.params[key] for key in ("contract", "runtime", "package")},
        tools=measure.tools,
        optional=True,
    )
    found: dict[str, Any] = runner.run([step], observer)[step.name].result
    better = "right" in found and found["right"] > found["expected"] + SURE * max(found["deviation"], 1.0)
    return found if better else {}


def _hint(tried: Mapping[str, Any]) -> str:
    if not tried:
        return (
            "Compare normalisation, layout, colours and labels in the contract with the training; no usual one helps."
        )
    colours = "the colours exchanged (RGB for BGR) and " if tried["flipped"] else ""
    way = tried["normalisation"]
    how = "no normalisation" if way is None else f"mean = {_shown(way['mean'])} and std = {_shown(way['std'])}"
    return f"Correct the contract: with {colours}{how} it is right on {tried['right']} of {tried['rows']} rows."


def _shown(values: list[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
