"""Two tiny real models, and the least that a stage context is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents, Event
from pipeline.records.artifacts import Artifact, FileRef, ONNXFacts, TensorSpec, TFLiteFacts
from stages.benchmark.config import BenchmarkConfig
from stages.devices.measurement import Measurement
from stages.devices.rounds import Round
from stages.formats.external_data import data_files
from stages.keras.tensorflow import import_keras, import_tensorflow

TWO = 2.0


@pytest.fixture(scope="session")
def tflite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, pooling and a dense layer, converted; without a suffix, as the store keeps files."""
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
    """y = 2 x over (N, 3, 64, 64), the batch free."""
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
    """Each of the two models in turn; its name is its format."""
    return request.getfixturevalue(f"{request.param}_file")


@dataclass
class Context:
    """A stage context over files on disk."""

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
    """The artifact of a model file, its kind by its format."""
    data = path.read_bytes()
    tensor = (TensorSpec(name="x", shape=(None, 1), dtype="float32"),)
    common: dict[str, Any] = {"scheme": "float32", "inputs": tensor, "outputs": tensor, "operators": {"CONV": 1}}
    if data[4:8] == b"TFL3":
        return Artifact(files=(file_ref("model.tflite", data, "x"),), facts=TFLiteFacts(**common))
    files = [file_ref("model.onnx", data, "x"), *(file_ref(p.name, p.read_bytes(), "x") for p in data_files(path))]
    return Artifact(files=tuple(files), facts=ONNXFacts(opset=17, ir_version=8, **common))


@pytest.fixture
def make_benchmark(tmp_path: Path) -> Callable[..., Context]:
    """A context with `candidate` and `baseline` files and config settings."""

    def make(candidate: Path, baseline: Path, **settings: Any) -> Context:
        paths = {"export": candidate, "baseline": baseline}
        inputs = {name: model_artifact(path) for name, path in paths.items()}
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        return Context(BenchmarkConfig(**settings), inputs, "format/scheme@cpu", work_dir, paths)

    return make


def measurement(samples_ns: tuple[int, ...], digest: str = "0" * 64, **changes: Any) -> Measurement:
    """A measurement with these samples, all else made up."""
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


def made_up_round(index: int, candidate: Measurement, baseline: Measurement) -> Round:
    return Round(index=index, first="candidate" if index % 2 else "baseline", baseline=baseline, candidate=candidate)


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    return measurement


@pytest.fixture
def make_round() -> Callable[..., Round]:
    return made_up_round
