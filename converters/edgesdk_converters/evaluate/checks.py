"""The steps that judge a variant, for the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesdk_converters.evaluate.catalogue import function_sha256
from edgesdk_converters.steps import Ref, Step

EVALUATION = "evaluation"
OUTPUTS = f"{EVALUATION}.npz"
"""What a measuring step writes for the evaluation data."""


def gate_params(contract: Mapping[str, Any], metric: str, max_drop: float, *, instalments: bool) -> dict[str, Any]:
    """Return what the gate must know, where it is asked."""
    params = {"contract": dict(contract), "metric": metric, "max_drop": max_drop, "instalments": instalments}
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
