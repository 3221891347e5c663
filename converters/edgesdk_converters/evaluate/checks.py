"""The steps that judge a variant, for the plan."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesdk.bundle.manifest import RuntimeName
from edgesdk_converters import ALPHA
from edgesdk_converters.evaluate.catalogue import function_sha256
from edgesdk_converters.recipes import Format
from edgesdk_converters.running.steps import Ref, Step

EVALUATION = "evaluation"
OUTPUTS = f"{EVALUATION}.npz"
"""What a measuring step writes for the evaluation data."""


def gate_params(
    contract: Mapping[str, Any], metric: str, max_drop: float, *, instalments: bool | str, alpha: float = ALPHA
) -> dict[str, Any]:
    """Return what the gate must know, where it is asked; for `instalments` see `looks`."""
    params = {"contract": dict(contract), "metric": metric, "max_drop": max_drop, "instalments": instalments}
    params["alpha"] = alpha
    return {**params, "function_sha256": function_sha256(metric)} if ":" in metric else params


def judge_step(measure: str, source_measure: str, evaluation: Path, params: Mapping[str, Any]) -> Step:
    """Return the step that compares what two measuring steps wrote.

    Args:
        measure: Name of the step that ran the artifact, ``run … in PACKAGE``.
        source_measure: Name of the step that ran its float source.
        evaluation: The samples on which both ran.
        params: Of `gate_params`.
    """
    inputs: dict[str, Path | Ref] = {
        "artifact": Ref(step=measure, file=OUTPUTS),
        "source": Ref(step=source_measure, file=OUTPUTS),
        EVALUATION: evaluation,
    }
    name = f"judge {measure.removeprefix('run ')}"
    return Step(
        name=name, action="edgesdk_converters.evaluate.step:judge", inputs=inputs, params=params, tools=("numpy",)
    )


def metric_step(source_measure: str, evaluation: Path, contract: Mapping[str, Any], metric: str) -> Step:
    """Return the step that tries a metric of the user's own on what a float source answered."""
    inputs: dict[str, Path | Ref] = {"source": Ref(step=source_measure, file=OUTPUTS), EVALUATION: evaluation}
    params = {"contract": dict(contract), "metric": metric, "function_sha256": function_sha256(metric)}
    name = f"try the metric on {source_measure.removeprefix('run ')}"
    return Step(
        name=name, action="edgesdk_converters.evaluate.step:try_metric", inputs=inputs, params=params, tools=("numpy",)
    )


def layers_step(word: str, source: Path | Ref, artifact: Path | Ref, samples: Path, **params: Any) -> Step:
    """Return the step that compares an artifact with its float file layer by layer.

    Args:
        word: Format and recipe, for the name.
        source: The float file, of the same format.
        artifact: The artifact.
        samples: Data of which a few dozen rows are run.
        **params: ``contract`` and ``format``.
    """
    inputs: dict[str, Path | Ref] = {"source": source, "artifact": artifact, "samples": samples}
    action = "edgesdk_converters.evaluate.layers:compare_layers"
    tools = ("ai-edge-litert", "onnxruntime", "onnx", "numpy")
    return Step(
        name=f"compare layers of {word}", action=action, inputs=inputs, params=params, tools=tools, optional=True
    )


def latency_step(word: str, source: Path | Ref, artifact: Path | Ref, samples: Path, **params: Any) -> Step:
    """Return the step that times an artifact against its float file on this machine.

    Args:
        word: Format and recipe, for the name.
        source: The float file, of the same format.
        artifact: The artifact.
        samples: Data of which one row is run.
        **params: ``contract``, ``runtime`` and ``package``.
    """
    inputs: dict[str, Path | Ref] = {"source": source, "artifact": artifact, "samples": samples}
    action = "edgesdk_converters.evaluate.latency:time_both"
    tools = (params["package"], "numpy")
    params = {**params, "processor": processor()}
    name = f"time {word} in {params['package']}"
    return Step(name=name, action=action, inputs=inputs, params=params, tools=tools, optional=True)


@dataclass(frozen=True, kw_only=True)
class Further:
    """Steps that say more about an artifact than the gate does; None where there is nothing to compare."""

    layers: Step | None = None
    latency: Step | None = None


def further_steps(
    word: str,
    files: tuple[Path | Ref, Path | Ref],
    data: Mapping[str, Path],
    contract: Mapping[str, Any],
    runtime: tuple[Format, RuntimeName, str],
) -> Further:
    """Return the steps that compare an artifact's layers and times with its float file's.

    Args:
        word: Format and recipe, for the names.
        files: The float file and the artifact.
        data: Data files by what they are for.
        contract: The contract as plain data.
        runtime: Format, runtime and package.
    """
    samples = next((data[name] for name in (EVALUATION, "truth", "calibration") if name in data), None)
    if files[0] == files[1] or samples is None:
        return Further()
    artifact_format, name, package = runtime
    plain = dict(contract)
    return Further(
        layers=layers_step(word, *files, samples, contract=plain, format=artifact_format),
        latency=latency_step(word, *files, samples, contract=plain, runtime=name, package=package),
    )


def processor() -> str:
    """Return the name of this machine's processor: figures measured on another are not this one's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware")))
    return next(named, platform.machine())
