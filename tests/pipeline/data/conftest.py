"""Provide folders of small pictures, and data sources made from a line of JSON."""

import json

import numpy as np
import pytest

from pipeline.data import DataSource, DataSpec
from pipeline.store.file_digests import FileDigests
from stages.keras.tensorflow import import_tensorflow


def encoded(pixels, kind="png"):
    tf = import_tensorflow()
    encode = {"png": tf.io.encode_png, "jpg": tf.io.encode_jpeg}[kind]
    return encode(tf.constant(pixels, tf.uint8)).numpy()


def grey(value, size=(6, 8), channels=3):
    return np.full((*size, channels), value, np.uint8)


@pytest.fixture(scope="session")
def image():
    """Return the PNG bytes of a picture of one gray value; `kind="jpg"` for a JPEG."""
    return lambda value, size=(6, 8), kind="png": encoded(grey(value, size), kind)


@pytest.fixture
def make_images(tmp_path, image):
    """Write pictures by relative name, each with its own gray value, and return their folder."""

    def make(values, root="images"):
        for name, value in values.items():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image(value) if isinstance(value, int) else value)
        return tmp_path / root

    return make


@pytest.fixture
def source():
    """Make a source of settings at a path."""

    def make(path, seed=7, /, memory=None, **settings):
        spec = DataSpec.model_validate_json(json.dumps(settings))
        return DataSource(spec, path, seed, FileDigests(memory))

    return make
