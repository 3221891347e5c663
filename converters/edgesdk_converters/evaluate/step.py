"""The judging step: from what source and artifact answered to figures and the gate's word, in a child and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk.errors import ConfigError
from edgesdk_converters import ALPHA
from edgesdk_converters.data.npz import DataSet, class_names, open_data
from edgesdk_converters.evaluate.catalogue import AGREEMENT, METRICS, Case, Truth, find_metric, truth_kind
from edgesdk_converters.evaluate.differences import compare_arrays
from edgesdk_converters.evaluate.gate import GateVerdict, judge_case, of_itself
from edgesdk_converters.evaluate.looks import HOPELESS, Look, looks, rows_seen
from edgesdk_converters.evaluate.metrics import MANY_CLASSES, classification_metrics, decide, shortened
from edgesdk_converters.evaluate.scores import Outputs, all_finite
from edgesdk_converters.running.isolation import Call


def judge(call: Call) -> dict[str, Any]:
    """Child action: compare input ``artifact`` with ``source``, both outputs on the samples of ``evaluation``.

    Answers ``{"metric", "labelled", "verdict", "figures", "parity"}``; an artifact that this runtime could not load
    gave no outputs, and there is no verdict. With ``params["itself"]`` both are one file in one runtime.

    Raises:
        ConfigError: ``argument-invalid`` or ``file-missing`` for the metric; ``data-invalid`` if the samples do not
            determine it.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["evaluation"], contract, labelled=False)
    outputs, metric = read_npz(call.inputs["artifact"]), call.params["metric"]
    result: dict[str, Any] = {"metric": metric, "labelled": data.truth is not None and metric != AGREEMENT}
    if not outputs:
        return {**result, "verdict": None, "figures": {}, "parity": {}}
    cases = paired_cases(data, read_npz(call.inputs["source"]), outputs)
    verdict = gate_verdict(data, cases, call.params)
    if call.params.get("itself"):
        verdict = of_itself(verdict)
    return {**result, "verdict": msgspec.to_builtins(verdict), **_figures(*cases)}


def read_npz(path: Path) -> Outputs:
    """Read what a measuring step wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def rows_of(data: DataSet, outputs: Outputs) -> NDArray[np.int64]:
    """Return the rows of `data` that `outputs` answer: all, or those of the looks that were taken."""
    return rows_seen(data.count, len(next(iter(outputs.values()))))


def paired_cases(data: DataSet, source: Outputs, artifact: Outputs) -> tuple[Case, Case]:
    """Return the source's and the artifact's answers on the rows that the artifact answered."""
    rows = rows_of(data, artifact)
    reference = {name: values[rows] for name, values in source.items()}
    truth = None if data.truth is None else data.truth[rows]
    own = Case(contract=data.contract, outputs=reference, reference=reference, truth=truth)
    return own, Case(contract=data.contract, outputs=artifact, reference=reference, truth=truth)


def gate_verdict(data: DataSet, cases: tuple[Case, Case], params: dict[str, Any]) -> GateVerdict:
    """Return the gate's word; with ``params["instalments"]`` as of the look that these samples make.

    Where they end only what is hopeless (`looks.HOPELESS`), all samples together are judged as if nobody had looked.

    Raises:
        ConfigError: As `judge`.
    """
    metric = find_metric(params["metric"], data.contract, truth_kind(data))
    seen, instalments = len(next(iter(cases[1].outputs.values()))), params.get("instalments")
    looked = instalments and not (instalments == HOPELESS and seen == data.count)
    look = _look(data.count, seen) if looked else None
    try:
        verdict = judge_case(metric, *cases, max_drop=params["max_drop"], alpha=params.get("alpha", ALPHA), look=look)
    except (ValueError, TypeError) as error:
        raise _no_figure(metric.name, str(error)) from error
    if ":" in metric.name and not verdict.non_finite and not np.isfinite(verdict.value):
        raise _no_figure(metric.name, f"it is {verdict.value} on the artifact's answers, which are finite")
    return verdict


def _no_figure(metric: str, said: str) -> ConfigError:
    """Return what is said of a metric that gives nothing: of one of the user's own, that it is to be corrected."""
    if ":" in metric:
        message = f"the metric {metric} gives no figure: {said}"
        return ConfigError("argument-invalid", message, hint="Correct your metric function.")
    return ConfigError("data-invalid", f"the metric {metric} cannot be computed: {said}")


