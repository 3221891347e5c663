"""The examination as a step of a conversion: it stops before anything is quantized, and is not repeated."""

from __future__ import annotations

from typing import Any

import msgspec

from edgesdk.contract import Contract
from edgesdk_converters.calibration.doctor import examine as examine_statistics
from edgesdk_converters.calibration.doctor import refuse
from edgesdk_converters.calibration.statistics import collect
from edgesdk_converters.data import open_data
from edgesdk_converters.isolation import Call

STEP = "examine calibration"


def examine(call: Call) -> dict[str, Any]:
    """Child action: examine input ``calibration`` beside input ``evaluation``, if there is one; answer the diagnosis.

    Raises:
        ConfigError: ``calibration-…`` if it must not calibrate a model.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    sets = {name: collect(open_data(path, contract, labelled=False)) for name, path in call.inputs.items()}
    diagnosis = examine_statistics(sets["calibration"], contract, sets.get("evaluation"))
    refuse(diagnosis, call.inputs["calibration"].name)
    return {**msgspec.to_builtins(diagnosis), "classes": sets["calibration"].class_counts}
