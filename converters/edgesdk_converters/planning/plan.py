"""From what was asked to a list of steps and variants. Pure: nothing is read, run or imported that is heavy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.contract import Contract
from edgesdk.errors import ConfigError
from edgesdk.targets.profiles import Profile
from edgesdk_converters import ALPHA
from edgesdk_converters.backends import Backend, find_backend
from edgesdk_converters.backends.placement import Share
from edgesdk_converters.backends.steps import compile_step, fitting_recipes, measure_step, refusals
from edgesdk_converters.calibration import step as calibration
from edgesdk_converters.evaluate import measure
from edgesdk_converters.evaluate.checks import OUTPUTS, further_steps, gate_params, judge_step
from edgesdk_converters.passes import (
    layer_names,
    observe,
    quantize_onnx,
    quantize_tflite,
    round_onnx,
    round_tflite,
    shrink_onnx,
    weights_onnx,
)
from edgesdk_converters.planning.fit import RUNTIME, ceiling_of, fits, whole_half
from edgesdk_converters.planning.routes import Route, find_route
from edgesdk_converters.planning.unfit import unfit
from edgesdk_converters.recipes import Format, OnnxFloat32, OnnxStatic, OnnxWeights, Recipe
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.running.steps import Ref, Step
from edgesdk_converters.sources import Source, SourceFormat

# The oldest implementation first: it judges, the others must agree.
PACKAGES: dict[Format, tuple[str, ...]] = {
    "tflite": ("tflite-runtime", "ai-edge-litert"),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
}
SATURATION_SAMPLES = 600
"""Enough to show that a loss stays below one point where nothing changes; the emulator takes its time."""
Action = Callable[[Call], Any]

OBSERVERS: dict[Format, tuple[Action, tuple[str, ...]]] = {
    "tflite": (observe.observe_tflite, observe.TFLITE_TOOLS),
    "onnx": (observe.observe_onnx, observe.ONNX_TOOLS),
}
ROUNDERS: dict[Format, tuple[Action, tuple[str, ...]]] = {
    "tflite": (round_tflite.round_weights, round_tflite.TOOLS),
    "onnx": (round_onnx.round_weights, round_onnx.TOOLS),
}
PASSES: dict[tuple[Format, str], tuple[Action, tuple[str, ...]]] = {
    ("tflite", "float16"): (quantize_tflite.quantize, quantize_tflite.TOOLS),
    ("tflite", "dynamic"): (quantize_tflite.quantize, quantize_tflite.TOOLS),
    ("tflite", "static"): (quantize_tflite.quantize, quantize_tflite.TOOLS),
    ("tflite", "weights"): (quantize_tflite.quantize, quantize_tflite.TOOLS),
    ("onnx", "float16"): (shrink_onnx.to_float16, shrink_onnx.TOOLS),
    ("onnx", "dynamic"): (shrink_onnx.to_dynamic, shrink_onnx.TOOLS),
    ("onnx", "weights"): (weights_onnx.quantize, weights_onnx.TOOLS),
    ("onnx", "static"): (quantize_onnx.quantize, quantize_onnx.TOOLS),
}
"""What makes an artifact from a float file, by format and kind of the recipe's options."""


