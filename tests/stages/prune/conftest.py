"""Provide a stage context over a folder, and a fresh session for each test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents, Event
from pipeline.contracts.shared import Shared
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.manifest import Fingerprint
from stages.keras.normal_form import MEDIA_TYPE, MODEL_FILE, encode_model, keras_facts
from stages.keras.tensorflow import import_keras
from stages.prune.config import PruneConfig

THREADS = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count() or 1)  # TensorFlow's default


@pytest.fixture(autouse=True)
def fresh_session() -> Iterator[None]:
    """Clear the session: Keras keeps every symbolic tensor in one graph, and slows down as it grows."""
    yield
    import_keras().backend.clear_session()


@dataclass
class FolderContext:
    """Provide a minimal stage context: files in a folder, events in a list."""

    config: PruneConfig
    inputs: Mapping[str, Artifact]
    folder: Path
    seed: int = 7
    threads: int = THREADS
    axis: str | None = None
    heard: list[Event] = field(default_factory=list)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    @property
    def work_dir(self) -> Path:
        return self.folder

    @property
    def events(self) -> ActionEvents:
        return ActionEvents("prune", self.heard.append)

    def read(self, input_name: str, file_name: str) -> Path:
        return self.folder / self.inputs[input_name].file(file_name).digest.removeprefix("sha256:")

    def attest(self, file: FileRef, fingerprint: Fingerprint) -> None:
        self.fingerprints[file.digest] = fingerprint

    def fingerprint(self, file: FileRef) -> Fingerprint | None:
        return self.fingerprints.get(file.digest)

    def write(self, name: str, data: bytes, media_type: str) -> FileRef:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return FileRef(name=name, digest=f"sha256:{digest}", size=len(data), media_type=media_type)


@pytest.fixture
def branches(keras: Any, randomize: Any) -> Any:
    """Build two convolutions that are joined and read by one layer, which a dense layer reads after Flatten."""
    image = keras.Input((6, 6, 2))
    a = keras.layers.Conv2D(5, 3, activation="relu", name="a")(image)
    b = keras.layers.Conv2D(4, 3, activation="relu", name="b")(image)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="of_both")(keras.layers.Concatenate()([a, b]))
    x = keras.layers.Dense(7, activation="relu", name="flat")(keras.layers.Flatten()(x))
    return randomize(keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(x)))


@pytest.fixture
def blocks(randomize: Any) -> Any:
    """Build convolutions, a separable one and a shortcut beside it, with random weights: quick to store and read."""
    layers, image = import_keras().layers, import_keras().Input((12, 12, 1))
    x = layers.Conv2D(16, 3, use_bias=False, name="block1_conv1")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="block1_bn1")(x))
    x = layers.Conv2D(24, 3, use_bias=False, name="block1_conv2")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="block1_bn2")(x))
    y = layers.Conv2D(32, 1, strides=2, padding="same", name="block2_shortcut")(x)
    x = layers.SeparableConv2D(32, 3, strides=2, padding="same", use_bias=False, name="block2_sepconv1")(x)
    x = layers.Add()([layers.BatchNormalization(name="block2_bn1")(x), y])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return randomize(import_keras().Model(image, layers.Dense(10, activation="softmax", name="head")(x)))


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """Return a stage context that holds a model as its input, for a configuration."""

    def make(model: Any, config: PruneConfig) -> FolderContext:
        made = FolderContext(config, {}, tmp_path)
        file = made.write(MODEL_FILE, encode_model(model), MEDIA_TYPE)
        made.inputs = {"model": Artifact(files=(file,), facts=keras_facts(model))}
        return made

    return make
