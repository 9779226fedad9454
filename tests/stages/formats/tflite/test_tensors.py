from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import load_tflite
from stages.formats.tflite.tensors import (
    count_operators,
    operator_kinds,
    tflite_constants,
    tflite_reads,
    tflite_tensors,
)
from stages.keras.tensorflow import import_keras


@pytest.fixture(scope="module")
def files(tiny_xception: Any, tiny_images: Any) -> dict[str, bytes]:
    return {
        "float32": convert_tflite(tiny_xception, "float32"),
        "int8": convert_tflite(tiny_xception, "int8", "float32", tiny_images),
    }


def test_operators_are_counted_and_read_those_that_made_their_inputs(files: dict[str, bytes]) -> None:
    (kinds,) = operator_kinds(files["float32"])
    assert count_operators(files["float32"]) == {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    reads = tflite_reads(files["float32"])
    places = {kind: place for place, kind in enumerate(kinds)}
    assert len(reads) == len(kinds)
    assert reads[places["ADD"]] == {0, places["ADD"] - 1}  # the stem, and what came out of the separable layer
    assert reads[places["SOFTMAX"]] == {places["FULLY_CONNECTED"]}


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_every_operator_s_output_is_shown_in_real_numbers(
    files: dict[str, bytes], tiny_images: Any, scheme: str
) -> None:
    shown = list(tflite_tensors(files[scheme], {"image": tiny_images[:1]}))
    places = [tensor.operator for tensor in shown]
    assert set(places) >= set(range(len(operator_kinds(files[scheme])[0]) - (scheme == "int8")))
    outputs = load_tflite(files[scheme]).run({"image": tiny_images[:1]})["head"]
    assert any(t.values.shape == outputs.shape and np.allclose(t.values, outputs, atol=0.02) for t in shown)
    held = [tensor for tensor in shown if tensor.ends is not None]
    assert bool(held) == (scheme == "int8")
    for tensor in held:
        assert tensor.ends is not None
        assert tensor.ends[0] - 1e-5 <= tensor.values.min() <= tensor.values.max() <= tensor.ends[1] + 1e-5


def test_kernels_of_integers_come_with_their_channels_first(files: dict[str, bytes]) -> None:
    assert not list(tflite_constants(files["float32"]))
    shapes = sorted(values.shape[0] for _, values in tflite_constants(files["int8"]))
    assert shapes == [4, 40, 40, 40]  # head, stem, and both kernels of the separable layer
    assert all(values.dtype == np.int8 for _, values in tflite_constants(files["int8"]))


def test_a_convolution_of_one_filter_is_not_taken_for_a_depthwise_one() -> None:
    keras = import_keras()
    image = keras.Input((8, 8, 5))
    model = keras.Model(image, keras.layers.Conv2D(1, 3)(image))
    samples = np.random.default_rng(0).standard_normal((4, 8, 8, 5)).astype(np.float32)
    data = convert_tflite(model, "int8", "float32", samples)
    assert [values.shape for _, values in tflite_constants(data)] == [(1, 3, 3, 5)]


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_depthwise_kernels_behind_a_dequantization_have_their_channels_first_too(granularity: Any) -> None:
    keras = import_keras()
    image = keras.Input((16, 16, 40))
    model = keras.Model(image, keras.layers.DepthwiseConv2D(7)(image))
    data = convert_tflite(model, Quantization(scheme="weight_only", granularity=granularity))
    assert [values.shape for _, values in tflite_constants(data)] == [(40, 1, 7, 7)]
