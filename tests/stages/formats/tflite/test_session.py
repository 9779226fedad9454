"""Run TFLite files in their runtime: by name, in float32, any number of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import load_tflite


@pytest.fixture(scope="module")
def int8_file(tiny_xception: Any, tiny_images: Any) -> bytes:
    return convert_tflite(tiny_xception, "int8", "int8", tiny_images)


def test_int8_files_take_and_give_real_numbers(int8_file: bytes, tiny_xception: Any, tiny_images: Any) -> None:
    model = load_tflite(int8_file)
    assert [spec.dtype for spec in (*model.inputs, *model.outputs)] == ["int8", "int8"]
    outputs = model.run({"image": tiny_images[:9]})["head"]
    expected = np.asarray(tiny_xception(tiny_images[:9], training=False))
    assert outputs.shape == (9, 4)
    assert outputs.dtype == np.float32
    # A softmax in 8 bits comes in steps of 1/256.
    np.testing.assert_allclose(outputs * 256, np.rint(outputs * 256), atol=1e-4)
    assert np.abs(outputs - expected).max() < 0.1


def test_int8_inputs_beyond_the_range_are_clipped_not_wrapped(int8_file: bytes, tiny_images: Any) -> None:
    model = load_tflite(int8_file)
    high = np.full_like(tiny_images[:1], tiny_images.max())
    np.testing.assert_array_equal(model.run({"image": high})["head"], model.run({"image": high * 100})["head"])


def test_outputs_are_not_overwritten_by_the_next_run(int8_file: bytes, tiny_images: Any) -> None:
    model = load_tflite(int8_file)
    first = model.run({"image": tiny_images[:1]})["head"]
    before = first.copy()
    second = model.run({"image": -tiny_images[:1]})["head"]
    np.testing.assert_array_equal(first, before)
    assert not np.array_equal(first, second)


def without_signature(data: bytes) -> bytes:
    """Return the file as older converters write it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    assert model.signatureDefs
    model.signatureDefs = None
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_files_without_a_signature_compute_the_same_by_their_tensors_names(int8_file: bytes, tiny_images: Any) -> None:
    signed, bare = load_tflite(int8_file), load_tflite(without_signature(int8_file))
    (entry,), (result,) = bare.inputs, bare.outputs
    assert (entry.dtype, entry.shape) == ("int8", signed.inputs[0].shape)
    expected = signed.run({"image": tiny_images[:5]})["head"]
    np.testing.assert_array_equal(bare.run({entry.name: tiny_images[:5]})[result.name], expected)