def try_metric(call: Call) -> dict[str, Any]:
    """Child action: compute a user's metric of what ``source`` answered on ``evaluation``, before more is made.

    Answers ``{"value"}``; nothing where the source answers nothing finite, which others say.

    Raises:
        ConfigError: ``argument-invalid`` or ``file-missing``.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["evaluation"], contract, labelled=False)
    outputs = read_npz(call.inputs["source"])
    rows = np.flatnonzero(all_finite(outputs, list(outputs))) if outputs else np.zeros(0, np.int64)
    if not len(rows):
        return {}
    answers = {name: values[rows] for name, values in outputs.items()}
    truth = None if data.truth is None else data.truth[rows]
    metric = find_metric(call.params["metric"], contract, truth_kind(data))
    try:
        scored = metric.score(Case(contract=contract, outputs=answers, reference=answers, truth=truth))
        value = scored.value(np.arange(len(rows)))
    except (ValueError, TypeError) as error:
        raise _no_figure(metric.name, str(error)) from error
    if not np.isfinite(value):
        raise _no_figure(metric.name, f"it is {value} on the float source's answers on {len(rows)} samples")
    return {"value": value}


def _look(count: int, seen: int) -> Look:
    return next(look for look in looks(count) if look.samples == seen)


def _figures(source: Case, artifact: Case) -> dict[str, Any]:
    parity = {
        name: msgspec.to_builtins(compare_arrays(source.outputs[name], values))
        for name, values in artifact.outputs.items()
    }
    return {"figures": _by_task(source, artifact), "parity": parity}


def _by_task(source: Case, artifact: Case) -> dict[str, Any]:
    """Return what a person asks for beyond the metric that gates."""
    contract = artifact.contract
    labels = class_names(contract)
    cases = {"source": source, "artifact": artifact}
    if contract.task == "classification" and artifact.first().shape[1] in {1, len(labels)}:
        answered = decide(source.first())
        truth = source.truth if source.truth is not None else answered
        usable = truth.ndim == 1 and truth.min() >= 0
        figures = {
            name: classification_metrics(case.first(), truth.astype(np.int64), labels)
            for name, case in (cases.items() if usable else ())
        }
        many = bool(figures) and len(labels) > MANY_CLASSES
        return {
            **(shortened(**figures) if many else msgspec.to_builtins(figures)),
            "agreement": float(np.mean(decide(artifact.first()) == answered)),
            "averages": _averages(cases) if source.truth is not None and usable else {},
        }
    if contract.task == "regression" and source.truth is not None:
        return {"averages": _averages(cases), **{name: _of_values(case) for name, case in cases.items()}}
    return {"averages": _averages(cases)}


def _averages(cases: dict[str, Case]) -> dict[str, dict[str, float]]:
    kind = _kind(cases["source"])
    every = np.arange(len(next(iter(cases["source"].outputs.values()))))
    found: dict[str, dict[str, float]] = {}
    # Agreement stands beside them; an exact match of one class is accuracy, and other outputs are no classes.
    left_out = {AGREEMENT, "exact-match"} if kind == "class" else {AGREEMENT}
    for metric in METRICS.values():
        if kind in metric.truth and metric.name not in left_out:
            found[metric.name] = {name: metric.score(case).value(every) for name, case in cases.items()}
    return {name: each for name, each in found.items() if np.isfinite(list(each.values())).all()}


def _kind(case: Case) -> Truth:
    """Return what the task's own metrics take; what labels of other tasks mean is known to a user's metric alone."""
    if case.truth is None or case.contract.task not in {"classification", "regression"}:
        return "none"
    return "class" if case.contract.task == "classification" else "values"


def _of_values(case: Case) -> dict[str, Any]:
    outputs = case.first().astype(np.float64)
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.any():
        return {}
    truth = case.numbers()[finite]
    errors = outputs[finite] - truth
    spread = float(np.mean(np.square(truth - truth.mean(axis=0))))
    return {
        "bias": float(np.mean(errors)),
        "p95": float(np.percentile(np.abs(errors), 95)),
        "r2": 1 - float(np.mean(np.square(errors))) / spread if spread else None,
        "errors": np.percentile(errors, np.linspace(0, 100, 41)).round(9).tolist(),
    }
