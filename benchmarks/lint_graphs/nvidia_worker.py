"""Runs in TensorRT-RTX's environment, without a GPU: asks the parser about ONNX files, and writes what it says."""

import sys
from pathlib import Path

import tensorrt_rtx as trt


def place(source: Path) -> str:
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)  # held: the parser does not, and would read freed memory
    parser = trt.OnnxParser(network, logger)
    if parser.supports_model_v2(source.read_bytes()):
        return "NPU"
    errors = [parser.get_error(each) for each in range(parser.num_errors)]
    return "; ".join(f"{each.node_name()}: {each.desc()}" for each in errors) or "refused without a word"


def main() -> None:
    for source in sorted(Path(sys.argv[1]).glob("*.onnx")):
        if not source.with_suffix(".said").exists():
            source.with_suffix(".said").write_text("died")
            source.with_suffix(".said").write_text(place(source))


main()
