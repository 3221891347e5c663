"""Vendors' compilers: what each takes, where it runs, and how what it makes is judged. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from edgesdk.bundle.manifest import RuntimeName
from edgesdk.errors import ConfigError
from edgesdk.targets.profiles import CompilerName, Profile
from edgesdk_converters.recipes import Format, OnnxStatic, Recipe, TfliteStatic
from edgesdk_converters.running.environments import Environment

Judged = Literal["source", "simulator", "artifact"]
"""What answers when a variant is judged: the portable file before compilation, in its own runtime; the vendor's
simulator of the chip; or the compiled artifact itself, run by the vendor's own runtime."""

TORCH = "2.13.0"
PARSER, JUDGE = "parser", "judge"
"""Options of ours beside the tools': ask TensorRT's parser; let the portable file answer for the chip."""
HALF_ARCH = 69
"""Hexagon's first generation that computes in half precision, by the vendor's words."""
TENSORRT_RTX = "1.7.1.116"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One vendor's compiler.

    Attributes:
        name: As profiles name it.
        title: For people.
        source: Format that it compiles.
        recipes: Named recipes that it takes, best first; recipes of the user are judged by their options.
        suffix: What the compiled file's name ends with.
        runtime: What runs the compiled file on the target.
        judged: What answers when a variant is judged.
        environment: Where the tool is.
        compile: Child action ``module:function`` that writes ``model`` + suffix.
        measure: Child action that runs what it compiled; None: the portable file is run in its own runtime.
        mixes: Whether the accelerator computes in float what is not quantized, so that int8 may be for a part.
        quantizes: Whether the tool itself quantizes, from the float file and the calibration data.
        variables: Environment variables that the tool gets.
        providers: What onnxruntime must run it on, best first: one that is missing is an error on the device, because
            the runtime would leave it out without a word.
    """

    name: CompilerName
    title: str
    source: Format
    recipes: tuple[str, ...]
    suffix: str
    runtime: RuntimeName
    judged: Judged
    environment: Environment
    compile: str
    measure: str | None = None
    mixes: bool = False
    quantizes: bool = False
    variables: tuple[tuple[str, str], ...] = ()
    providers: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the compiled file."""
        return f"model{self.suffix}"

    def compiles(self, target: Profile) -> bool:
        """Say whether a step makes the artifact; TensorRT's is the portable file, unless a parser is to be asked."""
        return self.name != "tensorrt" or PARSER in self.params(target)

    def precisions(self, target: Profile) -> tuple[str, ...]:
        """Return what a target's accelerator computes: what its profile says; half precision from Hexagon v69 on."""
        arch = target.compiler.options.get("htp_arch", 0) if target.compiler is not None else 0
        half = ("float16",) if self.name == "qnn" and int(arch) >= HALF_ARCH else ()
        return (*target.runtimes[0].precisions, *half)

    def halves(self, target: Profile) -> bool:
        """Say whether a target's accelerator computes in half precision what is not quantized."""
        return "float16" in self.recipes and "float16" in self.precisions(target)

    def params(self, target: Profile) -> dict[str, Any]:
        """Return the compiler's options for a target, as plain JSON, without what is not for the tool."""
        options = target.compiler.options if target.compiler is not None else {}
        return {name: value for name, value in options.items() if name != JUDGE}

    def refusal(self, recipe: Recipe) -> str | None:
        """Return why a recipe's artifact is not what it takes, or None."""
        if not recipe.makes(self.source):
            return f"{recipe.name} makes no {self.source}"
        found = _REFUSALS[self.name](recipe)
        return f"{recipe.name} {found}" if found is not None else None


def _vela(recipe: Recipe) -> str | None:
    # Float, dynamic-range and weight-only files compile with success, and with nothing on the NPU.
    return None if isinstance(recipe.tflite, TfliteStatic) else "leaves activations in float, which no Ethos-U computes"


def _rknn(recipe: Recipe) -> str | None:
    options = recipe.onnx
    if recipe.precision in {"float32", "int8-dynamic"} or (isinstance(options, OnnxStatic) and options.qualcomm):
        return "is not what the NPU computes: int8 or float16"
    if recipe.precision == "int8" and recipe.calibration_range == "percentile":
        return "asks for ranges by percentile; the tool knows minmax and mse"
    if recipe.float_layers or recipe.wide_layers:
        return "names layers, and the tool quantizes as a whole"
    return None if recipe.precision in {"int8", "float16"} else f"is {recipe.precision}; the tool makes int8 or float16"


def _qnn(recipe: Recipe) -> str | None:
    if recipe.precision == "float16":
        return None
    # Signed symmetric activations give wrong answers there, without a word.
    qualcomm = isinstance(recipe.onnx, OnnxStatic) and recipe.onnx.qualcomm
    return None if qualcomm else "is not quantized by Qualcomm's rules"


def _tensorrt(recipe: Recipe) -> str | None:
    options = recipe.onnx
    if not isinstance(options, OnnxStatic):
        return "quantizes on the fly, which TensorRT does not" if recipe.precision == "int8-dynamic" else None
    if options.quantized_bias or not options.symmetric_activations or options.activations != "int8":
        return "has int32 biases or zero points, which TensorRT refuses"
    return None


