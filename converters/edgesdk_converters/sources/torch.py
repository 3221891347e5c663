"""PyTorch programs (``.pt2``, written by ``torch.export.save``): exported to ONNX in an environment that has PyTorch.

Traps: torch's exporter turns ``opset_version=17`` silently into 18; a pickled ``.pt`` runs code when it is read, and a
state dict holds no graph: both are refused by `open_source` before anything reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgesdk_converters.planning.routes import TORCH
from edgesdk_converters.running.environments import ensure, run_tool
from edgesdk_converters.running.isolation import Call

TIMEOUT_S = 900.0
SCRIPT = Path(__file__).parent / "tools" / "torch_tool.py"


def to_onnx(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` in the operator set of ``params`` from the program ``source``.

    Raises:
        ReleaseError: ``tool-crashed``, ``tool-timeout`` or ``tool-did-nothing`` with PyTorch's words.
        ConfigError: ``environment-failed`` or ``dependency-missing`` if its environment cannot be made.
    """
    path = call.out / "model.onnx"
    arguments = [str(SCRIPT), str(call.inputs["source"].resolve()), str(path.resolve()), str(call.params["opset"])]
    run_tool(ensure(TORCH), arguments, cwd=call.out.parent, timeout_s=TIMEOUT_S, expect=[path])
    return {}
