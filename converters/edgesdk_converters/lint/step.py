"""The lint as a step of a conversion: after the file exists, before a vendor's tool gets it."""

from __future__ import annotations

from typing import Any

import msgspec

from edgesdk.targets.profiles import Profile
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.running.isolation import Call

TOOLS = ("ai-edge-litert", "onnx", "numpy")


def lint(call: Call) -> dict[str, Any]:
    """Child action: lint input ``artifact`` for ``params["target"]``; answers a `LintReport`.

    Raises:
        TargetError: ``fallback-share`` if a larger share of ``params["by"]`` than ``params["most"]`` would run beside
            the accelerator; and if ``params["final"]`` (no tool of ours compiles the file after this) the target will
            take no such file.
    """
    report = check(read_graph(call.inputs["artifact"]), msgspec.convert(call.params["target"], Profile))
    most = call.params["most"]
    if most is not None or (call.params["final"] and report.refused):
        report.check(1.0 if most is None else most, call.params["by"])
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found
