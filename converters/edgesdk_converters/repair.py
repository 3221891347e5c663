"""The repair ladder: an artifact that the gate does not pass is made again by gentler recipes, until one passes.

The rungs, in order: as asked; 7-bit weights, where x86 without VNNI would saturate; ranges by percentile; by
least square error; 16-bit activations; float islands, the layers that add most noise. Which ranges and layers is
decided on the *calibration* data, so that the evaluation data judges every rung and chooses none.

Trying K rungs against one evaluation set would let a bad artifact pass K times as often as one test does. So the gate's
alpha is divided over the rungs before anything is seen (weighted Bonferroni): half for the recipe as asked, the rest in
equal parts. The probability that a bad rung passes is at most the gate's alpha in all, however the rungs depend on each
other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from edgesdk.errors import EdgeError, ReleaseError, TargetError
from edgesdk_converters import ALPHA
from edgesdk_converters.cache import Entry
from edgesdk_converters.calibration import step as calibration
from edgesdk_converters.evaluate.checks import layers_step
from edgesdk_converters.isolation import Progress
from edgesdk_converters.joining import merged
from edgesdk_converters.judge import Judged, check_gate, judge
from edgesdk_converters.plan import Plan, VariantPlan, build_plan
from edgesdk_converters.recipes import Format, OnnxStatic, Recipe, TfliteStatic
from edgesdk_converters.request import Prepared
from edgesdk_converters.steps import Observer, Ref, Runner, Step

Kind = Literal["asked", "7-bit", "percentile", "mse", "16-bit", "island", "islands", "archipelago"]
ISLANDS: dict[Kind, int] = {"island": 1, "islands": 3}
QUARTER = 4
"""The last rung leaves a quarter of all layers in float."""
FIRST_SHARE = 0.5
GATES = frozenset({"accuracy-gate", "accuracy-thin", "latency-gate", "artifact-unloadable"})
NAME_LENGTH = 40


@dataclass(frozen=True, kw_only=True)
class Point:
    """One rung that was tried.

    Attributes:
        rung: Its kind.
        recipe: The recipe's name.
        passed: Whether every gate let it pass.
        why: The gate's reason, or the error; empty if it passed.
        value: The metric of the artifact; None if it could not be made or run.
        source_value: The metric of the float source on the same samples.
        interval: Of their difference.
        loss: How much worse it is, in the gate's unit.
        size: Bytes of the artifact.
        speedup: How many times as fast as float on this machine; None where it was not timed.
        alpha: The error rate that its test could spend.
    """

    rung: Kind | Literal["float"]
    recipe: str
    passed: bool
    why: str = ""
    value: float | None = None
    source_value: float | None = None
    interval: tuple[float, float] | None = None
    loss: float | None = None
    size: int | None = None
    speedup: float | None = None
    alpha: float | None = None


@dataclass(frozen=True, kw_only=True)
class Climbed:
    """The rungs that stand, and all that were tried.

    Attributes:
        prepared: With the plan of the rungs that passed.
        judged: Their variants, in the order of that plan.
        entries: Results of its steps.
        points: By the variant that was asked for.
    """

    prepared: Prepared
    judged: list[Judged]
    entries: dict[str, Entry]
    points: dict[str, list[Point]]


def rungs(recipe: Recipe, artifact_format: Format, *, x86: bool) -> tuple[Kind, ...]:
    """Return what is tried for a recipe, in order; what is not calibrated has one rung only.

    Args:
        recipe: As asked.
        artifact_format: Of the artifact.
        x86: Whether the target is an x86 processor.
    """
    options = recipe.options(artifact_format)
    if not isinstance(options, TfliteStatic | OnnxStatic):
        return ("asked",)
    ranges: tuple[Kind, ...] = tuple(kind for kind in _RANGES if kind != recipe.calibration_range)
    wide: tuple[Kind, ...] = () if recipe.precision == "int16x8" else ("16-bit",)
    saturates = x86 and isinstance(options, OnnxStatic) and not options.reduce_range
    narrow: tuple[Kind, ...] = ("7-bit",) if saturates else ()
    return ("asked", *narrow, *ranges, *wide, "island", "islands", "archipelago")


_RANGES: tuple[Literal["percentile"], Literal["mse"]] = ("percentile", "mse")


def alpha_of(place: int, count: int) -> float:
    """Return the error rate of the rung at a place (from 0) of a ladder of `count`; in all they have the gate's."""
    if count == 1:
        return ALPHA
    return ALPHA * (FIRST_SHARE if place == 0 else (1 - FIRST_SHARE) / (count - 1))


