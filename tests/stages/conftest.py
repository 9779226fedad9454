"""The least that a stage context is: inputs and outputs in a folder, events in a list."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents, Advanced, Event, Warned
from pipeline.data import Preprocess, Split
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.keys import digest_of_bytes
from pipeline.records.manifest import Fingerprint
from stages.keras.normal_form import MEDIA_TYPE, MODEL_FILE, encode_model, keras_facts
from stages.keras.tensorflow import import_tensorflow


@dataclass
class FakeContext:
    """A StageContext whose blobs are files named by digest, shared by all contexts of one test."""

    folder: Path
    config: Any
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    splits: Mapping[str, Split] = field(default_factory=dict)
    axis: str | None = None
    seed: int = 0
    heard: list[Event] = field(default_factory=list)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Those that TensorFlow runs with already: tests of all stages share one process."""
        default = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count() or 1)
        return int(import_tensorflow().config.threading.get_intra_op_parallelism_threads()) or default

    @property
    def work_dir(self) -> Path:
        folder = self.folder / "work"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def events(self) -> ActionEvents:
        return ActionEvents("tested", self.heard.append)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.heard if isinstance(event, Warned)]

    @property
    def progress(self) -> list[tuple[float, float]]:
        return [(event.done, event.total) for event in self.heard if isinstance(event, Advanced)]

    def read(self, input_name: str, file_name: str) -> Path:
        return self.stored(self.inputs[input_name].file(file_name))

    def stored(self, file: FileRef) -> Path:
        return self.folder / file.digest.removeprefix("sha256:")

    def data(self, split: str) -> Split:
        return self.splits[split]

    def function(self, reference: str) -> Callable[..., Any]:
        return self.functions[reference]

    def write(self, name: str, data: bytes, media_type: str) -> FileRef:
        digest = digest_of_bytes(data)
        (self.folder / digest.removeprefix("sha256:")).write_bytes(data)
        return FileRef(name=name, digest=digest, size=len(data), media_type=media_type)

    def attest(self, file: FileRef, fingerprint: Fingerprint) -> None:
        self.fingerprints[file.digest] = fingerprint

    def fingerprint(self, file: FileRef) -> Fingerprint | None:
        return self.fingerprints.get(file.digest)

    def write_model(self, model: Any) -> Artifact:
        """A Keras model as the artifact that earlier stages would have made."""
        return Artifact(files=(self.write(MODEL_FILE, encode_model(model), MEDIA_TYPE),), facts=keras_facts(model))


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., FakeContext]:
    """Makes a context from a config, and optionally inputs, splits and an axis element."""

    def make(config: Any, **more: Any) -> FakeContext:
        return FakeContext(tmp_path, config, **more)

    return make


@pytest.fixture
def make_split() -> Callable[..., Split]:
    """Makes a split from inputs and targets that need no preprocessing, unless one is given; classes by default."""

    def make(name: str, x: Any, y: Any, preprocess: Preprocess | None = None, task: Any = "classes") -> Split:
        given = preprocess or Preprocess()
        digest = digest_of_bytes(pickle.dumps((x, y, given.model_dump())))  # of the content, as real ones are
        return Split(name=name, digest=digest, x=x, y=y, preprocess=given, task=task)

    return make


@pytest.fixture(scope="session")
def tiny_xception(tiny_images: Any) -> Any:
    """Convolution, separable convolution, a residual addition, batch norms in use, softmax: 12×12×2 → 4 classes.

    Just wide enough that TFLite's dynamic scheme, which leaves kernels below 1,024 weights alone, has one to quantize.
    """
    import numpy as np

    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    layers = keras.layers
    inputs = keras.Input((12, 12, 2), name="image")
    x = layers.Conv2D(40, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.SeparableConv2D(40, 3, padding="same", use_bias=False, name="separable")(x)
    y = layers.BatchNormalization(name="separable_bn")(y)
    x = layers.ReLU(name="join_relu")(layers.Add(name="join")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x), name="tiny_xception")
    rng = np.random.default_rng(7)
    model.set_weights([_plausible(w.name, w.shape, rng) for w in model.weights])
    features = np.asarray(keras.Model(inputs, x)(tiny_images, training=False))
    kernel = rng.standard_normal((features.shape[1], 4)).astype(np.float32)
    model.get_layer("head").set_weights([kernel, -features.mean(axis=0) @ kernel])  # no class wins everywhere
    return model


def _plausible(name: str, shape: Any, rng: Any) -> Any:
    """Weights as training leaves them: none zero, variances positive."""
    import numpy as np

    if "variance" in name or "gamma" in name:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.3).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_images() -> Any:
    """64 smooth images between -1 and 1 for `tiny_xception`."""
    import numpy as np

    coarse = np.random.default_rng(3).uniform(-1, 1, (64, 3, 3, 2)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 4, 4, 1), np.float32))


@pytest.fixture
def make_external(tmp_path: Path) -> Callable[..., Path]:
    """Makes `model.onnx`, y = x · w over (1, 64), whose w stands in `model.onnx.data` from byte 4096 on."""
    import numpy as np
    from onnx import TensorProto, helper

    def make(location: str = "model.onnx.data", offset: str = "4096", length: str = "16384") -> Path:
        values = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
        weights = TensorProto(name="w", dims=values.shape, data_type=TensorProto.FLOAT)
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            weights.external_data.add(key=key, value=value)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 64)) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        folder = tmp_path / "external"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "model.onnx.data").write_bytes(bytes(4096) + values.tobytes())
        return folder / "model.onnx"

    return make