@dataclass(frozen=True, kw_only=True)
class VariantPlan:
    """One variant to be made.

    Attributes:
        source: The model file of its lineage.
        artifact: The runnable file.
        measures: Step that runs the artifact, by runtime package, the oldest first.
        source_measure: Step that runs the float source on the same samples.
        judgements: Step that judges what each runtime package answered; empty without evaluation data.
        saturation: Step that looks for saturation on x86 without VNNI; None where it cannot happen.
        lint: Step that lints `artifact` for the target's accelerator; None where the target has none.
        layers: Step that compares the artifact with its float file layer by layer; None where they are one file.
        latency: Step that times both in turn; None where they are one file.
        backend: The vendor's compiler; None where the portable file is what the target runs.
        compile_step: Step that compiles `artifact`; None where it is shipped as it is.
        compiled: The compiled file.
    """

    name: str
    target: Profile
    format: Format
    recipe: Recipe
    source: Source
    artifact: Path | Ref
    measures: dict[str, str]
    source_measure: str
    judgements: dict[str, str]
    saturation: str | None
    lint: str | None = None
    layers: str | None = None
    latency: str | None = None
    backend: Backend | None = None
    compile_step: str | None = None
    compiled: Ref | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a conversion does.

    Attributes:
        steps: In the order in which they run.
        variants: What they make, best first for equal fit.
        left_out: Recipes that were asked for and make nothing for a target, as sentences with the reason.
        more: What may come besides, in words.
    """

    steps: tuple[Step, ...]
    variants: tuple[VariantPlan, ...]
    left_out: tuple[str, ...] = ()
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to make from what.

    Attributes:
        sources: Model files by format.
        formats: Artifact formats, preferred first.
        data: Data files by what they are for: ``calibration``, ``evaluation``, ``truth``.
        packages: Runtime packages that are installed here.
        max_drop: Largest loss that the gate allows.
        metric: What the gate judges by.
        alpha: Its error rate.
        stop_early: Whether artifacts are run in instalments, until the gate is decided; or `looks.HOPELESS`.
        doctor: Whether calibration data is examined.
        fail_on_fallback: Largest share that the lint lets run beside an accelerator.
        by: What it is a share of.
    """

    sources: Mapping[SourceFormat, Source]
    contract: Contract
    targets: Sequence[Profile]
    formats: Sequence[Format]
    recipes: Sequence[Recipe]
    data: Mapping[str, Path]
    packages: Sequence[str]
    max_drop: float
    metric: str = "accuracy"
    alpha: float = ALPHA
    stop_early: bool | str = False
    doctor: bool = True
    fail_on_fallback: float | None = None
    by: Share = "macs"


def build_plan(wanted: Wanted) -> Plan:
    """Return the steps and variants of a conversion.

    Raises:
        ConfigError: ``argument-invalid`` if a format cannot be made from the sources or data is missing,
            ``dependency-missing`` if no runtime is installed that could judge an artifact.
        TargetError: ``recipe-unfit`` if a target can run none of the variants.
    """
    return _Builder(wanted).build()


