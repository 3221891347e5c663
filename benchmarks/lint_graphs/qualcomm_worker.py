"""Runs in onnxruntime-qnn's environment: loads ONNX files on the HTP back end, and writes who got the probed one."""

import sys
from pathlib import Path

import onnxruntime
import onnxruntime_qnn

EP = "QNNExecutionProvider"


def place(source: Path) -> str:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == EP]
    settings.add_provider_for_devices(devices, {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "htp_arch": "73"})
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(source), settings)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return f"failed: {error}"
    beside = [
        node.name
        for subgraph in session.get_provider_graph_assignment_info()
        if subgraph.ep_name != EP
        for node in subgraph.get_nodes()
    ]
    return "CPU" if "probe" in beside else "NPU"


def main() -> None:
    onnxruntime.register_execution_provider_library(EP, onnxruntime_qnn.get_library_path())
    for source in sorted(Path(sys.argv[1]).glob("*.onnx")):
        if not source.with_suffix(".said").exists():
            source.with_suffix(".said").write_text("died")
            source.with_suffix(".said").write_text(place(source))


main()
