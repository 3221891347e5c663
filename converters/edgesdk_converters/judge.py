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
from edgesdk.contract import Bindings
from edgesdk.errors import ConfigError, ReleaseError, error_from_dict
from edgesdk.targets.matching import architecture_name
from edgesdk_converters.backends.compiled import Compiled, judged_in, read_compiled
from edgesdk_converters.evaluate.gate import INTERVAL_ALPHA, GateVerdict, Outcome
from edgesdk_converters.evaluate.looks import rows_seen
from edgesdk_converters.evaluate.step import read_npz
from edgesdk_converters.planning.plan import VariantPlan
from edgesdk_converters.request import Prepared, Request, runs_here
from edgesdk_converters.running.cache import Entry

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
        layers: What `evaluate.layers.compare_layers` answered; None where artifact and float file are one.
        latency: What `evaluate.latency.time_both` answered; None likewise.
        on_target: Whether this machine is of the target's architecture; never where an accelerator runs it.
        compiled: What a vendor's tool made of the artifact; None where it is shipped as it is.
    """

    variant: VariantPlan
    artifact: Path
    measured: Measured
    evaluation: Evaluation | None
    verdicts: dict[str, GateVerdict]
    saturation: dict[str, Any] | None
    layers: dict[str, Any] | None
    latency: dict[str, Any] | None
    on_target: bool
    compiled: Compiled | None = None

    @property
    def shipped(self) -> Path:
        """The file that devices get."""
        return self.artifact if self.compiled is None else self.compiled.path


def read_measured(variant: VariantPlan, entries: Mapping[str, Entry], counts: Mapping[str, int]) -> Measured:
    """Collect what the runtimes answered.

    Args:
        variant: Whose artifact they ran.
        entries: Results of its steps.
        counts: Samples by data set: a runtime whose answers come in instalments may have stopped before another.

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
        spread=_spread(list(outputs.values()), counts),
    )


def read_outputs(entry: Entry) -> dict[str, Outputs]:
    """Read the arrays that a measuring step wrote, by data set and contract output."""
    found: dict[str, Outputs] = {}
    for name in entry.hashes:
        found[name.removesuffix(".npz")] = read_npz(entry.folder / name)
    return found


def judge(prepared: Prepared, variant: VariantPlan, artifact: Path, entries: Mapping[str, Entry]) -> Judged:
    """Collect what the steps of one variant found on the evaluation data.

    Raises:
        ReleaseError: ``artifact-unloadable``.
    """
    measured = read_measured(variant, entries, {name: data.count for name, data in prepared.data.items()})
    results = {
        package: entries[variant.judgements[package]].result for package in measured.runtimes if variant.judgements
    }
    verdicts = {package: msgspec.convert(each["verdict"], GateVerdict) for package, each in results.items()}
    return Judged(
        variant=variant,
        artifact=artifact,
        measured=measured,
        evaluation=_evaluation(prepared, variant, measured, results) if results else None,
        verdicts=verdicts,
        saturation=_result(entries, variant.saturation),
        layers=_result(entries, variant.layers),
        latency=_result(entries, variant.latency),
        on_target=runs_here(variant),
        compiled=read_compiled(variant, entries),
    )


def _result(entries: Mapping[str, Entry], step: str | None) -> dict[str, Any] | None:
    return None if step is None else entries[step].result


def check_placement(judged: Judged, request: Request) -> None:
    """Refuse a compiled variant of which more runs beside the accelerator than is allowed.

    Raises:
        TargetError: ``fallback-share``.
    """
    if judged.compiled is not None and request.fail_on_fallback is not None:
        judged.compiled.placement.check(request.fail_on_fallback, variant=judged.variant.name, by=request.by)


def check_gate(judged: Judged, request: Request) -> None:
    """Refuse a variant whose artifact is worse than its source, or of which nothing is shown.

    Raises:
        ReleaseError: ``accuracy-gate`` with the figures and, where it was found, the cause; ``latency-gate``.
        ConfigError: ``accuracy-thin`` naming about how many samples would decide.
    """
    if not request.gate:
        return
    for package, verdict in judged.verdicts.items():
        where = f"{judged.variant.name} ({judged.measured.runtimes[package]['runtime']})"
        if verdict.outcome is Outcome.REFUSE:
            cause = f"{_elsewhere(judged, package)}{_broken_layer(judged)}"
            raise ReleaseError("accuracy-gate", f"{where}: {verdict.reason}{cause}", hint=_cure(judged, request))
        if verdict.outcome is Outcome.NOT_ENOUGH_DATA:
            raise ConfigError(
                "accuracy-thin", f"{where}: {_looks(verdict)}: {verdict.reason}", hint=_more_data(verdict)
            )
    if judged.saturation is not None:
        _check_saturation(judged.variant.name, judged.saturation)
    if request.min_speedup is not None:
        _check_latency(judged, request.min_speedup)


