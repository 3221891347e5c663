"""Run by the Python of PyTorch's environment: ``torch_tool.py PROGRAM.pt2 MODEL.onnx OPSET``."""

from __future__ import annotations

import sys

import torch


def main() -> None:
    """Export a program to ONNX."""
    source, path, opset = sys.argv[1:]
    program = torch.export.load(source)
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    exported = torch.onnx.export(program, opset_version=int(opset), input_names=names, dynamo=True)
    exported.save(path, external_data=False)


if __name__ == "__main__":
    main()
