"""Provide the commands as a user calls them, and what they take: files, a model, data, entries of a history."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import build_app
from stages.commands.histories.record import Entry
from stages.commands.init import command
from stages.keras.tensorflow import import_keras

APP = build_app(["compare", "bench", "history"])


def made_up_entry(p50: float = 1.0, **changes) -> Entry:
    usual = {
        "time": "2026-11-26T00:51:24+00:00",
        "name": "tflite/int8",
        "digest": "sha256:" + "0" * 64,
        "target": "cpu",
        "device": {"cpu_model": "a processor"},
        "runtime": "litert 2.3.0",
        "rounds": 10,
        "metrics": {"latency_p50_ms": p50, "latency_p50_low_ms": p50 - 0.1, "latency_p50_high_ms": p50 + 0.1},
    }
    return Entry.model_validate(usual | changes)


@pytest.fixture
def entry() -> Callable[..., Entry]:
    return made_up_entry


@pytest.fixture
def days() -> Callable[..., list[Entry]]:
    """Make an entry per day of these medians, in ms."""

    def make(*values: float, **changes) -> list[Entry]:
        dated = enumerate(values, 1)
        return [made_up_entry(value, time=f"2026-11-{day:02}T00:00:00+00:00", **changes) for day, value in dated]

    return make


def invoked(*arguments, code=0):
    result = CliRunner().invoke(APP, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def run():
    """Run compare, bench or history, and check the exit code."""
    return invoked


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Make two ONNX files, the second with fifty times the work of the first."""
    import onnx
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("files")
    for name, steps in (("few.onnx", 4), ("many.onnx", 200)):
        names = [f"x{step}" for step in range(steps + 1)]
        nodes = [helper.make_node("Sin", [a], [b]) for a, b in pairwise(names)]
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4096)) for n in (names[0], names[-1])]
        graph = helper.make_graph(nodes, "sines", ends[:1], ends[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / name)
    return folder / "few.onnx", folder / "many.onnx"


def init(*arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def invoke():
    """Run `init` and return what it prints."""
    return init


def save_model(path, outputs=3, activation="softmax", front=(), shape=(12, 12, 1), name="small"):
    """Save a small convolutional network with one output tensor as a file."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    x = [
        *front,
        layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem"),
        layers.BatchNormalization(name="stem_bn"),
        layers.ReLU(),
        layers.Conv2D(16, 3, padding="same", name="second"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dropout(0.1),
        layers.Dense(outputs, activation=activation, name="head"),
    ]
    keras.Sequential([keras.Input(shape, name="image"), *x], name=name).save(path)
    return path


@pytest.fixture
def saved():
    """Save a small convolutional network with one output tensor as a file, and return its path."""
    return save_model


def write_unlabelled(folder, *members, samples=40):
    x = np.random.default_rng(0).integers(0, 256, (samples, 12, 12, 1)).astype(np.uint8)
    np.savez(folder / "my data.npz", **dict.fromkeys(members, x))
    return folder / "my data.npz"


@pytest.fixture
def unlabelled():
    """Write `my data.npz` with these members, none of them labels, and return its path."""
    return write_unlabelled
