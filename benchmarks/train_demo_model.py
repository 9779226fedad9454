"""Train the demo's network and write what the demo needs under configs/assets/ (once; about half an hour on two cores).

The network is a small Xception: a stem of two convolutions, four blocks of separable convolutions with residual
additions, batch normalization, global pooling, a dense head. It learns from 56,000 of Fashion-MNIST's 60,000 training
images; the other 4,000 become the demo's training split, so that the demo's validation images are ones that the source
model has not seen. The demo's test split is a stratified fifth of the 10,000 test images.

    sudo apt-get install dataset-fashion-mnist        # Expat license
    python benchmarks/train_demo_model.py [--epochs 20] [--out configs/assets]
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import struct
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

SEED = 7
DEMO_TRAIN, DEMO_TEST = 4000, 2000
SCALE, OFFSET = 1 / 127.5, -1.0
PACKAGE_DATA = Path("/usr/share/datasets/fashion-mnist")
PACKAGE_LICENSE = Path("/usr/share/doc/dataset-fashion-mnist/copyright")


def read_idx(path: Path) -> np.ndarray:
    """Read an array from a gzipped IDX file (the MNIST format: magic, dimensions, bytes)."""
    with gzip.open(path, "rb") as file:
        _, _, _, rank = struct.unpack(">4B", file.read(4))
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return indices of `count` samples, equally many of each class, in ascending order."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    per_class = count // len(classes)
    picked = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in classes]
    return np.sort(np.concatenate(picked))


def convolution(x: Any, filters: int, name: str, stride: int = 1) -> Any:
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def block(x: Any, filters: int, name: str, downsample: bool) -> Any:
    """Build two separable convolutions with a shortcut: strided and projected if it downsamples, else the identity."""
    shortcut = x
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = separable(x, filters, f"{name}_sepconv1")
    x = layers.ReLU(name=f"{name}_relu2")(x)
    x = separable(x, filters, f"{name}_sepconv2")
    if downsample:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
        shortcut = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False, name=f"{name}_shortcut")(
            shortcut
        )
        shortcut = layers.BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
    return layers.Add(name=f"{name}_add")([x, shortcut])


def mini_xception() -> keras.Model:
    inputs = keras.Input((28, 28, 1), name="image")
    x = convolution(inputs, 16, "block1_conv1")
    x = convolution(x, 32, "block1_conv2", stride=2)
    x = block(x, 64, "block2", downsample=True)
    x = block(x, 128, "block3", downsample=True)
    x = block(x, 128, "block4", downsample=False)
    x = separable(x, 160, "block5_sepconv1")
    x = layers.ReLU(name="block5_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(10, activation="softmax", name="head")(x)
    return keras.Model(inputs, outputs, name="mini_xception")


def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Flip left and right, shift by up to two pixels: a garment stays the same garment."""
    image = tf.image.random_flip_left_right(image)
    image = tf.pad(image, [[2, 2], [2, 2], [0, 0]], constant_values=OFFSET)
    return tf.image.random_crop(image, (28, 28, 1)), label


def train(model: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int, batch: int) -> None:
    steps = epochs * -(-len(images) // batch)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps - 500, warmup_target=4e-3, warmup_steps=500)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(), ["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=SEED)
    data = data.map(lambda x, y: (tf.cast(x, tf.float32) * SCALE + OFFSET, y))
    data = data.map(augment).batch(batch).prefetch(2)
    model.fit(data, epochs=epochs, verbose=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--data", type=Path, default=PACKAGE_DATA)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "configs" / "assets")
    options = parser.parse_args()

    keras.utils.set_random_seed(SEED)
    images = read_idx(options.data / "train-images-idx3-ubyte.gz")[..., None]
    labels = read_idx(options.data / "train-labels-idx1-ubyte.gz")
    test_images = read_idx(options.data / "t10k-images-idx3-ubyte.gz")[..., None]
    test_labels = read_idx(options.data / "t10k-labels-idx1-ubyte.gz")

    held_out = stratified(labels, DEMO_TRAIN, SEED)
    seen = np.setdiff1d(np.arange(len(labels)), held_out)
    model = mini_xception()
    model.summary()
    train(model, images[seen], labels[seen], options.epochs, options.batch)

    picked = stratified(test_labels, DEMO_TEST, SEED)
    right = model.predict(test_images * SCALE + OFFSET, batch_size=256, verbose=0).argmax(-1) == test_labels
    print(
        f"accuracy on all 10,000 test images: {right.mean():.4f}; on the demo's {DEMO_TEST}: {right[picked].mean():.4f}"
    )

    options.out.mkdir(parents=True, exist_ok=True)
    model.compile()  # the demo ships the network, not the optimizer's state
    model.save(options.out / "mini_xception.keras")
    np.savez_compressed(
        options.out / "fashion_mnist.npz",
        x_train=images[held_out],
        y_train=labels[held_out],
        x_test=test_images[picked],
        y_test=test_labels[picked],
    )
    shutil.copyfile(PACKAGE_LICENSE, options.out / "fashion_mnist.LICENSE")


if __name__ == "__main__":
    main()
