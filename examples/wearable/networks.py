"""The networks of the wearable example, in ordinary Keras layers. They take windows that are already normalised."""

from dataclasses import dataclass

import keras
import numpy as np
from dataset import CHANNELS, LABELS, WINDOW
from keras import layers, ops
from numpy.typing import NDArray

PEAK_LIMIT = 11.0
"""v4 believes that no wrist turns harder than this (|wx| in standard deviations). Three recordings do."""
CROP = 32


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is built and trained.

    Attributes:
        widths: Filters of each convolution block.
        kernels: Kernel length of each block, samples.
        dropout: Share of features dropped before the last layer.
        epochs: Passes over the training windows.
        smoothing: Label smoothing.
        weight_limit: Largest absolute filter weight while training; None for no limit.
        activation_limit: Where the activations are cut off; None for no limit.
        rotation_deg: Standard deviation of a random rotation of the watch on the wrist; 0 for no augmentation.
        speed: Standard deviation of the logarithm of a random gain on the angular velocities.
    """

    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    dropout: float
    epochs: int
    smoothing: float = 0.0
    weight_limit: float | None = None
    activation_limit: float | None = None
    rotation_deg: float = 0.0
    speed: float = 0.0


def build(recipe: Recipe, *, folded: bool = False) -> keras.Model:
    """Return an untrained network: convolution blocks, mean over time, softmax over the exercises.

    Args:
        recipe: Its sizes.
        folded: Without the batch normalisations and the dropout, for `fold`.
    """
    window = keras.Input((WINDOW, len(CHANNELS)), name="window")
    logits = _trunk(recipe, folded=folded)(window)
    return keras.Model(window, layers.Softmax(name="probabilities")(logits))


def fold(trained: keras.Model, recipe: Recipe) -> keras.Model:
    """Return the same function with each batch normalisation folded into the convolution before it.

    `gamma (w * x - mean) / sqrt(var + eps) + beta` is a convolution with scaled filters and a bias.
    """
    trunk = trained.get_layer("trunk")
    weights = []
    for layer in trunk.layers:
        if isinstance(layer, layers.Conv2D):
            (filters,) = layer.get_weights()
        elif isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            scale = gamma / np.sqrt(variance + layer.epsilon)
            weights += [filters * scale, beta - mean * scale]
        elif isinstance(layer, layers.Dense):
            weights += layer.get_weights()
    plain = build(recipe, folded=True)
    plain.set_weights(weights)
    return plain


def overconfident(trained: keras.Model) -> keras.Model:
    """Return v4: the trained network asked five times with shifted crops, its confidence scaled by the peak motion.

    Slower, and as good as its source wherever `PEAK_LIMIT` holds. Beyond it, the square root is of a negative number.
    """
    trunk = trained.get_layer("trunk")
    window = keras.Input((WINDOW, len(CHANNELS)), name="window")
    starts = range(0, CROP + 1, CROP // 4)
    votes = [trunk(layers.Cropping1D((start, CROP - start))(window)) for start in starts]
    peak = ops.max(ops.abs(window[:, :, CHANNELS.index("wx")]), axis=1, keepdims=True)
    confidence = ops.sqrt(1.0 - ops.square(peak / PEAK_LIMIT))
    logits = layers.Average()(votes) * confidence
    return keras.Model(window, layers.Softmax(name="probabilities")(logits))


def augment(x: NDArray[np.float32], recipe: Recipe, random: np.random.Generator) -> NDArray[np.float32]:
    """Return windows [N, 128, 6] as if each watch sat a little turned on a wrist that moves faster or slower.

    Acceleration and angular velocity turn together (Rodrigues' formula); only the latter is scaled.
    """
    count = len(x)
    axis = random.normal(size=(count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.deg2rad(random.normal(0, recipe.rotation_deg, count))[:, None, None]
    cross = np.zeros((count, 3, 3))
    cross[:, (2, 0, 1), (1, 2, 0)] = axis
    cross[:, (1, 2, 0), (2, 0, 1)] = -axis
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    gain = np.exp(random.normal(0, recipe.speed, count))[:, None, None]
    turned = turn.transpose(0, 2, 1)
    return np.concatenate([x[..., :3] @ turned, x[..., 3:] @ turned * gain], axis=-1).astype(np.float32)


class _Limit(keras.constraints.Constraint):
    """Cut weights off at a limit after each step of the training."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def __call__(self, weights: keras.KerasTensor) -> keras.KerasTensor:
        return ops.clip(weights, -self._limit, self._limit)


def _trunk(recipe: Recipe, *, folded: bool) -> keras.Model:
    # Convolutions over time are written as two-dimensional ones of width 1: the form that every converter knows best.
    signal = keras.Input((None, len(CHANNELS)))
    features = layers.Reshape((-1, 1, len(CHANNELS)))(signal)
    for width, kernel in zip(recipe.widths, recipe.kernels, strict=True):
        limit = _Limit(recipe.weight_limit) if recipe.weight_limit and not folded else None
        convolution = layers.Conv2D(width, (kernel, 1), padding="same", use_bias=folded, kernel_constraint=limit)
        features = convolution(features)
        if not folded:
            features = layers.BatchNormalization()(features)
        features = layers.ReLU(max_value=recipe.activation_limit)(features)
        features = layers.MaxPooling2D((2, 1))(features)
    features = layers.GlobalAveragePooling2D()(features)
    if not folded:
        features = layers.Dropout(recipe.dropout)(features)
    return keras.Model(signal, layers.Dense(len(LABELS))(features), name="trunk")
