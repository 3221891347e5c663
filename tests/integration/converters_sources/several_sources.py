"""An action of a source for several models in one child: TensorFlow takes 3 s of CPU time to start."""

from __future__ import annotations

import dataclasses
import importlib

from edgesdk_converters.running.isolation import Call


def run(call: Call) -> None:
    """Do the action of the parameters for each input, by its parameters, into a folder of its name."""
    action = getattr(importlib.import_module(call.params["module"]), call.params["function"])
    for name, source in call.inputs.items():
        out = call.out / name
        out.mkdir()
        action(dataclasses.replace(call, inputs={"source": source}, params=call.params[name], out=out))
