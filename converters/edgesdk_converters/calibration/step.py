"""The examination as a step of a conversion: it stops before anything is quantized, and is not repeated."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk.errors import EdgeError
from edgesdk.runtime import describe_artifact
from edgesdk_converters.calibration.doctor import examine as examine_statistics
from edgesdk_converters.calibration.doctor import refuse
from edgesdk_converters.calibration.sensitivity import Model, Scores
from edgesdk_converters.calibration.statistics import collect
from edgesdk_converters.calibration.stories import Rows
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import as_call, open_data
from edgesdk_converters.evaluate.measure import open_draft
from edgesdk_converters.running.isolation import Call

STEP = "examine calibration"


def examine(call: Call) -> dict[str, Any]:
    """Child action: examine input ``calibration`` beside input ``evaluation``, if there is one; answer the diagnosis.

    Input ``source`` is the float model, which runs in ``params["package"]`` of ``params["runtime"]``.

    Raises:
        ConfigError: ``calibration-…`` if it must not calibrate a model.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    paths = {name: call.inputs[name] for name in ("calibration", "evaluation") if name in call.inputs}
    sets = {name: collect(open_data(path, contract, labelled=False)) for name, path in paths.items()}
    with _model(call, contract) as model:
        diagnosis = examine_statistics(sets["calibration"], contract, sets.get("evaluation"), model)
    refuse(diagnosis, call.inputs["calibration"].name)
    return {**msgspec.to_builtins(diagnosis), "classes": sets["calibration"].class_counts}


@contextlib.contextmanager
def _model(call: Call, contract: Contract) -> Iterator[Model | None]:
    """Give the float model as a function on rows; None if it is no stateless classifier of one input."""
    asked = contract.task == "classification" and len(contract.inputs) == 1 and not contract.states
    if not asked or "source" not in call.inputs:
        yield None
        return
    [spec], output = contract.inputs, contract.outputs[0].name
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=call.out.parent)))
        try:
            runtime, package = call.params["runtime"], call.params["package"]
            raw = describe_artifact(call.inputs["source"], runtime, options={"package": package})
            draft = open_draft(folder, call.inputs["source"], contract, bind(contract, *raw), (runtime, package))
            session = stack.enter_context(draft)
        except EdgeError:  # measuring the source will say what is wrong with it
            yield None
            return

        def scores(rows: Rows) -> Scores:
            values = np.clip(rows, *(spec.range or (-np.inf, np.inf))).astype(spec.dtype)
            return np.stack([session.run({spec.name: as_call(row, spec)})[output].reshape(-1) for row in values])

        yield scores
