"""What a ``.keras`` file tells of its inputs and outputs by itself: Keras and TensorFlow take seconds to load.

Its configuration has every input, and the shape of whatever a layer takes. What the last layer gives follows where its
rule is plain; of every other layer, and of models of other classes, nothing is claimed, and Keras is to be asked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SAME = frozenset(
    {"Activation", "BatchNormalization", "Dropout", "ELU", "Identity", "LayerNormalization", "LeakyReLU", "ReLU"}
    | {"Softmax"}
)
"""Layers of Keras that give the shape that they take."""
Layer = Mapping[str, Any]


def described(path: Path) -> dict[str, Any] | None:
    """Return ``{"inputs", "outputs"}`` of ``{"name", "shape", "dtype"}``; None where the file does not tell plainly."""
    try:
        with zipfile.ZipFile(path) as archive:
            top = json.loads(archive.read("config.json"))
        if top["registered_name"] not in {None, top["class_name"]} or top["module"].partition(".")[0] != "keras":
            return None
        found: dict[str, Any] = _READERS[top["class_name"]](top["config"])
    except (OSError, KeyError, TypeError, ValueError, IndexError, zipfile.BadZipFile):
        return None
    return found


def _functional(config: Mapping[str, Any]) -> dict[str, Any]:
    layers = {layer["name"]: layer for layer in config["layers"]}
    outputs = [layers[name] for name in _first_tensors(config["output_layers"])]
    return {
        "inputs": [_input(layers[name]) for name in _first_tensors(config["input_layers"])],
        "outputs": [_port(each["name"], _given(each, _only_tensor(each)), each) for each in outputs],
    }


def _sequential(config: Mapping[str, Any]) -> dict[str, Any]:
    first, *others = config["layers"]
    place = max(index for index, layer in enumerate(others) if "build_config" in layer)
    shape = list(others[place]["build_config"]["input_shape"])
    for layer in others[place:]:
        shape = _given(layer, shape)
    return {"inputs": [_input(first)], "outputs": [_port("output_0", shape, others[-1])]}


_READERS = {"Functional": _functional, "Sequential": _sequential}


def _first_tensors(listed: Sequence[Any]) -> list[str]:
    """Return the layers of ``[name, 0, 0]``, one or a list of them: the only tensor of the only call of each."""
    entries = [listed] if isinstance(listed[0], str) else listed
    found = {name: (node, tensor) for name, node, tensor in entries}
    if len(found) != len(entries) or set(found.values()) != {(0, 0)}:
        raise ValueError("a layer is called more than once")
    return list(found)


def _input(layer: Layer) -> dict[str, Any]:
    if layer["class_name"] != "InputLayer" or layer["config"]["sparse"]:
        raise ValueError("no plain input")
    return {"name": layer["config"]["name"], "shape": layer["config"]["batch_shape"], "dtype": layer["config"]["dtype"]}


def _port(name: str, shape: list[int | None], layer: Layer) -> dict[str, Any]:
    policy = layer["config"]["dtype"]
    dtype = policy if isinstance(policy, str) else policy["config"]["name"]
    if dtype != "float32":
        raise ValueError("a mixed policy")
    return {"name": name, "shape": shape, "dtype": dtype}


def _only_tensor(layer: Layer) -> list[int | None]:
    [call] = layer["inbound_nodes"]
    [tensor] = call["args"]
    if tensor["class_name"] != "__keras_tensor__":
        raise ValueError("no tensor")
    return list(tensor["config"]["shape"])


def _given(layer: Layer, taken: list[int | None]) -> list[int | None]:
    """Return the shape that a layer gives for the one that it takes."""
    if layer["registered_name"] is not None or layer["module"] != "keras.layers":
        raise ValueError("a layer of somebody's own")
    if layer["class_name"] == "Dense":
        return [*taken[:-1], int(layer["config"]["units"])]
    if layer["class_name"] not in SAME:
        raise ValueError("no plain rule")
    return taken
