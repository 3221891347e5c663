"""Runs in a process of its own, which alone has TensorFlow: random graphs are pruned, shrunk and compared.

    python compress_lab.py MODELS

prints one JSON object, and leaves small models in the folder MODELS.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
from edgesdk_converters.compress.graph import flatten
from edgesdk_converters.compress.losses import answers_probabilities
from edgesdk_converters.compress.pruners import ChannelPruner, WeightPruner
from edgesdk_converters.compress.shrink import answers, compare, prunable, random_inputs, shrink
from edgesdk_converters.compress.values import constants
from edgesdk_converters.compress.walk import walk
from keras import layers

from edgesdk.errors import ReleaseError

GRAPHS = 12
ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "softplus", "linear")


def random_graph(rng) -> keras.Model:
    """A graph of every kind of layer that a rule knows, put together at random."""
    image = keras.Input((12, 12, 3))
    x = image
    for _ in range(int(rng.integers(3, 7))):
        x = random_block(x, rng)
    head = [layers.Flatten(), layers.GlobalAveragePooling2D(), layers.GlobalMaxPooling2D(keepdims=True)]
    x = head[rng.integers(3)](x)
    if len(x.shape) > 2:
        x = layers.Reshape((-1,))(x)
    x = layers.Dense(9, activation=activation(rng), use_bias=bool(rng.integers(2)))(x)
    return keras.Model(image, layers.Dense(4, activation=("softmax", "linear")[rng.integers(2)])(x))


def activation(rng) -> str:
    return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]


def random_block(x, rng):
    width = int(x.shape[-1])
    filters, padding = int(rng.integers(4, 9)), ("same", "valid")[rng.integers(2)]
    size = 3 if x.shape[1] > 3 else 1
    choices = (
        lambda: layers.Conv2D(filters, size, padding=padding, activation=activation(rng))(x),
        lambda: layers.BatchNormalization(scale=bool(rng.integers(2)), center=bool(rng.integers(2)))(
            layers.Conv2D(filters, size, padding=padding, use_bias=False)(x)
        ),
        lambda: layers.DepthwiseConv2D(size, padding=padding, depth_multiplier=int(rng.integers(1, 3)))(x),
        lambda: layers.SeparableConv2D(filters, size, padding=padding, activation=activation(rng))(x),
        lambda: layers.Conv2DTranspose(filters, 1, activation=activation(rng))(x),
        lambda: layers.Add()([x, layers.Conv2D(width, 1, activation=activation(rng))(x)]),
        lambda: layers.Multiply()([x, layers.Dense(width, activation="sigmoid")(x)]),
        lambda: layers.Concatenate()([x, layers.Conv2D(filters, size, padding="same")(x)]),
        lambda: layers.Activation(activation(rng))(x),
        lambda: layers.MaxPooling2D(1)(layers.ZeroPadding2D(1)(x)),
        lambda: layers.LayerNormalization()(x),
        lambda: layers.Dropout(0.3)(layers.LeakyReLU(0.2)(x)),
        lambda: layers.Maximum()([layers.Conv2D(filters, 1)(x), layers.Conv2D(filters, 1)(x)]),
    )
    return choices[rng.integers(len(choices))]()


def scatter(model, rng, dead: float) -> None:
    """Give weights random values, and kill filters, inputs and gammas here and there."""
    for variable in model.variables:
        values, name = np.array(variable), variable.name
        if values.dtype.kind != "f":
            continue
        values = rng.normal(size=values.shape).astype(np.float32) * (0.3 if values.ndim > 1 else 0.5)
        if name == "moving_variance":
            values = rng.uniform(0.5, 2, size=values.shape)
        if "kernel" in name and values.ndim > 1:
            values[..., rng.random(values.shape[-1]) < dead] = 0
            values[..., rng.random(values.shape[-2]) < dead / 2, :] = 0
        if name == "gamma":
            values[rng.random(values.shape) < dead] = 0
        variable.assign(values)


def constants_hold(model) -> bool:
    """Say whether what is called constant is constant, in every layer."""
    walked = walk(model)
    known = constants(walked)
    tensors = [tensor for step in walked.steps for tensor in step.node.outputs]
    seen = answers(keras.Model(model.inputs, tensors), random_inputs(model))
    for tensor, values in zip(tensors, seen, strict=True):
        for channel, value in enumerate(known[id(tensor)]):
            if np.isfinite(value) and not np.allclose(values[..., channel], value, atol=1e-4):
                return False
    return True


def shrinks() -> list[dict]:
    """Random graphs with dead channels: what is removed, and by how much answers change."""
    found = []
    for seed in range(GRAPHS):
        rng = np.random.default_rng(seed)
        keras.utils.set_random_seed(seed)
        model = random_graph(rng)
        scatter(model, rng, 0.35)
        flat = flatten(model)
        shrunk = shrink(flat)
        row = {"same": compare(model, flat, random_inputs(model)), "constants": constants_hold(flat)}
        row |= {"removed": sum(shrunk.removed.values()), "difference": shrunk.largest_difference}
        left, again = shrink(shrunk.model), flat.count_params() - shrunk.model.count_params()
        found.append({**row, "left": sum(left.removed.values()), "parameters": again})
    return found


def prunes() -> list[dict]:
    """Random graphs whose channels are zeroed by masks: removing them changes no answer, and removes them all."""
    found = []
    for seed in range(100, 100 + GRAPHS):
        rng = np.random.default_rng(seed)
        keras.utils.set_random_seed(seed)
        flat = flatten(random_graph(rng))
        scatter(flat, rng, 0.0)
        try:
            pruner = ChannelPruner(flat, spread=("layer", "model")[seed % 2])
        except ReleaseError as error:
            found.append({"refused": error.code})
            continue
        free, _ = prunable(walk(flat))
        for place, mask in pruner.masks(0.5).items():
            flat.variables[place].assign(np.array(flat.variables[place]) * mask)
        shrunk = shrink(flat)
        rest, _ = prunable(walk(shrunk.model))
        found.append({"free": len(free), "rest": len(rest), "difference": shrunk.largest_difference})
    return found


def weights() -> dict:
    """Shares of zeros that masks of weights give."""
    flat = flatten(random_graph(np.random.default_rng(7)))
    pruner = WeightPruner(flat, spread="layer")
    each = [float(mask.mean()) for mask in pruner.masks(0.75).values()]
    whole = WeightPruner(flat, spread="model").masks(0.75)
    kept = sum(int(mask.sum()) for mask in whole.values()) / sum(mask.size for mask in whole.values())
    return {"each": each, "whole": kept, "all_alive": all(mask.any() for mask in whole.values())}


def nested() -> dict:
    """A model in a model that is called twice, with dictionaries: inlined, tied, shrunk."""
    rng = np.random.default_rng(3)
    inner = keras.Sequential([keras.Input((None, 5)), layers.Conv1D(8, 3, activation="relu"), layers.Dense(6)])
    first, second = keras.Input((16, 5), name="a"), keras.Input((16, 5), name="b")
    both = layers.Concatenate()([inner(first, training=False), inner(second, training=False)])
    pooled = layers.GlobalAveragePooling1D()(both)
    model = keras.Model({"a": first, "b": second}, {"p": layers.Dense(3)(pooled), "q": layers.Dense(1)(pooled)})
    scatter(model, rng, 0.4)
    flat = flatten(model)
    shrunk = shrink(flat)
    return {
        "same": compare(model, flat, random_inputs(flat)),
        "difference": shrunk.largest_difference,
        "removed": shrunk.removed,
        "nested_layers": [layer.name for layer in flat.layers if isinstance(layer, keras.Model)],
        "outputs": sorted(shrunk.model.output),
    }


def refusals() -> dict[str, str]:
    """What cannot be pruned, and the words with which it is refused."""

    class Own(keras.Model):
        def call(self, x):
            return x

    sequence = keras.Input((6, 4))
    recurrent = keras.Model(sequence, layers.Dense(2)(layers.LSTM(8)(layers.Conv1D(5, 2)(sequence))))
    said = {}
    for name, attempt in (
        ("subclass", lambda: flatten(Own())),
        ("recurrent", lambda: ChannelPruner(flatten(recurrent), spread="layer")),
    ):
        try:
            attempt()
        except ReleaseError as error:
            said[name] = str(error)
    return said


def reused() -> keras.Model:
    """One ReLU for layers of different width."""
    relu, image = layers.ReLU(), keras.Input((12, 12, 3))
    x = relu(layers.Conv2D(12, 3)(relu(layers.Conv2D(8, 3)(image))))
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def called_twice() -> keras.Model:
    """One convolution for two images: a channel of it is one channel."""
    conv, first, second = layers.Conv2D(8, 3), keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    both = layers.Concatenate()([conv(first), conv(second)])
    return keras.Model([first, second], layers.Dense(4)(layers.Flatten()(both)))


def layers_as_activations() -> keras.Model:
    """Functions that are layers: one looks at each channel alone, one at all, one has weights."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation=layers.LeakyReLU(0.2))(image)
    x = layers.DepthwiseConv2D(3, activation=layers.Softmax())(layers.Conv2D(6, 1)(x))
    x = layers.Dense(5, activation=layers.PReLU())(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(1, activation=layers.Activation("sigmoid"))(x))