def changed(recipe: Recipe, kind: Kind, artifact_format: Format, noisy: Sequence[str], ranges: str) -> Recipe | None:
    """Return the recipe of a rung; None where it would be none of its own.

    Args:
        recipe: As asked.
        kind: The rung.
        artifact_format: It is for this format only.
        noisy: Layers by the noise that they add, most first.
        ranges: The best way to get ranges, for the islands.
    """
    own: dict[str, Any] = {"tflite": None, "onnx": None, artifact_format: recipe.options(artifact_format)}
    if kind in _RANGES:
        own["calibration_range"] = kind
    elif kind == "7-bit":
        own[artifact_format] = msgspec.structs.replace(own[artifact_format], reduce_range=True)
    elif kind == "16-bit":
        wide = "int16" if artifact_format == "tflite" else "uint16"
        own[artifact_format] = msgspec.structs.replace(own[artifact_format], activations=wide)
    elif kind != "asked":
        count = ISLANDS.get(kind, max(1, len(noisy) // QUARTER))
        if not noisy or (kind == "archipelago" and count <= ISLANDS["islands"]):
            return None
        own |= {"calibration_range": ranges, "float_layers": (*recipe.float_layers, *noisy[:count])}
    suffix = "" if kind == "asked" else f"-{kind}"
    name = recipe.name[: NAME_LENGTH - len(suffix)].rstrip("-") + suffix
    return msgspec.structs.replace(recipe, name=name, **own)


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other is at least as good as in metric loss, bytes and speed, and better in one."""

    def goods(point: Point) -> tuple[float, float, float] | None:
        if point.loss is None or point.size is None:
            return None
        return -point.loss, -float(point.size), point.speedup or 0.0

    measured = [(point, good) for point in points if (good := goods(point)) is not None]
    return [
        point
        for point, good in measured
        if not any(other != good and all(a >= b for a, b in zip(other, good, strict=True)) for _, other in measured)
    ]


def climb(prepared: Prepared, runner: Runner, observer: Observer) -> Climbed:
    """Make every variant by the first rung that passes.

    Raises:
        ReleaseError: ``repair-exhausted`` with the best rung, if none passes.
        EdgeError: If the recipe as asked fails for another reason than a gate.
    """
    seen = _Once(observer)
    ladders = [_Ladder(prepared, variant, runner, seen) for variant in prepared.plan.variants]
    chosen = [ladder.climb() for ladder in ladders]
    plan = merged(chosen)
    entries = runner.run(plan.steps, seen)
    final = dataclasses.replace(prepared, plan=plan)
    return Climbed(
        prepared=final,
        judged=[judge(final, variant, runner.path(variant.artifact), entries) for variant in plan.variants],
        entries=entries,
        points={ladder.asked.name: ladder.points for ladder in ladders},
    )


def pareto(points: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """Return what `report.json` holds under ``pareto``."""
    return {
        name: {
            "points": [dataclasses.asdict(point) for point in tried],
            "front": [point.recipe for point in front(tried)],
            "chosen": tried[-1].recipe,
            "alpha": ALPHA,
            "correction": "weighted Bonferroni over the rungs, fixed beforehand",
        }
        for name, tried in points.items()
    }


class _Ladder:
    """One variant's way up."""

    def __init__(self, prepared: Prepared, asked: VariantPlan, runner: Runner, observer: Observer) -> None:
        self.asked = asked
        self.points: list[Point] = []
        self._prepared = prepared
        self._runner = runner
        self._observer = observer
        self._noise: dict[str, list[dict[str, Any]]] = {}

    def climb(self) -> Plan:
        """Return the plan of the first rung that passes.

        Raises:
            ReleaseError: ``repair-exhausted``.
        """
        x86 = "x86_64" in self.asked.target.architectures
        kinds = rungs(self.asked.recipe, self.asked.format, x86=x86)
        for place, kind in enumerate(kinds):
            plan = self._try(kind, alpha_of(place, len(kinds)))
            if plan is not None:
                return plan
        raise self._exhausted()

    def _try(self, kind: Kind, alpha: float) -> Plan | None:
        ranges, noisy = self._best()
        recipe = changed(self.asked.recipe, kind, self.asked.format, noisy, ranges)
        if recipe is None:
            return None
        try:
            plan = self._plan(recipe, alpha)
            entries = self._runner.run(plan.steps, self._observer)
            (variant,) = plan.variants
            judged = judge(self._prepared, variant, self._runner.path(variant.artifact), entries)
        except EdgeError as error:
            if kind == "asked" and error.code not in GATES:
                raise
            self.points.append(Point(rung=kind, recipe=recipe.name, passed=False, why=str(error), alpha=alpha))
            return None
        why = self._refusal(judged)
        self._note(kind, judged, plan, why, alpha)
        if why and kind in {"asked", *_RANGES} and recipe.calibrates(variant.format):
            self._listen(kind, variant, plan)
        return None if why else plan

    def _plan(self, recipe: Recipe, alpha: float) -> Plan:
        wanted = self._prepared.wanted
        # The ranges are counted for the later rungs at once; what is not used here is not run.
        counted = msgspec.structs.replace(recipe, name="counted", calibration_range="percentile")
        recipes = [recipe, counted] if recipe.calibrates(self.asked.format) else [recipe]
        targets = [self.asked.target]
        plan = build_plan(
            dataclasses.replace(wanted, targets=targets, formats=[self.asked.format], recipes=recipes, alpha=alpha)
        )
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
        if kind == "asked":
            size = self._float_size(judged.variant, plan)
            self.points.append(
                Point(
                    rung="float",
                    recipe="float",
                    passed=True,
                    value=verdict.source_value,
                    loss=0.0,
                    size=size,
                    speedup=1,
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
                interval=verdict.interval,
                loss=verdict.loss,
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

    def _best(self) -> tuple[str, list[str]]:
        """Return the ranges whose answers are nearest to float, and the layers by the noise that they add then."""
        if not self._noise:
            return self.asked.recipe.calibration_range, []
        best = max(self._noise, key=lambda kind: self._noise[kind][-1]["figures"]["snr_db"])
        layers = sorted((each for each in self._noise[best] if each["op"] != "input"), key=lambda each: -each["added"])
        ranges = self.asked.recipe.calibration_range if best == "asked" else best
        return ranges, [each["name"] for each in layers if each["added"] > 0]

    def _exhausted(self) -> ReleaseError:
        tried = [point for point in self.points if point.rung != "float"]
        measured = [point for point in tried if point.loss is not None]
        names = ", ".join(point.rung for point in tried)
        if not measured:
            return ReleaseError(
                "repair-exhausted", f"{self.asked.name}: no rung of {names} could be made: {tried[-1].why}"
            )
        best = min(measured, key=lambda point: point.loss or 0.0)
        shown = ", ".join(f"{each.rung} (loss {each.loss:+.4f}, {each.size} bytes)" for each in front(measured))
        return ReleaseError(
            "repair-exhausted",
            f"{self.asked.name}: none of {names} passes; the best is {best.recipe}: {best.why}; Pareto front: {shown}",
        )


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


def _named(plan: Plan, name: str | None) -> Step | None:
    return next((step for step in plan.steps if step.name == name), None)


class _Once:
    """Tells an observer of each step once: later rungs find what earlier ones made."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._told: set[str] = set()
        self._now = False

    def begin(self, step: Step) -> Progress:
        self._now = step.name not in self._told
        self._told.add(step.name)
        return self._observer.begin(step) if self._now else lambda _done, _total: None

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        if self._now:
            self._observer.end(step, cached=cached, seconds=seconds)
