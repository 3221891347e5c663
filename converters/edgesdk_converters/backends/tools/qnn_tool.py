"""Compile for, and run on, Qualcomm's HTP back end: ``qnn_tool.py compile|serve REQUEST.json ANSWER.json``.

The x86 wheel of the plug-in holds the HTP back end for a CPU: what compiles also runs here, as the NPU would compute.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import frames
import onnxruntime
import onnxruntime_qnn

EP = "QNNExecutionProvider"
FALLBACK = "session.disable_cpu_ep_fallback"
DTYPES = {"float": "float32", "double": "float64"}


def main() -> None:
    """Do what is asked."""
    mode, request, answer = sys.argv[1:]
    asked = json.loads(Path(request).read_text())
    onnxruntime.register_execution_provider_library(EP, onnxruntime_qnn.get_library_path())
    if mode == "compile":
        Path(answer).write_text(json.dumps(build(asked)))
    else:
        serve(asked, Path(answer))


def build(asked: dict[str, Any]) -> dict[str, Any]:
    """Compile; a model that does not go to the NPU whole is compiled as far as it does, and its nodes are told."""
    whole, refused = True, ""
    try:
        session = open_session(asked, whole=True)
    except Exception as error:
        if "fallback to CPU EP has been explicitly disabled" not in str(error):
            raise
        whole, refused = False, str(error)
        Path(asked["compiled"]).unlink(missing_ok=True)  # it is written before the refusal, and not written over
        session = open_session(asked, whole=False)
    nodes = [
        {"ep": subgraph.ep_name, "op": node.op_type, "name": node.name}
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]
    return {"whole": whole, "refused": refused, "nodes": nodes, **described(session)}


def open_session(asked: dict[str, Any], *, whole: bool) -> Any:
    """Open a model on the HTP back end; with `compiled` named, write its context binary there, weights within."""
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == EP]
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    options = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "offload_graph_io_quantization": "0"}
    settings.add_provider_for_devices(devices, {**options, **asked["options"]})
    settings.add_session_config_entry(FALLBACK, "1" if whole else "0")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if "compiled" in asked:
        settings.add_session_config_entry("ep.context_enable", "1")
        settings.add_session_config_entry("ep.context_embed_mode", "1")
        settings.add_session_config_entry("ep.context_file_path", asked["compiled"])
    return onnxruntime.InferenceSession(asked["model"], settings)


def described(session: Any) -> dict[str, Any]:
    """Return inputs and outputs as a runtime describes them, and who speaks."""
    return {
        "inputs": [tensor(node, place) for place, node in enumerate(session.get_inputs())],
        "outputs": [tensor(node, place) for place, node in enumerate(session.get_outputs())],
        "title": f"onnxruntime-qnn {onnxruntime_qnn.__version__} (HTP back end on a CPU)",
    }


def tensor(node: Any, place: int) -> dict[str, Any]:
    """Return one of them."""
    name = node.type.removeprefix("tensor(").removesuffix(")")
    shape = [size if isinstance(size, int) else f"d{axis}" for axis, size in enumerate(node.shape)]
    return {"name": node.name, "index": place, "dtype": DTYPES.get(name, name), "shape": shape}


def serve(asked: dict[str, Any], answer: Path) -> None:
    """Say what the model takes, then answer calls until there are no more."""
    calls, answers = frames.pipes()
    session = open_session(asked, whole=False)
    answer.write_text(json.dumps(described(session)))
    frames.write(answers, {})
    names = [node.name for node in session.get_outputs()]
    while (inputs := frames.read(calls)) is not None:
        arrays = {node.name: inputs[str(place)] for place, node in enumerate(session.get_inputs())}
        frames.write(answers, {str(place): array for place, array in enumerate(session.run(names, arrays))})


if __name__ == "__main__":
    main()