class _Builder:
    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._contract: dict[str, Any] = msgspec.to_builtins(wanted.contract)
        self._steps: dict[str, Step] = {}
        self._left_out: list[str] = []
        self._ceiling = ceiling_of(wanted.targets, wanted.recipes, wanted.formats)
        self._count = observe.needs_counts(wanted.recipes)
        gated = (self._contract, wanted.metric, wanted.max_drop)
        self._gate = gate_params(*gated, instalments=wanted.stop_early, alpha=wanted.alpha)

    def build(self) -> Plan:
        variants = tuple(variant for target in self._wanted.targets for variant in self._variants(target))
        return Plan(steps=tuple(self._steps.values()), variants=variants, left_out=tuple(self._left_out))

    def _variants(self, target: Profile) -> Iterator[VariantPlan]:
        backend = find_backend(target)
        if backend is not None:
            for recipe in fitting_recipes(backend, target, self._wanted.recipes):
                yield self._compiled(target, backend, recipe)
            reasons = refusals(backend, target, self._wanted.recipes).values()
            self._left_out += [f"{target.name}: {reason}" for reason in reasons if reason is not None]
            return
        fitting = [
            (artifact_format, recipe)
            for recipe in self._wanted.recipes
            for artifact_format in self._wanted.formats
            if recipe.makes(artifact_format) and fits(target, artifact_format, recipe)
        ]
        if not fitting:
            precisions = {runtime.name: runtime.precisions for runtime in target.runtimes}
            takes = {name: precisions[runtime] for name, runtime in RUNTIME.items() if runtime in precisions}
            raise unfit(target.name, takes, self._wanted.recipes, self._wanted.formats)
        made = [recipe for _format, recipe in fitting]
        formats = " or ".join(self._wanted.formats)
        self._left_out += [
            f"{target.name}: {recipe.name} is {recipe.precision}, which it does not run as {formats}"
            for recipe in self._wanted.recipes
            if recipe not in made
        ]
        for artifact_format, recipe in fitting:
            yield self._variant(target, artifact_format, recipe, target.runtime(RUNTIME[artifact_format]).packages)

    def _compiled(self, target: Profile, backend: Backend, recipe: Recipe) -> VariantPlan:
        """Plan a variant that a vendor's tool compiles, or that its device does.

        What is judged is the portable file in its own runtime, unless the vendor's tool can answer for the chip.
        """
        data = self._wanted.data
        if backend.quantizes:
            if recipe.precision == "int8":
                self._check_calibration(recipe)
                self._examination(backend.source, self._route(backend.source).float_file)
            made = msgspec.structs.replace(recipe, onnx=OnnxFloat32(), tflite=None, calibration_range="minmax")
            portable = self._variant(target, backend.source, made, PACKAGES[backend.source])
        else:
            made = recipe if backend.mixes else whole_half(recipe)
            portable = self._variant(target, backend.source, made, PACKAGES[backend.source])
            recipe = msgspec.structs.replace(made, name=recipe.name)
        name = f"{target.name}-{recipe.name}"
        changes: dict[str, Any] = {"name": name, "recipe": recipe, "backend": backend, "saturation": None}
        changes["lint"] = self._lint(target, recipe, portable.artifact, final=not backend.compiles(target))
        if not backend.compiles(target):
            return replace(portable, **changes)
        job = (backend, target, recipe)
        step = compile_step(job, portable.artifact, data, self._contract)
        self._add(step)
        compiled = Ref(step=step.name, file=backend.file)
        changes |= {"compile_step": step.name, "compiled": compiled, "latency": None}
        if backend.measure is not None:
            asked = portable.artifact if backend.judged == "simulator" else compiled
            reference = Ref(step=portable.source_measure, file=OUTPUTS)
            early = self._wanted.stop_early and "evaluation" in data
            instalments = {"source": reference, "gate": self._gate} if early else None
            measure = measure_step(job, asked, data, self._contract, instalments)
            self._add(measure)
            judged = {backend.name: self._judge(measure.name, portable.source_measure)} if "evaluation" in data else {}
            changes |= {"measures": {backend.name: measure.name}, "judgements": judged}
        return replace(portable, **changes)

    def _lint(self, target: Profile, recipe: Recipe, artifact: Path | Ref, *, final: bool) -> str:
        """Add the step that lints a file before a vendor's tool, or the device's, gets it."""
        most = {"most": self._wanted.fail_on_fallback, "by": self._wanted.by}
        params = {"target": msgspec.to_builtins(target), **most, "final": final}
        # By name: the module imports onnx, which planning does without.
        action, tools = "edgesdk_converters.lint.step:lint", ("ai-edge-litert", "onnx", "numpy")
        name = f"lint {recipe.name} for {target.name}"
        self._add(Step(name=name, action=action, inputs={"artifact": artifact}, params=params, tools=tools))
        return name

    def _variant(self, target: Profile, artifact_format: Format, recipe: Recipe, known: Collection[str]) -> VariantPlan:
        route = self._route(artifact_format)
        float_file = route.float_file
        artifact = self._artifact(artifact_format, recipe, float_file)
        packages = [package for package in PACKAGES[artifact_format] if package in self._wanted.packages]
        packages = [package for package in packages if package in known]
        if not packages:
            raise _no_runtime(artifact_format)
        source_measure = self._reference(route)
        word = recipe.name if artifact != float_file else "float"
        judged = source_measure if word != "float" else None
        measures = {package: self._measure(artifact, artifact_format, package, word, judged) for package in packages}
        # Two products of 7-bit weights fit into 16 bits (2 * 255 * 64 < 2**15), so only 8-bit weights can saturate.
        wide = artifact_format == "onnx" and isinstance(recipe.onnx, OnnxStatic) and not recipe.onnx.reduce_range
        saturates = wide and "x86_64" in target.architectures
        layers, latency = self._further(word, (float_file, artifact), artifact_format, packages[-1])
        return VariantPlan(
            name=f"{target.name}-{artifact_format}-{recipe.name}",
            target=target,
            format=artifact_format,
            recipe=recipe,
            source=route.source,
            artifact=artifact,
            measures=measures,
            source_measure=source_measure,
            judgements={package: self._judge(measure, source_measure) for package, measure in measures.items()}
            if "evaluation" in self._wanted.data
            else {},
            saturation=self._saturation(artifact, recipe) if saturates else None,
            layers=layers,
            latency=latency,
        )

    def _route(self, artifact_format: Format) -> Route:
        route = find_route(artifact_format, self._wanted.sources, self._contract, self._ceiling)
        for step in route.steps:
            self._add(step)
        return route

    def _reference(self, route: Route) -> str:
        """Return the step that runs what the artifact must agree with: in one runtime, whatever the targets have."""
        known = PACKAGES[route.reference_format]
        package = next((name for name in reversed(known) if name in self._wanted.packages), "")
        if not package:
            raise _no_runtime(route.reference_format)
        return self._measure(route.reference, route.reference_format, package, "float")

    def _artifact(self, artifact_format: Format, recipe: Recipe, float_file: Ref) -> Ref:
        if not recipe.quantizes(artifact_format):
            return float_file
        if artifact_format == "onnx" and isinstance(recipe.onnx, OnnxStatic | OnnxWeights):
            float_file = self._folded(float_file)
        self._find_layers(artifact_format, recipe, float_file)
        inputs: dict[str, Path | Ref] = {"source": float_file}
        if recipe.calibrates(artifact_format):
            inputs["values"] = self._values(artifact_format, recipe, float_file)
        inputs |= self._rounded(artifact_format, recipe, float_file)
        params: dict[str, Any] = {"recipe": msgspec.to_builtins(recipe)}
        if artifact_format == "onnx":
            params |= {"max_opset": self._ceiling.max_opset, "max_ir": self._ceiling.max_ir}
        action, tools = PASSES[artifact_format, msgspec.to_builtins(recipe.options(artifact_format))["kind"]]
        return self._made(
            artifact_format, _step(f"quantize {artifact_format} {recipe.name}", action, inputs, params, tools)
        )

    def _find_layers(self, artifact_format: Format, recipe: Recipe, float_file: Ref) -> None:
        """Add the step that looks for the layers that a recipe names, before anything that takes long."""
        params = {"float_layers": list(recipe.float_layers), "wide_layers": list(recipe.wide_layers)}
        if any(params.values()):
            name, inputs = f"{layer_names.STEP} {artifact_format} {recipe.name}", {"source": float_file}
            self._add(_step(name, layer_names.find, inputs, params, layer_names.TOOLS))

    def _folded(self, float_file: Ref) -> Ref:
        """Return the float file without what its convolutions can take into their weights."""
        # By name: the module loads the runtimes, which planning does without.
        action, tools = "edgesdk_converters.passes.fold_onnx:fold", quantize_onnx.TOOLS
        step = Step(
            name="fold onnx",
            action=action,
            inputs={"source": float_file},
            params={"contract": self._contract},
            tools=tools,
        )
        return self._made("onnx", step)

    def _rounded(self, artifact_format: Format, recipe: Recipe, float_file: Ref) -> dict[str, Ref]:
        """Return the float file whose weights calibration data rounded: once for all recipes of one grid."""
        grid, samples = recipe.grid(artifact_format), self._wanted.data.get("calibration")
        if grid is None or samples is None:
            return {}
        self._examination(artifact_format, float_file)
        bits = (grid.most - 1).bit_length() + 1
        name = f"round {artifact_format} weights to {bits} bits{' (dense layers whole)' if grid.whole else ''}"
        inputs: dict[str, Path | Ref] = {"source": float_file, "calibration": samples}
        params = {"contract": self._contract, **msgspec.to_builtins(grid)}
        action, tools = ROUNDERS[artifact_format]
        return {"rounded": self._made(artifact_format, _step(name, action, inputs, params, tools))}

    def _values(self, artifact_format: Format, recipe: Recipe, float_file: Ref) -> Ref:
        """Return what was seen of the activations: observed once for all recipes."""
        self._check_calibration(recipe)
        self._examination(artifact_format, float_file)
        action, tools = OBSERVERS[artifact_format]
        inputs: dict[str, Path | Ref] = {"source": float_file, "calibration": self._wanted.data["calibration"]}
        params = {"contract": self._contract, "count": self._count}
        step = _step(f"observe {artifact_format}", action, inputs, params, tools)
        self._add(step)
        return Ref(step=step.name, file=observe.VALUES)

    def _check_calibration(self, recipe: Recipe) -> None:
        if "calibration" not in self._wanted.data:
            message = f"the recipe {recipe.name} needs calibration data"
            raise ConfigError("argument-invalid", message, hint="Give --calibration.")

    def _examination(self, artifact_format: Format, float_file: Path | Ref) -> None:
        if calibration.STEP in self._steps or not self._wanted.doctor:
            return
        sets = {name: path for name, path in self._wanted.data.items() if name in {"calibration", "evaluation"}}
        package = next((name for name in reversed(PACKAGES[artifact_format]) if name in self._wanted.packages), "")
        inputs = {**sets, "source": float_file} if package else sets
        params = {"contract": self._contract, "runtime": RUNTIME[artifact_format], "package": package}
        self._add(_step(calibration.STEP, calibration.examine, inputs, params, (package, "numpy")))

    def _measure(
        self, artifact: Path | Ref, artifact_format: Format, package: str, recipe: str, source: str | None = None
    ) -> str:
        """Add the step that runs an artifact; until the gate is decided, if `source` ran the float source."""
        judged = {name: path for name, path in self._wanted.data.items() if name != "calibration"}
        inputs: dict[str, Path | Ref] = {"artifact": artifact, **judged}
        params: dict[str, Any] = {"contract": self._contract, "runtime": RUNTIME[artifact_format], "package": package}
        if source is not None and self._wanted.stop_early and "evaluation" in judged:
            inputs["source"] = Ref(step=source, file=OUTPUTS)
            params["gate"] = self._gate
        name = f"run {artifact_format} {recipe} in {package}"
        self._add(_step(name, measure.measure, inputs, params, (package, "numpy")))
        return name

    def _judge(self, measure: str, source_measure: str) -> str:
        params = self._gate if measure != source_measure else {**self._gate, "instalments": False, "itself": True}
        step = judge_step(measure, source_measure, self._wanted.data["evaluation"], params)
        self._add(step)
        return step.name

    def _further(
        self, word: str, files: tuple[Path | Ref, Path | Ref], artifact_format: Format, package: str
    ) -> tuple[str | None, str | None]:
        runtime = (artifact_format, RUNTIME[artifact_format], package)
        found = further_steps(f"{artifact_format} {word}", files, self._wanted.data, self._contract, runtime)
        return self._maybe(found.layers), self._maybe(found.latency)

    def _maybe(self, step: Step | None) -> str | None:
        if step is None:
            return None
        self._add(step)
        return step.name

    def _saturation(self, artifact: Path | Ref, recipe: Recipe) -> str | None:
        if "evaluation" not in self._wanted.data:
            return None
        inputs = {"artifact": artifact, "evaluation": self._wanted.data["evaluation"]}
        params = {"contract": self._contract, "max_drop": self._wanted.max_drop, "samples": SATURATION_SAMPLES}
        name = f"look for saturation in onnx {recipe.name}"
        # By name: the module imports onnx, which planning does without.
        action = "edgesdk_converters.evaluate.saturate:look"
        self._add(Step(name=name, action=action, inputs=inputs, params=params, tools=quantize_onnx.TOOLS))
        return name

    def _made(self, artifact_format: Format, step: Step) -> Ref:
        self._add(step)
        return Ref(step=step.name, file=f"model.{artifact_format}")

    def _add(self, step: Step) -> None:
        assert self._steps.setdefault(step.name, step) == step, f"two steps are called {step.name!r}"


def _step(
    name: str,
    action: Action,
    inputs: Mapping[str, Path | Ref],
    params: Mapping[str, Any],
    tools: tuple[str, ...],
) -> Step:
    where = f"{action.__module__}:{action.__qualname__}"
    return Step(name=name, action=where, inputs=inputs, params=params, tools=tools)


def _no_runtime(artifact_format: Format) -> ConfigError:
    return ConfigError(
        "dependency-missing",
        f"no runtime for {artifact_format} is installed, so artifacts cannot be judged",
        hint=f"Install edgesdk[{'litert' if artifact_format == 'tflite' else 'onnx'}], or choose another --format.",
    )
