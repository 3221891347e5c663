"""Ask TensorRT-RTX's parser, which needs no GPU: ``tensorrt_tool.py compile REQUEST.json ANSWER.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt


def main() -> None:
    """Parse the model, copy it to where the artifact goes, and tell which nodes the parser takes."""
    _, request, answer = sys.argv[1:]
    asked = json.loads(Path(request).read_text())
    model = Path(asked["model"]).read_bytes()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)  # held: the parser does not, and would read freed memory
    parser = trt.OnnxParser(network, logger)
    whole = bool(parser.supports_model_v2(model))
    Path(asked["compiled"]).write_bytes(model)
    Path(answer).write_text(json.dumps({"whole": whole, "title": f"tensorrt-rtx {trt.__version__}", **told(parser)}))


def told(parser: Any) -> dict[str, Any]:
    """Return the parser's errors, and the places of the nodes that it takes."""
    errors = [parser.get_error(place) for place in range(parser.num_errors)]
    taken = [
        node
        for place in range(parser.num_subgraphs)
        if parser.is_subgraph_supported(place)
        for node in parser.get_subgraph_nodes(place)
    ]
    named = [{"node": each.node(), "name": each.node_name(), "why": each.desc()} for each in errors]
    return {"taken": taken, "errors": named}


if __name__ == "__main__":
    main()
