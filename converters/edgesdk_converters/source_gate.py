"""The first gate: a float model that only guesses is refused before anything is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from edgesdk.errors import ReleaseError
from edgesdk_converters.calibration.step import STEP
from edgesdk_converters.data.npz import class_names
from edgesdk_converters.evaluate.checks import EVALUATION, OUTPUTS, metric_step
from edgesdk_converters.evaluate.metrics import decide
from edgesdk_converters.evaluate.source import Suspicion, suspect
from edgesdk_converters.evaluate.step import read_npz
from edgesdk_converters.passes import layer_names
from edgesdk_converters.planning.joining import FOR
from edgesdk_converters.planning.plan import Plan, VariantPlan
from edgesdk_converters.request import Prepared
from edgesdk_converters.running.cache import Entry
from edgesdk_converters.running.steps import Observer, Ref, Runner, Step
from edgesdk_converters.sources import onnx, tflite

BY_CLASS = frozenset({"accuracy", "exact-match", *(f"{each}{kind}" for each in ("precision", "recall", "f1")
                      for kind in ("", "-weighted"))})  # fmt: skip
_WHOSE = re.compile(rf"{FOR}.+$")
SURE = 5.0
"""Standard deviations above guessing from which on another preparation is named; and those by
which it must beat the contract's own, a quarter of 200 rows, to refuse what does not guess."""
TOLD = 2.5
"""The same, an eighth of 200 rows, to say so in a note."""


def source_first(prepared: Prepared) -> Prepared:
    """Return the same plan, in the order in which `check_sources` wants it, with the steps that it adds.

    What looks for the layers that recipes name comes first, then what runs the float sources, behind the doctor's
    examination, and nothing is quantized before it.
    """
    early = first_steps(prepared)
    late = [step for step in prepared.plan.steps if step not in early]
    return replace(prepared, plan=replace(prepared.plan, steps=(*early, *late)))


def first_steps(prepared: Prepared) -> list[Step]:
    """Return the steps that `check_sources` runs, in its order."""
    trials = (_trial(prepared, each) for each in _sources(prepared.plan)) if _asks(prepared) else ()
    return [*_early(prepared), *_own_metric(prepared), *{step.name: step for step in trials}.values()]


def refuse_quantized(prepared: Prepared, cached: Collection[str]) -> None:
    """Refuse a source that is quantized already, before a plan is shown; what a step has read already is float.

    Raises:
        ConfigError: ``model-format``.
    """
    checks = {"onnx": onnx.refuse_quantized, "tflite": tflite.refuse_quantized}
    unread = {path for step in prepared.plan.steps if step.name not in cached for path in step.inputs.values()}
    for kind, source in prepared.wanted.sources.items():
        if kind in checks and source.path in unread:
            checks[kind](source.path)


def check_sources(prepared: Prepared, runner: Runner, observer: Observer) -> tuple[str, ...]:
    """Look for the layers that recipes name, run the float sources, and refuse what is wrong before more is made.

    A metric of the user's own is tried on what they answer.

    Returns:
        What is worth a look and no reason to refuse, as sentences.

    Raises:
        ReleaseError: ``source-wrong``.
        EdgeError: Of a step that fails.
    """
    entries = runner.run(_early(prepared), observer)
    runner.run(_own_metric(prepared), observer)
    if not _asks(prepared):
        return ()
    said = (check_source(prepared, variant, runner, entries, observer) for variant in _sources(prepared.plan))
    return tuple(dict.fromkeys(each for each in said if each))


def check_source(
    prepared: Prepared, variant: VariantPlan, runner: Runner, entries: Mapping[str, Entry], observer: Observer
) -> str:
    """Refuse a float classifier that guesses on labelled data, or that is right far more often prepared otherwise.

    So is one whose labels are in another order.

    Far more often, that is; but a lesser gain will do where the data itself looks normalised already.

    Returns:
        A sentence where another preparation is right more often, but not by far; empty otherwise.

    Raises:
        ReleaseError: ``source-wrong``, with the preparation of inputs that would make it right where one does.
    """
    if not _asks(prepared):
        return ""
    found = _suspicion(prepared, entries[variant.source_measure])
    if found is not None and found.moved:
        hint = "Put the contract's labels in the order of the model's outputs, or correct `y`."
        raise ReleaseError("source-wrong", f"{prepared.request.evaluation}: {found.reason}", hint=hint)
    tried = _tried(_trial(prepared, variant), runner, observer)
    if found is not None:
        raise ReleaseError("source-wrong", f"{prepared.request.evaluation}: {found.reason}", hint=_hint(tried))
    gain = (tried["right"] - tried["now"]) / math.sqrt(tried["rows"] / 2) if tried else 0.0
    if gain <= TOLD:
        return ""
    reason = f"the float model is right on {tried['now']} of {tried['rows']} rows as the contract prepares them"
    if gain > SURE or tried["doubled"]:
        raise ReleaseError("source-wrong", f"{prepared.request.evaluation}: {reason}", hint=_hint(tried))
    return f"{prepared.request.evaluation}: {reason}. {_hint(tried, 'Look at')}"


