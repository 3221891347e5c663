"""The repair ladder: an artifact that the gate does not pass is made again by gentler recipes, until one passes.

The rungs, in order: as asked; 7-bit weights, where x86 without VNNI would saturate, and 8 bits where no x86 is; on a
CPU only the *core*, convolutions and matrix products, in int8; ranges by percentile; by least square error; float
islands, the fewest layers for a wanted signal-to-noise ratio; activations quantized on the fly (TFLite), alone and with
islands; int8 weights alone, computed in float, and these with islands; 16-bit activations (TFLite), which are slow on a
CPU. Vendors' compilers get 16 bits behind the ranges, and no core and weights alone, but half precision where the
accelerator has it, else islands and a quarter of the layers in float. Which ranges and layers is decided on the
*calibration* data, so that the evaluation data judges every rung and chooses none.

Trying K rungs against one evaluation set would let a bad artifact pass K times as often as one test does. So the gate's
alpha is divided over the rungs before anything is seen (weighted Bonferroni): half for the recipe as asked, the rest in
equal parts. The probability that a bad rung passes is at most the gate's alpha in all, however the rungs depend on each
other. A rung that is shown to be worse on a part of the samples ends there; one that passes was judged on all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import EdgeError, ReleaseError, TargetError
from edgesdk.targets.profiles import Profile
from edgesdk_converters import ALPHA
from edgesdk_converters.backends import by_file
from edgesdk_converters.calibration import step as calibration
from edgesdk_converters.evaluate.alone import Alone, alone_step
from edgesdk_converters.evaluate.checks import layers_step
from edgesdk_converters.evaluate.gate import GateVerdict, Outcome
from edgesdk_converters.evaluate.looks import HOPELESS
from edgesdk_converters.judge import Judged, check_gate, judge
from edgesdk_converters.planning.joining import merged
from edgesdk_converters.planning.plan import Plan, VariantPlan, build_plan
from edgesdk_converters.recipes import Recipe
from edgesdk_converters.repair.rungs import (
    RANGES,
    UNCALIBRATED,
    Asked,
    Heard,
    Kind,
    Point,
    alpha_of,
    changed,
    front,
    leaves_layers,
    rungs,
)
from edgesdk_converters.report.words import rung_change
from edgesdk_converters.request import Prepared
from edgesdk_converters.running.steps import NotAtHand, Observer, Once, Ref, Runner, Silent, Step
from edgesdk_converters.source_gate import first_steps
from edgesdk_converters.tried import Tried

STUMBLED = frozenset({"tool-crashed", "tool-did-nothing"})
"""What a vendor's tool may come to over a file that it quantizes, or that is quantized."""
GATES = frozenset({"accuracy-gate", "accuracy-thin", "latency-gate", "artifact-unloadable"})


def climb(prepared: Prepared, runner: Runner, observer: Observer) -> Tried:
    """Make every variant by the first rung that passes; where none does, it is refused with the best (`Tried`).

    Args:
        prepared: What was asked.
        runner: Runs the steps.
        observer: Is told how they come along.

    Raises:
        EdgeError: If the recipe as asked fails for a reason that is not the variant's own.
    """
    tried, plans = Tried(prepared=prepared), dict[str, Plan]()
    for ladder in _ladders(prepared, runner, Once(observer)):
        name = ladder.asked.name
        tried.points[name] = ladder.points
        with tried.trying(name):
            ladder.climb()
        if ladder.best is not None:
            plans[name] = ladder.best
    plan = dataclasses.replace(merged(list(plans.values())), left_out=prepared.plan.left_out)
    entries = runner.run(plan.steps, Silent())  # the ladders ran them all, some by another name
    for name, variant in zip(plans, plan.variants, strict=True):
        tried.judged[name] = judge(prepared, variant, runner.path(variant.artifact), entries)
    return dataclasses.replace(tried, prepared=dataclasses.replace(prepared, plan=plan)) if plans else tried


