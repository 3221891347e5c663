"""A Keras model as a flat graph, and a walk over it with whatever values one likes. Only for children: imports Keras.

Nested models are inlined, so that one walk sees every layer. A walk hands each call of a layer to a function and its
results to the next calls: with symbolic tensors it rebuilds a model, with channel numbers it analyses one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from edgesdk.errors import ReleaseError

Act = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called with a node and the arguments of its call, tensors replaced by values; returns the values that it gives."""

_INPUT = keras.Input((1,))
FUNCTIONAL = type(keras.Model(_INPUT, _INPUT))


def load(path: Path) -> Any:
    """Read a ``.keras`` file without running any code that it carries.

    Raises:
        ReleaseError: ``model-unreadable``.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ReleaseError("model-unreadable", f"Keras cannot read {path.name}: {error}") from error


def functional(model: Any) -> Any:
    """Return the functional model behind a functional or sequential one.

    Raises:
        ReleaseError: ``prune-unsupported`` if the model's calls are Python code, which no walk can follow.
    """
    inner = model._functional if type(model) is keras.Sequential else model  # noqa: SLF001 - no public way
    if type(inner) is not FUNCTIONAL:
        raise ReleaseError(
            "prune-unsupported",
            f"{model.name!r} is a {type(model).__name__}: its layers are called by Python code, not by a graph",
            hint="Build it with keras.Input and keras.Model(inputs, outputs).",
        )
    return inner


def nodes(model: Any) -> Iterator[Any]:
    """Yield the calls of a functional model's layers, each after those that it depends on."""
    for depth in sorted(model._nodes_by_depth, reverse=True):  # noqa: SLF001 - no public way
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)  # noqa: SLF001 - see above


def run(model: Any, values: Sequence[Any], act: Act) -> list[Any]:
    """Walk a functional model with `values` in place of its inputs; return what stands in place of its outputs."""
    known = {id(tensor): value for tensor, value in zip(model.inputs, values, strict=True)}
    for node in nodes(model):
        if all(id(tensor) in known for tensor in node.input_tensors):
            arguments, options = node.arguments.fill_in(known)
            given = keras.tree.flatten(act(node, arguments, options))
            known |= {id(tensor): value for tensor, value in zip(node.outputs, given, strict=True)}
    return [known[id(tensor)] for tensor in model.outputs]


def flatten(model: Any) -> Any:
    """Return a copy of a model, nested models inlined, with the same weights and the same answers.

    Raises:
        ReleaseError: ``prune-unsupported``.
    """
    names = set[str]()

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        config["name"] = _free(config["name"], names)
        return type(layer).from_config(config)

    return rebuild(functional(model), clone, lambda new, old: new.set_weights(old.get_weights()))


def rebuild(model: Any, make: Callable[[Any], Any], fill: Callable[[Any, Any], None]) -> Any:
    """Return a functional model of new layers that are called as the old ones were.

    Args:
        model: A functional model; nested models in it are inlined.
        make: Gives the new layer for an old one; called once for each.
        fill: Called with the new layer, once it has its variables, and the old one.
    """
    made: dict[int, Any] = {}

    def act(node: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        operation = node.operation
        if isinstance(operation, keras.Model):
            mode = options.get("training")
            inner = act if mode is None else lambda n, a, o: act(n, a, {"training": mode, **o} if _has_mode(n) else o)
            return run(functional(operation), keras.tree.flatten(arguments), inner)
        if not isinstance(operation, keras.Layer):
            return operation(*arguments, **options)
        fresh = id(operation) not in made
        if fresh:
            made[id(operation)] = make(operation)
        layer = made[id(operation)]
        outputs = layer(*arguments, **options)
        if fresh:
            fill(layer, operation)
        return outputs

    inputs = [keras.Input(batch_shape=each.shape, dtype=each.dtype, name=each.name) for each in model.inputs]
    outputs = run(model, inputs, act)
    pack = keras.tree.pack_sequence_as
    return keras.Model(
        pack(model._inputs_struct, inputs),  # noqa: SLF001 - no public way
        pack(model._outputs_struct, outputs),  # noqa: SLF001 - no public way
        name=model.name,
    )


def _has_mode(node: Any) -> bool:
    """Say whether a call knows training from inference (a model that is called with ``training=False`` is frozen)."""
    return bool(getattr(node.operation, "_call_has_training_arg", False))


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found