def _sources(plan: Plan) -> Collection[VariantPlan]:
    """Return one variant of each float source."""
    return {variant.source_measure: variant for variant in plan.variants}.values()


def _early(prepared: Prepared) -> list[Step]:
    """Return what looks for layers, runs the float sources and examines the calibration data, with what these need."""
    plan = prepared.plan
    named = {step.name: step for step in plan.steps}
    asks = _asks(prepared) or _has_own_metric(prepared)
    asked = (STEP, *(each.source_measure for each in _sources(plan))) if asks else ()
    ahead = [name for name in asked if name in named]
    ahead += [name for name in named if name.startswith(layer_names.STEP)]
    wanted: set[str] = set()
    while ahead:
        step = named[ahead.pop()]
        wanted.add(step.name)
        ahead += [each.step for each in step.inputs.values() if isinstance(each, Ref) and each.step not in wanted]
    found = [step for step in plan.steps if step.name in wanted]
    return sorted(found, key=lambda step: step.name in asked)


def _asks(prepared: Prepared) -> bool:
    """Say whether there are labels to ask; another metric may see what the answered class does not."""
    if not prepared.request.gate or EVALUATION not in prepared.data:
        return False
    return prepared.data[EVALUATION].labels is not None and prepared.wanted.metric in BY_CLASS


def _has_own_metric(prepared: Prepared) -> bool:
    return EVALUATION in prepared.data and ":" in prepared.wanted.metric


def _own_metric(prepared: Prepared) -> list[Step]:
    """Return the steps that try a metric of the user's own on what the float sources answer."""
    if not _has_own_metric(prepared):
        return []
    measures = {each.source_measure for each in prepared.plan.variants}
    given = (prepared.data[EVALUATION].path, msgspec.to_builtins(prepared.contract), prepared.wanted.metric)
    return [metric_step(step.name, *given) for step in prepared.plan.steps if step.name in measures]


def _suspicion(prepared: Prepared, entry: Entry) -> Suspicion | None:
    labels, names = prepared.data[EVALUATION].labels, class_names(prepared.contract)
    scores = read_npz(entry.folder / OUTPUTS).get(prepared.contract.outputs[0].name)
    if labels is None or scores is None:  # a source that does not load answers nothing
        return None
    scores = scores.reshape(len(scores), -1)
    if scores.shape[1] not in {1, len(names)}:
        return None
    return suspect(decide(scores), labels, names)


def _trial(prepared: Prepared, variant: VariantPlan) -> Step:
    """Return the step that tries other preparations of the inputs of a variant's float source; a failure is no hint."""
    measure = next(step for step in prepared.plan.steps if step.name == variant.source_measure)
    whose = _WHOSE.search(measure.name)  # where several plans became one
    return Step(
        name=f"try other normalisations of {variant.format}{whose.group() if whose else ''}",
        action="edgesdk_converters.evaluate.tried:retry",
        inputs={"artifact": measure.inputs["artifact"], EVALUATION: prepared.data[EVALUATION].path},
        params={key: measure.params[key] for key in ("contract", "runtime", "package")},
        tools=measure.tools,
        optional=True,
    )


def _tried(step: Step, runner: Runner, observer: Observer) -> dict[str, Any]:
    """Return the best of other preparations, if it is surely better than guessing."""
    found: dict[str, Any] = runner.run([step], observer)[step.name].result
    better = "right" in found and found["right"] > found["expected"] + SURE * max(found["deviation"], 1.0)
    return found if better else {}


def _hint(tried: Mapping[str, Any], do: str = "Correct") -> str:
    if tried.get("doubled"):
        right = f"right on {tried['right']} of {tried['rows']} rows"
        return (
            "The data looks normalised already, and without the contract's normalisation the model is "
            f"{right}: give data in the app's units, here and for calibration."
        )
    if not tried:
        return (
            "Compare normalisation, layout, colours and labels in the contract with the training; no usual one helps."
        )
    colours = "the colours exchanged (RGB for BGR) and " if tried["flipped"] else ""
    way = tried["normalisation"]
    how = "no normalisation" if way is None else f"mean = {_shown(way['mean'])} and std = {_shown(way['std'])}"
    return f"{do} the contract: with {colours}{how} it is right on {tried['right']} of {tried['rows']} rows."


def _shown(values: list[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
