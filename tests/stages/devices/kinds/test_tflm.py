"""Test TensorFlow Lite for Microcontrollers, if its package is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.errors import DeviceError
from pipeline.reports.command_lines import install
from stages.devices.kinds.tflm import installed
from stages.devices.target import count, find_target

tflm = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="pip install tflite-micro")


@tflm
def test_the_arena_is_exact_and_has_its_parts(fixed_batch_file: Path) -> None:
    first, second = (count("tflm", fixed_batch_file, "model") for _ in range(2))
    assert first == second
    metrics = first.metrics
    assert metrics["arena_bytes"] == metrics["arena_head_bytes"] + metrics["arena_tail_bytes"]
    assert metrics["arena_bytes"] > 32 * 32 * 3 * 4  # the input alone
    assert first.outputs[0].shape == (1, 4)


@tflm
def test_a_model_beyond_the_device_or_damaged_is_refused(fixed_batch_file: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("kind: tflm\narena_limit_bytes: 1000\n")
    with pytest.raises(DeviceError, match="and small has 1000"):
        count(find_target("small", tmp_path), fixed_batch_file, "model")
    (tmp_path / "damaged").write_bytes(fixed_batch_file.read_bytes()[:500])
    with pytest.raises(DeviceError) as caught:
        count("tflm", tmp_path / "damaged", "candidate")
    assert caught.value.where == "candidate"


@tflm
def test_no_arena_comes_of_a_file_that_it_computes_wrong(tmp_path: Path) -> None:
    from pipeline.records.schemes import Quantization
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(16, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(64, 3, name="wide")(x))
    model = keras.Model(image, keras.layers.Dense(4, name="head")(x))
    for granularity in ("per_tensor", "per_channel"):
        how = Quantization(scheme="weight_only", granularity=granularity)
        (tmp_path / granularity).write_bytes(convert_tflite(model, how))
    assert count("tflm", tmp_path / "per_tensor", "model").metrics["arena_bytes"] > 16 * 16 * 3 * 4
    with pytest.raises(DeviceError, match=r"gives other outputs than LiteRT: .* 1e-03 is allowed") as caught:
        count("tflm", tmp_path / "per_channel", "model")
    assert "one scale a tensor" in str(caught.value.hint)
    assert "report" not in str(caught.value.hint)


def test_a_package_that_is_missing_comes_with_the_command() -> None:
    with pytest.raises(DeviceError, match="needs the package no-such-package") as caught:
        installed("no-such-package", find_target("tflm"))
    assert caught.value.hint == install("no-such-package")
