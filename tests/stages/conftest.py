"""Share what tests of several packages need: a minimal stage context, tiny models and files."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents, Advanced, Event, Warned
from pipeline.contracts.shared import Shared
from pipeline.data import Preprocess, Split
from pipeline.records.artifacts import Artifact, FileRef, TensorSpec
from pipeline.records.facts import CalibrationFacts, QuantizedFacts
from pipeline.records.keys import digest_of_bytes
from pipeline.records.manifest import Fingerprint
from pipeline.records.schemes import quantization_of
from stages.benchmark.config import BenchmarkConfig
from stages.devices.measurement import Measurement
from stages.export.config import ExportConfig
from stages.formats.onnx.external_data import data_files
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.tflite.facts import TFLiteFacts
from stages.keras.channels.groups import channel_groups
from stages.keras.normal_form import MEDIA_TYPE, MODEL_FILE, encode_model, keras_facts
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.prune.surgery.random_weights import randomize_weights
from stages.samples.calibration import CALIBRATION_FILE, encode_samples

TWO = 2.0


@dataclass
class FakeContext:
    """Provide a StageContext whose blobs are files named by digest, shared by all contexts of one test."""

    folder: Path
    config: Any
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    splits: Mapping[str, Split] = field(default_factory=dict)
    axis: str | None = None
    seed: int = 0
    heard: list[Event] = field(default_factory=list)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    @property
    def threads(self) -> int:
        """Return the number that TensorFlow runs with already: tests of all stages share one process."""
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
        """Write a Keras model as the artifact that earlier stages would have made."""
        return Artifact(files=(self.write(MODEL_FILE, encode_model(model), MEDIA_TYPE),), facts=keras_facts(model))


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., FakeContext]:
    """Make a context from a config, and optionally inputs, splits and an axis element."""

    shared = Shared()

    def make(config: Any, **more: Any) -> FakeContext:
        return FakeContext(tmp_path, config, **{"shared": shared, **more})

    return make


@pytest.fixture
def make_split() -> Callable[..., Split]:
    """Make a split from inputs and targets that need no preprocessing, unless one is given; classes by default."""

    def make(name: str, x: Any, y: Any, preprocess: Preprocess | None = None, task: Any = "classes") -> Split:
        given = preprocess or Preprocess()
        digest = digest_of_bytes(pickle.dumps((x, y, given.model_dump())))  # of the content, like real ones
        return Split(name=name, digest=digest, x=x, y=y, preprocess=given, task=task)

    return make


@pytest.fixture
def exporting(make_context: Callable[..., Any], tiny_xception: Any, tiny_images: Any) -> Callable[..., Any]:
    """Make a context in which a model is to be exported, the tiny network unless another is given."""

    def make(target_format: Any, scheme: Any, model: Any = None, samples: Any = tiny_images, **settings: Any) -> Any:
        io = settings.pop("io", "float32")
        context = make_context(ExportConfig(formats=(target_format,), **settings), axis=f"{target_format}/{scheme}")
        keras_model = context.write_model(tiny_xception if model is None else model)
        calibration = None
        how = quantization_of(scheme)
        if how.calibrated:
            file = context.write(CALIBRATION_FILE, encode_samples(samples), "application/x-npy")
            calibration = Artifact(files=(file,), facts=CalibrationFacts(samples=len(samples)))
        facts = QuantizedFacts(
            quantization=how, io=io, calibration=calibration.digest if calibration else None,
            params=keras_model.facts.params, macs=keras_model.facts.macs, model_digest=keras_model.digest,
        )  # fmt: skip
        files = (*keras_model.files, *(calibration.files if calibration else ()))
        context.inputs = {"model": Artifact(files=files, facts=facts)}
        return context

    return make


@pytest.fixture
def make_external(tmp_path: Path) -> Callable[..., Path]:
    """Make `model.onnx`, y = x · w over (1, 64), whose w is in `model.onnx.data` from byte 4096 on."""
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


@pytest.fixture(scope="session")
def randomize() -> Any:
    return randomize_weights


@pytest.fixture(scope="session")
def tflite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert a convolution, pooling and a dense layer; without a suffix, as the store keeps files."""
    keras, tf = import_keras(), import_tensorflow()
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(16, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(4, name="head")(x), name="tiny")
    path = tmp_path_factory.mktemp("models") / "tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make y = 2 x over (N, 3, 64, 64), the batch free."""
    import onnx
    from onnx import TensorProto, helper

    spec = ("N", 3, 64, 64)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, spec)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, spec)],
        [helper.make_tensor("two", TensorProto.FLOAT, (), [TWO])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("models") / "onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session", params=["tflite", "onnx"])
def model_file(request: pytest.FixtureRequest) -> Path:
    """Return each of the two models in turn; its name is its format."""
    return request.getfixturevalue(f"{request.param}_file")