def _looks(verdict: GateVerdict) -> str:
    """Say what samples that decide nothing look like: who reads figures beside a refusal takes them for its reason."""
    looks = "within the limit" if verdict.loss <= verdict.max_drop else "a loss is likely"
    return f"{looks}, but so few samples do not show it"


def _more_data(verdict: GateVerdict) -> str | None:
    """Return what proves it; None where no number of samples does, and the code's own cure stands."""
    if verdict.needed is None:
        return None
    return (
        "It is refused for want of proof, not for a loss: bring about "
        f"{verdict.needed:,} evaluation samples (there are {verdict.samples:,}), or allow more with --max-drop."
    )


def _cure(judged: Judged, request: Request) -> str | None:
    """Return what to do about a loss; None: what is said of every one. The ladder begins where something is rounded."""
    if request.repair or judged.variant.recipe.precision == "float32":
        return None
    return (
        "Try --repair, which makes the artifact again by gentler recipes until one passes; or use another recipe or "
        "calibration data; the message names the cause where it was found."
    )


def _broken_layer(judged: Judged) -> str:
    found = judged.layers
    return f"; {found['sentence']}" if found is not None and found.get("start") else ""


def _check_latency(judged: Judged, least: float) -> None:
    """Refuse an artifact that is not shown to be fast enough; what was timed elsewhere says nothing of the target.

    Raises:
        ReleaseError: ``latency-gate``.
    """
    found = judged.latency
    if found is None or not judged.on_target:
        return
    if not found.get("timed"):
        reason = found.get("reason") or found["failed"]["message"]
        raise ReleaseError("latency-gate", f"{judged.variant.name}: it could not be timed: {reason}")
    low, high = found["interval"]
    if low < least:
        shown = "is" if high < least else "is not shown to be more than"
        raise ReleaseError(
            "latency-gate",
            f"{judged.variant.name} ({found['runtime']}): {shown} {found['speedup']:.2f} times as fast as float (95 % "
            f"interval {low:.2f} to {high:.2f}, {found['artifact_ms']:.3f} ms against {found['source_ms']:.3f} ms on "
            f"{found['machine']['processor']}); asked for is {least:.2f}",
        )


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


def _spread(outputs: list[dict[str, Outputs]], counts: Mapping[str, int]) -> dict[str, float]:
    """Return by contract output how far runtimes lie apart on the samples that both answered."""
    first, *others = outputs
    spread: dict[str, float] = {}
    for other in others:
        for name, arrays in first.items():
            for tensor, values in arrays.items():
                one, another = _shared(values, other[name][tensor], counts.get(name, len(values)))
                difference = np.abs(one.astype(np.float64) - another)
                largest = float(np.max(difference, initial=0.0, where=np.isfinite(difference)))
                spread[tensor] = max(spread.get(tensor, 0.0), largest)
    return spread


def _shared(one: NDArray[Any], another: NDArray[Any], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the answers to the samples that both have; what was seen of `count` first is part of what was later."""
    rows = [rows_seen(count, len(each)) for each in (one, another)]
    return one[np.isin(rows[0], rows[1])], another[np.isin(rows[1], rows[0])]


def _evaluation(
    prepared: Prepared, variant: VariantPlan, measured: Measured, results: Mapping[str, dict[str, Any]]
) -> Evaluation:
    result, request = results[measured.package], prepared.request
    verdict = msgspec.convert(result["verdict"], GateVerdict)
    gate = {"max_drop": request.max_drop, "on": request.gate, "reason": request.reason or ""}
    details: dict[str, Any] = {
        **result["figures"],
        "metric": {"greater_is_better": verdict.greater, "share": verdict.share},
        "doctor": {"on": request.doctor, "reason": "" if request.doctor else request.reason or ""},
        "gate": {**gate, "verdicts": {package: each["verdict"] for package, each in results.items()}},
        "parity": result["parity"],
        "unloadable": measured.unloadable,
    }
    return Evaluation(
        metric=result["metric"],
        value=verdict.value,
        source_value=verdict.source_value,
        difference=verdict.value - verdict.source_value,
        interval=verdict.interval,
        confidence=1 - INTERVAL_ALPHA,
        samples=verdict.samples,
        runtime=judged_in(variant, measured.runtimes[measured.package]["runtime"]),
        measured_on=architecture_name(platform.machine()),
        on_target=runs_here(variant),
        details=details,
    )
