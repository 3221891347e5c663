"""From what was asked to a list of steps and variants. Pure: nothing is read, run or imported that is heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.bundle.manifest import RuntimeName
from edgesdk.contract import Contract
from edgesdk.errors import ConfigError, TargetError
from edgesdk.targets.profiles import Profile
from edgesdk_converters import measure
from edgesdk_converters.calibration import step as calibration
from edgesdk_converters.isolation import Call
from edgesdk_converters.passes import quantize_onnx, quantize_tflite
from edgesdk_converters.recipes import Format, OnnxStatic, Recipe
from edgesdk_converters.sources import Source
from edgesdk_converters.sources import keras as keras_source
from edgesdk_converters.sources import onnx as onnx_source
from edgesdk_converters.steps import Ref, Step

RUNTIME: dict[Format, RuntimeName] = {"tflite": "tflite", "onnx": "onnxruntime"}
# The oldest implementation first: it judges, the others must agree.
PACKAGES: dict[Format, tuple[str, ...]] = {
    "tflite": ("tflite-runtime", "ai-edge-litert"),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
}
KERAS_OPSET = 17
SATURATION_SAMPLES = 400
Action = Callable[[Call], Any]


@dataclass(frozen=True, kw_only=True)
class VariantPlan:
    """One variant to be made.

    Attributes:
        source: The model file of its lineage.
        artifact: The runnable file.
        measures: Step that runs the artifact, by runtime package, the oldest first.
        source_measure: Step that runs the float source on the same samples.
        saturation: Step that looks for saturation on x86 without VNNI; None where it cannot happen.
    """

    name: str
    target: Profile
    format: Format
    recipe: Recipe
    source: Source
    artifact: Path | Ref
    measures: dict[str, str]
    source_measure: str
    saturation: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in the order in which they run, and the variants that they make, best first for equal fit."""

    steps: tuple[Step, ...]
    variants: tuple[VariantPlan, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to make from what.

    Attributes:
        sources: Model files by format.
        formats: Artifact formats, preferred first.
        data: Data files by what they are for: ``calibration``, ``evaluation``, ``truth``.
        packages: Runtime packages that are installed here.
        max_drop: Largest loss that the gate allows.
        doctor: Whether calibration data is examined.
    """

    sources: Mapping[str, Source]
    contract: Contract
    targets: Sequence[Profile]
    formats: Sequence[Format]
    recipes: Sequence[Recipe]
    data: Mapping[str, Path]
    packages: Sequence[str]
    max_drop: float
    doctor: bool = True


def build_plan(wanted: Wanted) -> Plan:
    """Return the steps and variants of a conversion.

    Raises:
        ConfigError: ``argument-invalid`` if a format cannot be made from the sources or data is missing,
            ``dependency-missing`` if no runtime is installed that could judge an artifact.
        TargetError: ``runtime-missing`` if a target can run none of the variants.
    """
    return _Builder(wanted).build()


class _Builder:
    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._contract: dict[str, Any] = msgspec.to_builtins(wanted.contract)
        self._steps: dict[str, Step] = {}
        self._ceiling = _ceiling(wanted.targets)

    def build(self) -> Plan:
        variants = tuple(variant for target in self._wanted.targets for variant in self._variants(target))
        return Plan(steps=tuple(self._steps.values()), variants=variants)

    def _variants(self, target: Profile) -> Iterator[VariantPlan]:
        fitting = [
            (artifact_format, recipe)
            for recipe in self._wanted.recipes
            for artifact_format in self._wanted.formats
            if recipe.makes(artifact_format) and _fits(target, artifact_format, recipe)
        ]
        if not fitting:
            asked = ", ".join(f"{r.name} {f}" for r in self._wanted.recipes for f in self._wanted.formats)
            runs = "; ".join(f"{runtime.name}: {', '.join(runtime.precisions)}" for runtime in target.runtimes)
            raise TargetError("runtime-missing", f"{target.name} can run none of {asked}; it runs {runs}")
        for artifact_format, recipe in fitting:
            yield self._variant(target, artifact_format, recipe)

    def _variant(self, target: Profile, artifact_format: Format, recipe: Recipe) -> VariantPlan:
        source, float_file = self._float(artifact_format)
        artifact = self._artifact(artifact_format, recipe, float_file)
        packages = [package for package in PACKAGES[artifact_format] if package in self._wanted.packages]
        packages = [package for package in packages if package in target.runtime(RUNTIME[artifact_format]).packages]
        if not packages:
            raise ConfigError(
                "dependency-missing",
                f"no runtime for {artifact_format} is installed, so artifacts cannot be judged",
                hint="Install edgesdk[litert] or edgesdk[onnx].",
            )
        measures = {
            package: self._measure(
                artifact, artifact_format, package, recipe.name if artifact != float_file else "float"
            )
            for package in packages
        }
        # Two products of 7-bit weights fit into 16 bits (2 * 255 * 64 < 2**15), so only 8-bit weights can saturate.
        wide = artifact_format == "onnx" and isinstance(recipe.onnx, OnnxStatic) and not recipe.onnx.reduce_range
        saturates = wide and "x86_64" in target.architectures
        return VariantPlan(
            name=f"{target.name}-{artifact_format}-{recipe.name}",
            target=target,
            format=artifact_format,
            recipe=recipe,
            source=source,
            artifact=artifact,
            measures=measures,
            source_measure=self._measure(float_file, artifact_format, packages[-1], "float"),
            saturation=self._saturation(artifact, recipe) if saturates else None,
        )

    def _float(self, artifact_format: Format) -> tuple[Source, Path | Ref]:
        direct, keras = self._wanted.sources.get(artifact_format), self._wanted.sources.get("keras")
        opset, max_ir = self._ceiling
        if direct is not None and artifact_format == "tflite":
            return direct, direct.path
        if direct is not None:
            params: dict[str, Any] = {"max_opset": opset, "max_ir": max_ir}
            step = _step("pin onnx", onnx_source.pin, {"source": direct.path}, params, onnx_source.TOOLS)
            return direct, self._made(artifact_format, step)
        if keras is None:
            given = ", ".join(source.path.name for source in self._wanted.sources.values())
            raise ConfigError("argument-invalid", f"{artifact_format} cannot be made from {given}")
        params = {"contract": self._contract}
        export: Action = keras_source.to_tflite
        if artifact_format == "onnx":
            export, params = keras_source.to_onnx, {**params, "opset": min(KERAS_OPSET, opset), "max_ir": max_ir}
        step = _step(f"export {artifact_format}", export, {"source": keras.path}, params, keras_source.TOOLS)
        return keras, self._made(artifact_format, step)

    def _artifact(self, artifact_format: Format, recipe: Recipe, float_file: Path | Ref) -> Path | Ref:
        if not recipe.quantizes(artifact_format):
            return float_file
        if "calibration" not in self._wanted.data:
            raise ConfigError(
                "argument-invalid", f"the recipe {recipe.name} needs calibration data", hint="Give --calibration."
            )
        if self._wanted.doctor:
            self._examination(artifact_format, float_file)
        inputs = {"source": float_file, "calibration": self._wanted.data["calibration"]}
        name = f"quantize {artifact_format} {recipe.name}"
        params: dict[str, Any] = {"contract": self._contract}
        if artifact_format == "tflite":
            params["recipe"] = msgspec.to_builtins(recipe)
            return self._made("tflite", _step(name, quantize_tflite.quantize, inputs, params, quantize_tflite.TOOLS))
        opset, max_ir = self._ceiling
        params |= {"recipe": msgspec.to_builtins(recipe), "max_opset": opset, "max_ir": max_ir}
        return self._made("onnx", _step(name, quantize_onnx.quantize, inputs, params, quantize_onnx.TOOLS))

    def _examination(self, artifact_format: Format, float_file: Path | Ref) -> None:
        if calibration.STEP in self._steps:
            return
        sets = {name: path for name, path in self._wanted.data.items() if name in {"calibration", "evaluation"}}
        package = next((name for name in reversed(PACKAGES[artifact_format]) if name in self._wanted.packages), "")
        inputs = {**sets, "source": float_file} if package else sets
        params = {"contract": self._contract, "runtime": RUNTIME[artifact_format], "package": package}
        self._add(_step(calibration.STEP, calibration.examine, inputs, params, (package, "numpy")))

    def _measure(self, artifact: Path | Ref, artifact_format: Format, package: str, recipe: str) -> str:
        judged = {name: path for name, path in self._wanted.data.items() if name != "calibration"}
        params = {"contract": self._contract, "runtime": RUNTIME[artifact_format], "package": package}
        name = f"run {artifact_format} {recipe} in {package}"
        self._add(_step(name, measure.measure, {"artifact": artifact, **judged}, params, (package, "numpy")))
        return name

    def _saturation(self, artifact: Path | Ref, recipe: Recipe) -> str | None:
        if "evaluation" not in self._wanted.data:
            return None
        inputs = {"artifact": artifact, "evaluation": self._wanted.data["evaluation"]}
        params = {"contract": self._contract, "max_drop": self._wanted.max_drop, "samples": SATURATION_SAMPLES}
        name = f"look for saturation in onnx {recipe.name}"
        # By name: the module imports onnx, which planning does without.
        action = "edgesdk_converters.saturate:look"
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


def _fits(target: Profile, artifact_format: Format, recipe: Recipe) -> bool:
    runtimes = {runtime.name: runtime for runtime in target.runtimes}
    runtime = runtimes.get(RUNTIME[artifact_format])
    return runtime is not None and recipe.precision in runtime.precisions


def _ceiling(targets: Sequence[Profile]) -> tuple[int, int]:
    """Return the newest (opset, IR version) that every target's oldest onnxruntime reads."""
    runtimes = [runtime for target in targets for runtime in target.runtimes if runtime.name == "onnxruntime"]
    opsets = [runtime.max_opset for runtime in runtimes if runtime.max_opset is not None]
    irs = [runtime.max_ir for runtime in runtimes if runtime.max_ir is not None]
    return min(opsets, default=21), min(irs, default=10)