_REFUSALS = {"vela": _vela, "rknn": _rknn, "qnn": _qnn, "tensorrt": _tensorrt}
_HERE = "edgesdk_converters.backends"

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            name="vela",
            title="Arm Vela",
            source="tflite",
            recipes=("int8", "int16x8", "int8-uint8-io", "int8-float-io", "int8-per-channel-fast"),
            suffix="_vela.tflite",
            runtime="tflite-micro",
            judged="source",
            environment=Environment("vela", packages=("ethos-u-vela==5.2.0", "numpy==2.4.6", "flatbuffers==25.12.19")),
            compile=f"{_HERE}.vela:compile_model",
        ),
        Backend(
            name="qnn",
            title="Qualcomm's onnxruntime plug-in",
            source="onnx",
            recipes=("int8-qnn", "int16-qnn", "float16"),
            suffix="_ctx.onnx",
            runtime="onnxruntime",
            judged="artifact",
            environment=Environment(
                "qnn",
                packages=(
                    "onnxruntime-qnn==2.7.0",
                    "onnxruntime==1.32.0",
                    "numpy==2.4.6",
                    "flatbuffers==25.12.19",
                    "packaging==26.3",
                    "protobuf==7.36.2",
                ),
                no_deps=True,
            ),
            compile=f"{_HERE}.qnn:compile_model",
            measure=f"{_HERE}.qnn:measure",
        ),
        Backend(
            name="tensorrt",
            title="NVIDIA TensorRT",
            source="onnx",
            recipes=("int8-tensorrt", "float16", "float"),
            suffix=".onnx",
            runtime="onnxruntime",
            judged="source",
            environment=Environment(
                "tensorrt-rtx",
                packages=tuple(f"tensorrt-rtx-cu12{part}=={TENSORRT_RTX}" for part in ("", "-bindings", "-libs")),
                no_deps=True,
            ),
            compile=f"{_HERE}.tensorrt:compile_model",
            mixes=True,
            providers=("TensorrtExecutionProvider", "CUDAExecutionProvider"),
        ),
        Backend(
            name="rknn",
            title="Rockchip's rknn-toolkit2",
            source="onnx",
            recipes=("int8", "float16"),
            suffix=".rknn",
            runtime="rknn",
            judged="simulator",
            environment=Environment(
                "rknn",
                packages=(
                    "rknn-toolkit2==2.5.0",
                    "fast-histogram==0.14",
                    "filelock==3.20.0",
                    "flatbuffers==25.12.19",
                    "fsspec==2025.10.0",
                    "jinja2==3.1.6",
                    "markupsafe==3.0.3",
                    "mpmath==1.3.0",
                    "networkx==3.4.2",
                    "numpy==1.26.4",
                    "onnx==1.18.0",
                    "onnxruntime==1.20.1",
                    "opencv-python-headless==4.11.0.86",
                    "packaging==25.0",
                    "protobuf==4.25.4",
                    "psutil==7.1.3",
                    "ruamel.yaml==0.18.16",
                    "scipy==1.15.3",
                    "setuptools==80.9.0",
                    "sympy==1.14.0",
                    f"torch=={TORCH}",
                    "tqdm==4.67.1",
                    "typing-extensions==4.15.0",
                ),
                no_deps=True,
            ),
            compile=f"{_HERE}.rknn:compile_model",
            measure=f"{_HERE}.rknn:measure",
            quantizes=True,
            # It writes memory that it never wrote to; filled by the allocator, the same input gives the same bytes.
            variables=(("MALLOC_PERTURB_", "165"),),
        ),
    )
}


def find_backend(target: Profile) -> Backend | None:
    """Return the compiler of a target; None where the portable file is the artifact.

    Raises:
        ConfigError: ``config-invalid`` for a profile whose compiler's options are not whole.
    """
    if target.compiler is None:
        return None
    missing = [name for name in _OPTIONS.get(target.compiler.name, ()) if name not in target.compiler.options]
    if missing:
        raise ConfigError("config-invalid", f"the target {target.name}: compiler.options lacks {', '.join(missing)}")
    return _judging(BACKENDS[target.compiler.name], target.compiler.options.get(JUDGE), target.name)


def _judging(backend: Backend, judge: Any, target: str) -> Backend:
    """Return the backend that lets the portable file answer, where a profile asks for it: simulators may be slow."""
    if judge is None:
        return backend
    if judge != "source" or backend.quantizes:
        known = f"{backend.title} quantizes by itself, so no other file can answer" if backend.quantizes else '"source"'
        raise ConfigError("config-invalid", f"the target {target}: compiler.options.judge is {judge!r}; known: {known}")
    return replace(backend, judged="source", measure=None)


def by_file(target: Profile) -> Profile:
    """Return a target for which the portable file answers, in place of what the vendor's tool compiled."""
    assert target.compiler is not None
    options = {**target.compiler.options, JUDGE: "source"}
    return msgspec.structs.replace(target, compiler=msgspec.structs.replace(target.compiler, options=options))


_OPTIONS = {
    "vela": ("accelerator_config", "system_config", "memory_mode"),
    "rknn": ("target_platform",),
    "qnn": ("htp_arch",),
}
