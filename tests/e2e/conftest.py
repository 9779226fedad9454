"""Provide a small network with separable convolutions and a residual Add, its data, and a recipe through all stages."""

import io
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras

SIZE, CLASSES = 12, 3
RECIPE = """\
name: tiny
seed: 5
model: tiny.keras
data:
  source: npz
  path: data.npz
  preprocess: {{scale: 0.00784313725490196, offset: -1.0}}
  calibration: {{take: 24}}
  test: test
control: true
stages:
  - load
  - prune: {{criterion: l2, ratio: 0.5, round_to: 2}}
  - finetune: {{epochs: {epochs}, batch: 32, learning_rate: 0.01}}
  - strip
  - quantize: {{schemes: [float32, int8]}}
  - export: {{formats: [tflite, onnx]}}
  - verify
  - benchmark: {{rounds: 2, seconds: 0.02}}
gates:
  - {{metric: "tflite/int8.accuracy", min: 0.1}}
"""


def tiny_model():
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(momentum=0.9, name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    y = layers.SeparableConv2D(8, 3, padding="same", use_bias=False, name="sep")(x)
    y = layers.BatchNormalization(momentum=0.9, name="sep_bn")(y)
    x = layers.Add(name="add")([x, y * 0.5 + 0.1])  # operations between layers, whose calls are on the instance
    x = layers.Dropout(0.1, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x), name="tiny")


def stripes(samples, seed):
    """Make images with stripes in three directions."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % CLASSES
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    phases = np.stack([rows, columns, rows + columns])[y]
    images = 128 + 100 * np.sin(phases * 1.5) + rng.normal(0, 20, (samples, SIZE, SIZE))
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], y


@pytest.fixture(scope="session")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    x_train, y_train = stripes(300, 0)
    x_test, y_test = stripes(60, 1)
    np.savez_compressed(folder / "data.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    tiny_model().save(folder / "tiny.keras")
    return folder


@pytest.fixture
def recipe(assets, tmp_path):
    """Return a function that writes the recipe (with its files linked next to it) and returns its path."""
    for path in assets.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def write(epochs=2, replace=()):
        text = RECIPE.format(epochs=epochs)
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "tiny.yaml").write_text(text)
        return tmp_path / "tiny.yaml"

    return write


@pytest.fixture(scope="session")
def command():
    """Return the command line, as a list to start a process with."""
    return lambda *arguments: [sys.executable, "-m", "pipeline", *map(str, arguments)]


@pytest.fixture(scope="session")
def secateur(command):
    """Run the command line in a separate process: (exit code, the JSON on stdout or its text, stderr)."""

    def run(*arguments, **options):
        environment = {**os.environ, "CI": "1", **options.pop("env", {})}
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, check=False, timeout=300, env=environment, **options
        )
        out = json.loads(done.stdout) if "--json" in arguments and done.stdout else done.stdout
        return done.returncode, out, done.stderr

    return run


@contextmanager
def _descriptor_2():
    """Return the path of a file with what is written to descriptor 2 meanwhile: progress bypasses `sys.stderr`."""
    kept = os.dup(2)
    with tempfile.NamedTemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield Path(file.name)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@pytest.fixture(scope="session")
def secateur_here():
    """Do what `secateur` does, in this process: for recipes that don't test the process; TensorFlow is
    imported once.
    """
    from pipeline.cli import main

    def run(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, _descriptor_2() as progress:
            patch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
            patch.setenv("CI", "1")
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main()
            told = progress.read_text() + err.getvalue()
        said = out.getvalue()
        return ended.value.code, json.loads(said) if "--json" in arguments and said else said, told

    return run


@pytest.fixture(scope="session")
def finished(assets, secateur, tmp_path_factory):
    """Run the recipe once to its end: return its path, its store, its manifest."""
    folder = tmp_path_factory.mktemp("finished")
    for path in assets.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "tiny.yaml").write_text(RECIPE.format(epochs=2))
    code, manifest, err = secateur("run", folder / "tiny.yaml", "--store", folder / "store", "--json")
    assert code == 0, err
    return folder / "tiny.yaml", folder / "store", manifest


@pytest.fixture(scope="session")
def write_dense():
    """Write a dense network and its data to a folder: `dense.keras`, `d.npz`."""

    def write(folder):
        keras, rng = import_keras(), np.random.default_rng(0)
        keras.utils.set_random_seed(1)
        inputs = keras.Input((6,), name="x")
        hidden = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
        keras.Model(inputs, keras.layers.Dense(3, name="y")(hidden)).save(folder / "dense.keras")
        x, y = rng.standard_normal((40, 6)).astype(np.float32), np.arange(40) % 3
        np.savez(folder / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    return write
