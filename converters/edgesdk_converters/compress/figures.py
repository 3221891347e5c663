"""How large a model is: parameters, multiplications, bytes. Only for children."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from edgesdk_converters.compress.walk import KINDS, walk

_LEVEL = 6


def figures(model: Any) -> dict[str, Any]:
    """Return a flat model's figures.

    ``parameters`` counts all weights (states of random generators aside), ``nonzero`` those that are not zero;
    ``bytes`` is what they take, ``compressed_bytes`` what zlib makes of them, as a transport would; ``macs`` counts the
    multiplications of convolutions and dense layers for one sample, and ``not_counted`` names what it leaves out.
    """
    arrays = [np.asarray(weight) for weight in model.weights if "seed_generator" not in weight.path]
    macs, left_out = multiplications(model)
    return {
        "parameters": int(sum(array.size for array in arrays)),
        "nonzero": int(sum(np.count_nonzero(array) for array in arrays)),
        "bytes": int(sum(array.nbytes for array in arrays)),
        "compressed_bytes": sum(len(zlib.compress(array.tobytes(), _LEVEL)) for array in arrays),
        "macs": macs,
        "not_counted": left_out,
    }


def widths(model: Any) -> dict[str, int]:
    """Return the channels that each layer with a kernel makes, by name."""
    return {
        layer.name: int(getattr(layer, "filters", None) or layer.units)
        for layer in model.layers
        if KINDS.get(type(layer)) in {"dense", "conv", "transpose", "separable"}
    }


def multiplications(model: Any) -> tuple[int | None, list[str]]:
    """Return multiply-accumulates for one sample, and the layers that are not counted; None where a size is unknown."""
    total, left_out = 0, list[str]()
    for step in walk(model).steps:
        before, after = step.node.input_tensors[0].shape, step.node.outputs[0].shape
        places = before if step.kind == "transpose" else after
        if step.kind in {"dense", "conv", "transpose", "separable", "depthwise"}:
            if None in places[1:-1]:
                return None, [step.layer.name]
            kernels = [v for v in step.layer.weights if "kernel" in v.name]
            total += math.prod(places[1:-1]) * sum(math.prod(kernel.shape) for kernel in kernels)
        elif any("kernel" in variable.name for variable in getattr(step.layer, "weights", ())):
            left_out.append(step.layer.name)
    return total, left_out