def one_reshape() -> keras.Model:
    """One Reshape for tensors of different shapes, one of which it mixes."""
    reshape, first, second = layers.Reshape((3, 4)), keras.Input((12,)), keras.Input((6, 3))
    whole = layers.Add()([reshape(layers.Dense(12)(first)), layers.Dense(4)(reshape(layers.Dense(2)(second)))])
    return keras.Model([first, second], layers.Dense(2)(layers.Dense(5)(layers.Flatten()(whole))))


def odd() -> dict[str, dict]:
    """Half of the channels of models that are put together in unusual ways are pruned and removed."""
    found = {}
    for make in (reused, called_twice, layers_as_activations, one_reshape):
        flat = flatten(make())
        pruner = ChannelPruner(flat, spread="layer")
        for place, mask in pruner.masks(0.5).items():
            flat.variables[place].assign(np.asarray(flat.variables[place]) * mask)
        shrunk = shrink(flat)
        found[make.__name__] = {
            "removed": sorted(shrunk.removed.values()),
            "difference": shrunk.largest_difference,
            "kept": list(pruner.kept.values()),
            "barriers": list(walk(flat).barriers.values()),
            "probabilities": answers_probabilities(shrunk.model),
        }
    return found


def write_models(folder: Path) -> None:
    """Two small classifiers and a regression, untrained."""
    keras.utils.set_random_seed(1)
    for name, width in (("large", 16), ("small", 4)):
        series = keras.Input((24, 2), name="x")
        x = layers.Conv1D(width, 5, padding="same", use_bias=False)(series)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Dropout(0.2)(layers.Conv1D(width, 3, activation="relu")(x))
        x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
        keras.Model(series, x).save(folder / f"{name}.keras")
    numbers = keras.Input((4,), name="x")
    x = layers.Dense(12, activation="relu")(numbers)
    keras.Model(numbers, layers.Dense(1)(x)).save(folder / "regression.keras")


def main() -> None:
    folder = Path(sys.argv[1])
    write_models(folder)
    report = {"shrinks": shrinks(), "prunes": prunes(), "weights": weights(), "nested": nested(), "odd": odd()}
    sys.stdout.write(json.dumps({**report, "refusals": refusals()}) + "\n")


if __name__ == "__main__":
    main()
