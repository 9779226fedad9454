"""What would end outside software natively is refused by its description: no test here hands such a thing to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UnsupportedError
from pipeline.schemes import SETTINGS, Scheme, quantization_of
from stages.export import convert_tflite, native_ends
from stages.export.native_ends import _impossible, refuse_layers, refuse_operators
from stages.keras_format import MODEL_FILE, encode_model
from stages.tf_runtime import import_keras


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A stored model with layer normalisation, alone, in a nested model, or in a wrapper; or without any."""
    keras = import_keras()
    layers = keras.layers

    def store(where: str) -> Path:
        norm = layers.LayerNormalization(name="norm")
        inner = {
            "alone": lambda: norm,
            "nested": lambda: keras.Sequential([layers.Input((3, 4)), layers.Dense(4), norm], name="inner"),
            "wrapped": lambda: layers.TimeDistributed(keras.Sequential([layers.Input((4,)), norm]), name="wrapper"),
            "absent": lambda: layers.Dense(4),
        }[where]()
        x = keras.Input((3, 4), name="x")
        path = tmp_path_factory.mktemp(where) / MODEL_FILE
        path.write_bytes(encode_model(keras.Model(x, layers.Dense(2, name="head")(inner(x)))))
        return path

    return store


@pytest.mark.parametrize("where", ["alone", "nested", "wrapped"])
def test_a_layer_known_to_end_litert_is_refused_with_its_name_and_the_way_round(
    stored: Callable[[str], Path], where: str
) -> None:
    with pytest.raises(
        UnsupportedError, match=r"LayerNormalization can't be made in int16x8 \(norm\): .*LiteRT 2.3"
    ) as e:
        refuse_layers(stored(where), "tflite", quantization_of("int16x8"), "tflite/int16x8")
    assert e.value.where == "tflite/int16x8"
    assert e.value.hint == "take int8, weight_only or float16"


def test_what_is_not_known_to_end_anything_is_let_through(stored: Callable[[str], Path]) -> None:
    others: list[Scheme] = [scheme for scheme in SETTINGS if scheme != "int16x8"]
    for scheme in others:
        refuse_layers(stored("alone"), "tflite", quantization_of(scheme), None)
    refuse_layers(stored("alone"), "onnx", quantization_of("int16x8"), None)
    refuse_layers(stored("absent"), "tflite", quantization_of("int16x8"), None)


@pytest.mark.parametrize(
    ("kind", "scales", "bits", "refused"),
    [
        ("ADD", (0.02, 0.01, 0.02), 20, False),
        ("ADD", (0.02, 0.01, 0.04 / 2**20 * 1.01), 20, False),
        ("ADD", (0.02, 0.01, 0.04 / 2**20), 20, True),  # the kernel wants less than 1
        ("SUB", (0.02, 0.01, 0.04 / 2**15), 15, True),
        ("SUB", (0.02, 0.01, 0.04 / 2**15), 20, False),
        ("ADD", (0.02, 0.01, 0.0), 20, True),
        ("SUB", (0.0, 0.01, 0.01), 15, True),
        ("SUB", (1e-9, 0.01, 0.01), 20, False),  # small and there
        ("SQUARED_DIFFERENCE", (0.02, 0.01, 1e-9), 20, False),  # only the ratio of its inputs is checked
        ("SQUARED_DIFFERENCE", (0.02, 0.0, 0.01), 20, True),
        ("GREATER", (0.0, 0.0, 1.0), 20, True),
    ],
)
def test_scales_that_end_litert(kind: str, scales: tuple[float, ...], bits: int, refused: bool) -> None:
    assert (_impossible(kind, scales, bits) is not None) == refused


@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8", "int16x8"])
def test_ordinary_files_are_let_through(tiny_xception: Any, tiny_images: Any, scheme: Scheme) -> None:
    refuse_operators(convert_tflite(tiny_xception, scheme, calibration=tiny_images), None)


def test_the_operator_is_named(tiny_xception: Any, tiny_images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if kernels shifted less: then they would refuse an ordinary file."""
    data = convert_tflite(tiny_xception, "int8", calibration=tiny_images)
    monkeypatch.setattr(native_ends, "INTEGERS", {9: 0})
    with pytest.raises(UnsupportedError, match=r"LiteRT can't load the file: .* at ADD '.*join") as caught:
        refuse_operators(data, "tflite/int8")
    assert caught.value.where == "tflite/int8"
    assert "keep_float" in str(caught.value.hint)
