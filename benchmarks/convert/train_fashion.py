"""Train a small DS-CNN for Fashion-MNIST: ``train_fashion.py TRAINING.npz MODEL.keras``. Seeded."""

import sys
from pathlib import Path

import keras
import numpy as np

EPOCHS = 6


def network() -> keras.Model:
    """Return the network: four depthwise separable blocks, global average, dense."""
    layers = keras.layers
    image = layers.Input((28, 28, 1), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(32, 3, 2, "same", use_bias=False)(image)))
    for width, stride in ((64, 1), (96, 2), (96, 1), (128, 1)):
        x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(x)))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x))


def main() -> None:
    """Train and save."""
    source, target = map(Path, sys.argv[1:])
    keras.utils.set_random_seed(1)
    with np.load(source) as arrays:
        x, y = arrays["x"].astype(np.float32) / 127.5 - 1, arrays["y"]
    model = network()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    slower = keras.callbacks.LearningRateScheduler(lambda epoch: 2e-3 * 0.5**epoch)
    model.fit(x, y, batch_size=128, epochs=EPOCHS, verbose=2, callbacks=[slower])
    partial = target.with_name(f".{target.stem}.partial.keras")
    model.save(partial)
    partial.rename(target)


if __name__ == "__main__":
    main()