def rehearse(prepared: Prepared, runner: Runner) -> tuple[Plan, set[str]]:
    """Return what a climb will do, for a person to see: nothing is run.

    That is every step of the rungs that were tried before, and those of the first rung that is not at hand.

    Returns:
        The plan, and the names of its steps whose results are at hand.
    """
    rehearsal = runner.rehearsal()
    with contextlib.suppress(NotAtHand):
        rehearsal.run(first_steps(prepared), Silent())
    for ladder in _ladders(prepared, rehearsal, Silent()):
        with contextlib.suppress(NotAtHand, EdgeError):
            ladder.climb()
    more = "where the gate does not pass, gentler recipes take more steps" if rehearsal.missing else ""
    plan = dataclasses.replace(prepared.plan, steps=tuple(rehearsal.met.values()), more=more)
    return plan, rehearsal.met.keys() - rehearsal.missing


def _ladders(prepared: Prepared, runner: Runner, observer: Observer) -> list[_Ladder]:
    return [_Ladder(prepared, variant, runner, observer) for variant in prepared.plan.variants]


def pareto(points: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """Return what `report.json` holds under ``pareto``."""
    return {
        name: {
            "points": [dataclasses.asdict(point) for point in tried],
            "front": [point.recipe for point in front(tried)],
            "chosen": tried[-1].recipe if tried[-1].passed else None,
            "alpha": ALPHA,
            "correction": "weighted Bonferroni over the rungs, fixed beforehand",
        }
        for name, tried in points.items()
        if tried
    }


class _Ladder:
    """One variant's way up.

    Attributes:
        asked: The variant as asked.
        points: What was tried.
        best: The plan of the rung that passed; while none has, of the one that loses least.
    """

    def __init__(self, prepared: Prepared, asked: VariantPlan, runner: Runner, observer: Observer) -> None:
        self.asked = asked
        self.points: list[Point] = []
        self.best: Plan | None = None
        self._prepared = prepared
        self._runner = runner
        self._observer = observer
        self._noise: dict[str, list[dict[str, Any]]] = {}
        self._stopped: EdgeError | None = None
        self._least: GateVerdict | None = None
        self._kind = Asked(
            recipe=asked.recipe,
            format=asked.format,
            x86="x86_64" in asked.target.architectures,
            compiled=asked.backend is not None and not asked.backend.mixes,
            half=asked.backend is not None and asked.backend.halves(asked.target),
        )

    def climb(self) -> None:
        """Go up to the first rung that passes.

        Raises:
            ReleaseError: ``repair-exhausted`` with the best rung, if none passes.
            EdgeError: If the recipe as asked fails for another reason than a gate, and half precision does not help.
        """
        kinds = [kind for kind in rungs(self._kind) if self._taken(kind)]
        for place, kind in enumerate(kinds):
            if self._try(kind, alpha_of(place, len(kinds))):
                return
        if self._stopped is not None and all(point.loss is None for point in self.points):
            raise self._stopped
        raise self._exhausted()

    def _taken(self, kind: Kind) -> bool:
        """Say whether the target's compiler takes what a rung makes: one that it refuses costs no part of alpha."""
        backend = self.asked.backend
        recipe = changed(self._kind, kind, Heard(ranges=self.asked.recipe.calibration_range))
        return kind == "asked" or backend is None or recipe is None or backend.refusal(recipe) is None

    def _try(self, kind: Kind, alpha: float) -> bool:
        """Make and judge a rung; say whether it passed."""
        recipe = changed(self._kind, kind, self._heard(kind))
        if recipe is None:
            return False
        try:
            plan, judged = self._judged(recipe, alpha)
        except EdgeError as error:
            if kind == "asked" and error.code not in GATES:
                # What a tool cannot quantize it may still build in half precision.
                if not (self._kind.half and error.code in STUMBLED):
                    raise
                self._stopped = error
            self.points.append(Point(rung=kind, recipe=recipe.name, passed=False, why=str(error), alpha=alpha))
            return False
        why = self._refusal(judged)
        self._note(kind, judged, plan, why, alpha)
        if why and kind in {"asked", "8-bit", "core", *RANGES} and recipe.calibrates(self.asked.format):
            self._listen(kind, judged.variant, plan)
        return not why

    def _judged(self, recipe: Recipe, alpha: float) -> tuple[Plan, Judged]:
        """Make an artifact and judge it; by its portable file alone where that is worse: simulators are slow."""
        targets, backend = [self.asked.target], self.asked.backend
        if backend is not None and backend.judged == "artifact":
            targets.insert(0, by_file(self.asked.target))
        for target in targets:
            plan = self._plan(recipe, alpha, target)
            entries = self._runner.run(plan.steps, self._observer)
            (variant,) = plan.variants
            judged = judge(self._prepared, variant, self._runner.path(variant.artifact), entries)
            if any(verdict.outcome is Outcome.REFUSE for verdict in judged.verdicts.values()):
                break
        return plan, judged

    def _plan(self, recipe: Recipe, alpha: float, target: Profile | None = None) -> Plan:
        wanted = self._prepared.wanted
        # The ranges are counted for the later rungs at once; what is not used here is not run.
        counted = msgspec.structs.replace(recipe, name="counted", calibration_range="percentile")
        recipes = [recipe, counted] if recipe.calibrates(self.asked.format) else [recipe]
        targets = [target or self.asked.target]
        changes: dict[str, Any] = {"targets": targets, "formats": [self.asked.format], "recipes": recipes}
        early = wanted.stop_early or HOPELESS
        plan = build_plan(dataclasses.replace(wanted, **changes, alpha=alpha, stop_early=early))
        found = [variant for variant in plan.variants if variant.recipe == recipe]
        if not found:
            raise TargetError("runtime-missing", f"{self.asked.target.name} does not run {recipe.precision}")
        return needed(plan, found)

    def _refusal(self, judged: Judged) -> str:
        try:
            check_gate(judged, self._prepared.request)
        except EdgeError as error:
            if error.code not in GATES:
                raise
            return error.message
        return ""

    def _note(self, kind: Kind, judged: Judged, plan: Plan, why: str, alpha: float) -> None:
        verdict = next(iter(judged.verdicts.values()))
        if not why or self._least is None or verdict.loss < self._least.loss:
            self.best, self._least = plan, verdict
        if not any(point.rung == "float" for point in self.points):
            size = self._float_size(judged.variant, plan)
            self.points.append(
                Point(
                    rung="float",
                    recipe="float",
                    passed=self._kind.mixes or self._kind.half,
                    value=verdict.source_value,
                    samples=verdict.samples,
                    loss=0.0,
                    size=size,
                    speedup=1 if judged.latency else None,
                )
            )
        self.points.append(
            Point(
                rung=kind,
                recipe=judged.variant.recipe.name,
                passed=not why,
                why=why,
                value=verdict.value,
                source_value=verdict.source_value,
                samples=verdict.samples,
                interval=loss_interval(verdict),
                loss=verdict.loss,
                unit=verdict.unit,
                greater=verdict.greater,
                size=judged.artifact.stat().st_size,
                speedup=(judged.latency or {}).get("speedup"),
                alpha=alpha,
            )
        )

    def _float_size(self, variant: VariantPlan, plan: Plan) -> int | None:
        step = _named(plan, variant.layers)
        return None if step is None else self._runner.path(step.inputs["source"]).stat().st_size

    def _listen(self, kind: str, variant: VariantPlan, plan: Plan) -> None:
        """Find out on calibration data which layers add most noise."""
        found = _named(plan, variant.layers)
        samples = self._prepared.wanted.data.get("calibration")
        if found is None or samples is None:
            return
        word = f"{variant.format} {variant.recipe.name} on calibration data"
        files = found.inputs["source"], found.inputs["artifact"]
        step = layers_step(word, *files, samples, **found.params)
        result = self._runner.run([step], self._observer)[step.name].result
        if result.get("compared"):
            self._noise[kind] = result["layers"]

    def _heard(self, kind: Kind) -> Heard:
        """Return what the calibration data says: whose answers are nearest to float, and which layers are to blame."""
        asked = self.asked.recipe.calibration_range
        if not self._noise:
            return Heard(ranges=asked)
        best = max(self._noise, key=lambda kind: self._noise[kind][-1]["figures"]["snr_db"])
        layers = sorted((each for each in self._noise[best] if each["op"] != "input"), key=lambda each: -each["added"])
        heard = Heard(
            ranges=next((ranges for ranges in RANGES if ranges == best), asked),
            noisy=[each["name"] for each in layers if each["added"] > 0],
        )
        if not (self._kind.mixes and leaves_layers(kind)):
            return heard
        return dataclasses.replace(heard, alone=self._alone(kind, heard))

    def _alone(self, kind: Kind, heard: Heard) -> list[Alone] | None:
        """Return what each layer costs alone in the recipe that a rung starts from; None where nobody can tell."""
        base = heard.ranges
        start: Kind = "core" if base in {"minmax", self.asked.recipe.calibration_range} else base
        if kind.startswith(UNCALIBRATED):
            start = "weights" if kind.startswith("weights") else "dynamic"
        recipe = changed(self._kind, start, heard)
        wanted = self._prepared.wanted
        if recipe is None:
            return None
        plan = self._plan(recipe, ALPHA)
        inputs = {**_files(plan, plan.variants[0]), "samples": wanted.data["calibration"]}
        word, contract = f"{self.asked.format} {recipe.name}", msgspec.to_builtins(wanted.contract)
        step = alone_step(word, self.asked.format, recipe, inputs, contract)
        result = self._runner.run([step], self._observer)[step.name].result
        return msgspec.convert(result["layers"], list[Alone]) if "layers" in result else None

    def _exhausted(self) -> ReleaseError:
        tried = [point for point in self.points if point.rung != "float"]
        measured = [point for point in tried if point.loss is not None]
        names = ", ".join(point.rung for point in tried)
        if self._least is None:
            return ReleaseError(
                "repair-exhausted", f"{self.asked.name}: no rung of {names} could be made: {tried[-1].why}"
            )
        best = min(measured, key=lambda point: point.loss or 0.0)
        share = self._least.share
        changes = {each.rung: rung_change(dataclasses.asdict(each), share=share) for each in measured}
        shown = "; ".join(f"{each.rung} ({changes[each.rung]}, {each.size} bytes)" for each in front(measured))
        return ReleaseError(
            "repair-exhausted",
            f"{self.asked.name}: none of {names} passes, the best is {best.recipe}: {best.why}; Pareto front: {shown}",
        )


def loss_interval(verdict: GateVerdict) -> tuple[float, float]:
    """Return the interval of a loss, in its unit: a change turned round where more is better."""
    low, high = (bound / verdict.unit if verdict.unit else bound for bound in verdict.interval)
    return (-high, -low) if verdict.greater else (low, high)


def needed(plan: Plan, variants: Sequence[VariantPlan]) -> Plan:
    """Return a plan of some variants, and of the steps that they depend on."""
    named = {step.name: step for step in plan.steps}
    wanted: set[str] = set()
    open_ = [name for variant in variants for name in _mentioned(variant) if name in named]
    while open_:
        name = open_.pop()
        if name not in wanted:
            wanted.add(name)
            open_ += [each.step for each in named[name].inputs.values() if isinstance(each, Ref)]
    # The doctor looks at the data and makes nothing that a step reads, yet nothing is quantized before it has looked.
    kept = [step for step in plan.steps if step.name in wanted or step.name == calibration.STEP]
    return Plan(steps=tuple(kept), variants=tuple(variants))


def _mentioned(variant: VariantPlan) -> Iterator[str]:
    for field in dataclasses.fields(variant):
        value = getattr(variant, field.name)
        for each in value.values() if isinstance(value, dict) else (value,):
            if isinstance(each, Ref | str) and field.name != "name":
                yield each.step if isinstance(each, Ref) else each


def _files(plan: Plan, variant: VariantPlan) -> Mapping[str, Path | Ref]:
    """Return what the step reads that makes a variant's portable artifact."""
    made = _named(plan, variant.artifact.step if isinstance(variant.artifact, Ref) else None)
    return made.inputs if made is not None else {}


def _named(plan: Plan, name: str | None) -> Step | None:
    return next((step for step in plan.steps if step.name == name), None)