def measurement(samples_ns: tuple[int, ...], digest: str = "0" * 64, **changes: Any) -> Measurement:
    """Return a measurement with these samples, all else made up."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "runtime": "litert",
        "runtime_version": "2.3.0",
        "import_ms": 90.0,
        "load_ms": 2.0,
        "first_inference_ms": 1.0,
        "warmup_calls": 10,
        "steady": True,
        "samples_ns": samples_ns,
        "peak_memory_bytes": 1000,
        "threads": 1,
        "seed": 0,
        "outputs": ({"name": "y", "dtype": "float32", "shape": (1, 4), "sha256": digest},),
        "cpu_model": "a processor",
        "machine": "riscv64",
        "system": "Linux",
        "python": "3.9.0",
        "numpy": "2.0.0",
    }
    return Measurement.model_validate(values | changes)


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    return measurement


@dataclass
class BenchmarkContext:
    """Provide the context of a benchmark over files on disk."""

    config: BenchmarkConfig
    inputs: Mapping[str, Artifact]
    axis: str | None
    work_dir: Path
    paths: Mapping[str, Path]
    folder: Path = Path("/nowhere")
    seed: int = 0
    threads: int = 1
    heard: list[Event] = field(default_factory=list)
    written: dict[str, bytes] = field(default_factory=dict)

    @property
    def events(self) -> ActionEvents:
        return ActionEvents("benchmark[test]", self.heard.append)

    def read(self, input_name: str, file_name: str) -> Path:
        names = self.inputs[input_name].names
        assert file_name in names
        return self.paths[input_name] if file_name == names[0] else self.paths[input_name].with_name(file_name)

    def write(self, name: str, data: bytes, media_type: str) -> FileRef:
        self.written[name] = data
        return file_ref(name, data, media_type)


def file_ref(name: str, data: bytes, media_type: str) -> FileRef:
    return FileRef(
        name=name, digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data), media_type=media_type
    )


def model_artifact(path: Path) -> Artifact:
    """Return the artifact of a model file, its kind by its format."""
    data = path.read_bytes()
    tensor = (TensorSpec(name="x", shape=(None, 1), dtype="float32"),)
    common: dict[str, Any] = {"scheme": "float32", "inputs": tensor, "outputs": tensor, "operators": {"CONV": 1}}
    if data[4:8] == b"TFL3":
        return Artifact(files=(file_ref("model.tflite", data, "x"),), facts=TFLiteFacts(**common))
    files = [file_ref("model.onnx", data, "x"), *(file_ref(p.name, p.read_bytes(), "x") for p in data_files(path))]
    return Artifact(files=tuple(files), facts=ONNXFacts(opset=17, ir_version=8, **common))


@pytest.fixture
def make_benchmark(tmp_path: Path) -> Callable[..., BenchmarkContext]:
    """Make a context with `candidate` and `baseline` files and config settings."""

    def make(candidate: Path, baseline: Path, **settings: Any) -> BenchmarkContext:
        paths = {"export": candidate, "baseline": baseline}
        inputs = {name: model_artifact(path) for name, path in paths.items()}
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        return BenchmarkContext(BenchmarkConfig(**settings), inputs, "format/scheme@cpu", work_dir, paths)

    return make


@pytest.fixture(scope="session")
def groups() -> Any:
    """Return a network's groups by name: prunable ones by their size, frozen ones by their reasons."""

    def describe(model: Any) -> dict[str, Any]:
        return {
            group.name: [str(why) for why in group.frozen] or group.channels.size
            for group in channel_groups(model).groups
        }

    return describe


@pytest.fixture
def mini_xception() -> Any:
    """Build the demo's network with random weights."""
    spec = importlib.util.spec_from_file_location(
        "train_demo_model", Path(__file__).parents[2] / "benchmarks" / "train_demo_model.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return randomize_weights(module.mini_xception())


@pytest.fixture(scope="session")
def nested() -> Any:
    """Build stem → block(first → second) → sum of both → head."""
    keras = import_keras()
    layers = keras.layers
    inside = keras.Input((5,))
    block = keras.Model(inside, layers.Dense(5, name="second")(layers.Dense(5, name="first")(inside)), name="block")
    inputs = keras.Input((4,), name="x")
    stem = layers.Dense(5, name="stem")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Add(name="sum")([stem, block(stem)])))


def small_network() -> Any:
    layers, image = import_keras().layers, import_keras().Input((6, 6, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Add(name="add")([x, layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)])
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(x)
    x = layers.Dense(3, activation="softmax", name="head")(layers.GlobalAveragePooling2D(name="pool")(x))
    return import_keras().Model(image, x, name="small")


@pytest.fixture
def network() -> Any:
    """Return a function that builds the network."""
    return small_network


@pytest.fixture
def images() -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal((60, 6, 6, 2)).astype(np.float32)


@pytest.fixture
def small(randomize: Any) -> Any:
    """Return the source, the pruned model, prune's report of it and what is kept."""
    import numpy as np

    from stages.prune import PruneConfig, prune_model

    source = randomize(small_network())
    result = prune_model(source, PruneConfig(ratio=0.5, criterion="random", scope="layer"), seed=1)
    kept = {name: np.asarray(places) for name, places in result.report.kept.items()}
    return SimpleNamespace(source=source, pruned=result.model, report=result.report, kept=kept)
