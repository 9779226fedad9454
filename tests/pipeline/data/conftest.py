"""Provide folders of small pictures, and data sources made from a line of JSON."""

import json

import numpy as np
import pytest

from pipeline.data import DataSource, DataSpec, data_source
from pipeline.data.declaration import Opening
from pipeline.store.file_digests import FileDigests
from stages.keras.tensorflow import import_tensorflow

SIZES = {"train": 100, "test": 30}


def encoded(pixels, kind="png"):
    tf = import_tensorflow()
    encode = {"png": tf.io.encode_png, "jpg": tf.io.encode_jpeg}[kind]
    return encode(tf.constant(pixels, tf.uint8)).numpy()


def gray(value, size=(6, 8), channels=3):
    return np.full((*size, channels), value, np.uint8)


@pytest.fixture(scope="session")
def image():
    """Return the PNG bytes of a picture of one gray value; `kind="jpg"` for a JPEG."""
    return lambda value, size=(6, 8), kind="png": encoded(gray(value, size), kind)


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


def stored_splits(reader, path, settings):
    return reader(Opening(path, settings, unlabelled=False, digests=FileDigests(), threads=1)).splits()


@pytest.fixture
def splits_of():
    """Return the splits that a reader of a source finds at a path."""
    return stored_splits


def source_of(settings, folder):
    return data_source(DataSpec.model_validate_json(json.dumps(settings)), folder, 7)


@pytest.fixture
def data_of():
    """Return the source of settings in a folder."""
    return source_of


def stored_arrays(seed=0, classes=4):
    rng = np.random.default_rng(seed)
    found = {}
    for split, size in SIZES.items():
        found[f"x_{split}"] = rng.integers(0, 256, (size, 5, 5, 1), dtype=np.uint8)
        found[f"y_{split}"] = np.arange(size, dtype=np.uint8) % classes
    return found


def stored_heads(seed=0):
    """Return targets for two outputs: classes, and numbers."""
    found = {name: array for name, array in stored_arrays(seed).items() if name[0] == "x"}
    for split, size in SIZES.items():
        found[f"y_{split}__kind"] = np.arange(size) % 4
        found[f"y_{split}__level"] = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    return found


@pytest.fixture
def arrays():
    """Return the members of an npz file, whose classes are evenly many."""
    return stored_arrays


@pytest.fixture
def heads():
    """Return such members with targets for two outputs: classes, and numbers."""
    return stored_heads


@pytest.fixture
def npz_source(tmp_path):
    """Make a source of an npz file with these members, by default `arrays()`."""

    def make(seed=7, members=None, compressed=True, **settings):
        (np.savez_compressed if compressed else np.savez)(
            tmp_path / "d.npz", **(stored_arrays() if members is None else members)
        )
        spec = DataSpec.model_validate_json(
            '{"source": "npz", "path": "d.npz", "test": "test", "preprocess": {"scale": 0.5, "offset": -1},'
            '"calibration": {"take": 16}}'
        )
        return DataSource(spec.model_copy(update=settings), tmp_path / "d.npz", seed)

    return make
