"""Check that what would crash third-party software is refused by its description: no test here runs such a case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UnsupportedError
from pipeline.records.schemes import SETTINGS, Scheme, quantization_of
from stages.formats.tflite import native_ends
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.native_ends import _impossible, refuse_layers, refuse_operators
from stages.formats.tflite.session import load_tflite
from stages.keras.normal_form import MODEL_FILE, encode_model
from stages.keras.tensorflow import import_keras


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Store a model with layer normalization, alone, in a nested model, or in a wrapper; or without any."""
    keras = import_keras()
    layers = keras.layers

    def store(where: str) -> Path:
        norm = layers.LayerNormalization(name="norm")
        inner = {
            "alone": lambda: norm,
            "nested": lambda: keras.Sequential([layers.Input((3, 4)), layers.Dense(4), norm], name="inner"),
            "wrapped": lambda: layers.TimeDistributed(
                keras.Sequential([layers.Input((4,)), norm], name="within"), name="wrapper"
            ),
            "absent": lambda: layers.Dense(4),
        }[where]()
        x = keras.Input((3, 4), name="x")
        path = tmp_path_factory.mktemp(where) / MODEL_FILE
        path.write_bytes(encode_model(keras.Model(x, layers.Dense(2, name="head")(inner(x)))))
        return path

    return store


@pytest.mark.parametrize(
    ("where", "name"), [("alone", "norm"), ("nested", "inner/norm"), ("wrapped", "wrapper/within/norm")]
)
def test_a_layer_known_to_end_litert_is_refused_with_its_name_and_the_way_round(
    stored: Callable[[str], Path], where: str, name: str
) -> None:
    with pytest.raises(
        UnsupportedError, match=rf"LayerNormalization can't be made in int16x8 \({name}\): .*LiteRT 2.3"
    ) as e:
        refuse_layers(stored(where), quantization_of("int16x8"), "tflite/int16x8")
    assert e.value.where == "tflite/int16x8"
    assert e.value.hint == "take int8, weight_only or float16"


def test_only_what_is_known_to_end_something_is_refused(stored: Callable[[str], Path]) -> None:
    def refused(where: str, scheme: Scheme) -> bool:
        try:
            refuse_layers(stored(where), quantization_of(scheme), None)
        except UnsupportedError:
            return True
        return False

    assert [scheme for scheme in SETTINGS if refused("alone", scheme)] == ["int16x8"]
    assert not [scheme for scheme in SETTINGS if refused("absent", scheme)]


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
def test_files_that_litert_loads_and_runs_are_let_through(tiny_xception: Any, tiny_images: Any, scheme: Scheme) -> None:
    """In integers their sums are checked, and the scales of each are within what kernels take."""
    data = convert_tflite(tiny_xception, scheme, calibration=tiny_images)
    sums = [(kind, scales, bits) for kind, _, scales, bits in native_ends._quantized_pairs(data)]
    assert [kind for kind, _, _ in sums] == (["ADD"] if scheme in ("int8", "int16x8") else [])
    assert [_impossible(*one) for one in sums] == [None] * len(sums)
    refuse_operators(tiny_xception, data, None)
    (output,) = load_tflite(data).run({"image": tiny_images[:2]}).values()
    assert np.isfinite(output).all()


def test_the_layer_is_named(tiny_xception: Any, tiny_images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if kernels shifted less: then they would refuse an ordinary file."""
    data = convert_tflite(tiny_xception, "int8", calibration=tiny_images)
    monkeypatch.setattr(native_ends, "INTEGERS", {9: 0})
    with pytest.raises(
        UnsupportedError, match=r"LiteRT can't load the file: .* at ADD of layers 'join' and 'join_relu'$"
    ) as caught:
        refuse_operators(tiny_xception, data, "tflite/int8")
    assert caught.value.where == "tflite/int8"
    assert "keep_float" in str(caught.value.hint)
