"""What the measured outputs say about a variant: its figures beside the float source's, and the gate's word."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Evaluation
from edgesdk.contract import Bindings, Contract
from edgesdk.errors import ConfigError, ReleaseError, error_from_dict
from edgesdk.targets.matching import architecture_name
from edgesdk_converters.cache import Entry
from edgesdk_converters.data import class_names
from edgesdk_converters.evaluate.gate import INTERVAL_ALPHA, GateVerdict, Outcome, accuracy_gate
from edgesdk_converters.evaluate.metrics import classification_metrics, decide
from edgesdk_converters.plan import VariantPlan
from edgesdk_converters.request import Prepared, Request

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the artifact of a variant answered, in the oldest runtime that loads it.

    Attributes:
        package: That runtime's package.
        runtimes: What each runtime answered about itself, by package; only those that load the artifact.
        unloadable: Why the others do not, by package.
        bindings: How the contract's tensors are carried.
        outputs: By data set and contract output, shape ``(N, *shape)``.
        spread: Largest difference between runtimes, by output; 0 with one runtime.
    """

    package: str
    runtimes: dict[str, dict[str, Any]]
    unloadable: dict[str, dict[str, str]]
    bindings: Bindings
    outputs: dict[str, Outputs]
    spread: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A variant with its figures.

    Attributes:
        artifact: The runnable file.
        evaluation: What goes into the bundle; None without evaluation data.
        verdicts: The gate's word by the runtime package in which the artifact ran.
        saturation: What `saturate.look` answered; None where nothing can saturate.
    """

    variant: VariantPlan
    artifact: Path
    measured: Measured
    evaluation: Evaluation | None
    verdicts: dict[str, GateVerdict]
    saturation: dict[str, Any] | None


def read_measured(variant: VariantPlan, entries: Mapping[str, Entry]) -> Measured:
    """Collect what the runtimes answered.

    Raises:
        ReleaseError: ``artifact-unloadable`` if no runtime loads the artifact.
    """
    results = {package: entries[step].result for package, step in variant.measures.items()}
    unloadable = {package: result["unloadable"] for package, result in results.items() if "unloadable" in result}
    runtimes = {package: result for package, result in results.items() if package not in unloadable}
    if not runtimes:
        raise error_from_dict(next(iter(unloadable.values())))
    outputs = {package: read_outputs(entries[variant.measures[package]]) for package in runtimes}
    package = next(iter(runtimes))
    return Measured(
        package=package,
        runtimes=runtimes,
        unloadable=unloadable,
        bindings=msgspec.convert(runtimes[package]["bindings"], Bindings),
        outputs=outputs[package],
        spread=_spread(list(outputs.values())),
    )


def read_outputs(entry: Entry) -> dict[str, Outputs]:
    """Read the arrays that a measuring step wrote, by data set and contract output."""
    found: dict[str, Outputs] = {}
    for name in entry.hashes:
        with np.load(entry.folder / name, allow_pickle=False) as arrays:
            found[name.removesuffix(".npz")] = {tensor: arrays[tensor] for tensor in arrays.files}
    return found


def judge(prepared: Prepared, variant: VariantPlan, artifact: Path, entries: Mapping[str, Entry]) -> Judged:
    """Judge one variant, whose steps have run, on the evaluation data.

    Raises:
        ReleaseError: ``artifact-unloadable``.
        ConfigError: ``argument-invalid`` if the task has no metric.
    """
    measured = read_measured(variant, entries)
    data = prepared.data.get("evaluation")
    if data is None or (prepared.contract.task != "classification" and not prepared.request.gate):
        return Judged(
            variant=variant, artifact=artifact, measured=measured, evaluation=None, verdicts={}, saturation=None
        )
    if prepared.contract.task != "classification":
        raise ConfigError(
            "argument-invalid",
            f"the gate judges classifications, and the contract's task is {prepared.contract.task}",
            hint="Judge it yourself, and turn the gate off with a reason.",
        )
    source = _scores(prepared.contract, read_outputs(entries[variant.source_measure]))
    truth = data.labels if data.labels is not None else decide(source)
    verdicts = {
        package: accuracy_gate(
            source,
            _scores(prepared.contract, read_outputs(entries[variant.measures[package]])),
            truth,
            max_drop=prepared.request.max_drop,
        )
        for package in measured.runtimes
    }
    metric = "accuracy" if data.labels is not None else "agreement"
    evaluation = _evaluation(prepared, variant, measured, verdicts, source=source, truth=truth, metric=metric)
    saturation = entries[variant.saturation].result if variant.saturation is not None else None
    return Judged(
        variant=variant,
        artifact=artifact,
        measured=measured,
        evaluation=evaluation,
        verdicts=verdicts,
        saturation=saturation,
    )


def check_gate(judged: Judged, request: Request) -> None:
    """Refuse a variant whose artifact is worse than its source, or of which nothing is shown.

    Raises:
        ReleaseError: ``accuracy-gate`` with the figures and, where it was found, the cause.
        ConfigError: ``accuracy-thin`` naming about how many samples would decide.
    """
    if not request.gate:
        return
    for package, verdict in judged.verdicts.items():
        where = f"{judged.variant.name} ({judged.measured.runtimes[package]['runtime']})"
        if verdict.outcome is Outcome.REFUSE:
            raise ReleaseError("accuracy-gate", f"{where}: {verdict.reason}{_elsewhere(judged, package)}")
        if verdict.outcome is Outcome.NOT_ENOUGH_DATA:
            raise ConfigError("accuracy-thin", f"{where}: {verdict.reason}")
    if judged.saturation is not None:
        _check_saturation(judged.variant.name, judged.saturation)


def _elsewhere(judged: Judged, package: str) -> str:
    fine = [other for other, verdict in judged.verdicts.items() if verdict.outcome is Outcome.PASS and other != package]
    return f"; {fine[0]} passes with the same file, so {package} computes it wrongly" if fine else ""


def _check_saturation(name: str, found: dict[str, Any]) -> None:
    """Refuse saturation that is not shown to be harmless: unlike other losses it has one cause and a free cure.

    Raises:
        ReleaseError: ``accuracy-gate``.
    """
    where = f"{name} on x86 without VNNI"
    cure = "Use the recipe int8: its 7-bit weights cannot saturate. ARM and x86 with VNNI are not concerned."
    if not found["measured"]:
        message = f"{where}: sums of 8-bit products may saturate, and it was not measured: {found['reason']}"
        raise ReleaseError("accuracy-gate", message, hint=cure)
    layers = sorted((layer for layer in found["layers"] if layer["share"]), key=lambda layer: -layer["share"])
    if layers and found["outcome"] != Outcome.PASS:
        worst = ", ".join(f"{layer['name']} ({layer['share']:.2%} of sums)" for layer in layers[:3])
        message = f"{where}: 16-bit sums saturate in {worst}; {found['reason']}"
        raise ReleaseError("accuracy-gate", message, hint=cure)


def flat(scores: NDArray[Any]) -> NDArray[Any]:
    """Return class scores of shape ``(N, …, classes)`` as ``(N, classes)``; the batch of a call is 1."""
    return scores.reshape(len(scores), -1)


def _scores(contract: Contract, outputs: dict[str, Outputs]) -> NDArray[Any]:
    return flat(outputs["evaluation"][contract.outputs[0].name])


def _spread(outputs: list[dict[str, Outputs]]) -> dict[str, float]:
    first, *others = outputs
    spread: dict[str, float] = {}
    for other in others:
        for name, arrays in first.items():
            for tensor, values in arrays.items():
                difference = np.abs(values.astype(np.float64) - other[name][tensor])
                largest = float(np.max(difference, initial=0.0, where=np.isfinite(difference)))
                spread[tensor] = max(spread.get(tensor, 0.0), largest)
    return spread


def _evaluation(
    prepared: Prepared,
    variant: VariantPlan,
    measured: Measured,
    verdicts: dict[str, GateVerdict],
    *,
    source: NDArray[Any],
    truth: NDArray[np.int64],
    metric: str,
) -> Evaluation:
    verdict, request = verdicts[measured.package], prepared.request
    labels = class_names(prepared.contract)
    artifact = _scores(prepared.contract, measured.outputs)
    here = architecture_name(platform.machine())
    gate = {"max_drop": request.max_drop, "on": request.gate, "reason": request.reason or ""}
    details: dict[str, Any] = {
        "agreement": verdict.agreement,
        "artifact": msgspec.to_builtins(classification_metrics(artifact, truth, labels)),
        "source": msgspec.to_builtins(classification_metrics(source, truth, labels)),
        "doctor": {"on": request.doctor, "reason": "" if request.doctor else request.reason or ""},
        "gate": {**gate, "verdicts": {place: _plain(each) for place, each in verdicts.items()}},
        "unloadable": measured.unloadable,
    }
    return Evaluation(
        metric=metric,
        value=verdict.artifact_accuracy,
        source_value=verdict.reference_accuracy,
        difference=verdict.artifact_accuracy - verdict.reference_accuracy,
        interval=verdict.gain_interval,
        confidence=1 - INTERVAL_ALPHA,
        samples=len(truth),
        runtime=measured.runtimes[measured.package]["runtime"],
        measured_on=here,
        on_target=here in variant.target.architectures,
        details=details,
    )


def _plain(verdict: GateVerdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "accuracy": verdict.artifact_accuracy,
        "interval": list(verdict.gain_interval),
        "non_finite": verdict.non_finite,
    }
