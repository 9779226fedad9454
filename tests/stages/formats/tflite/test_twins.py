"""Take operators out of int8 files, and compare what they compute alone with what they compute in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipeline.errors import ModelError
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.tensors import keeping_tensors
from stages.formats.tflite.twins import twins


@pytest.fixture(scope="module")
def file(tiny_xception: Any, tiny_images: Any) -> bytes:
    return convert_tflite(tiny_xception, "int8", calibration=tiny_images)


def alone(data: bytes, inputs: list[Any]) -> Any:
    """Return the output of a file of one operator, by LiteRT's own kernels."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def real(values: Any, detail: Any) -> Any:
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)


def test_twins_compute_what_the_operators_do(file: bytes, tiny_images: Any) -> None:
    whole = keeping_tensors(file)
    whole.get_signature_runner()(image=tiny_images[:1])
    by_name = {detail["name"]: detail for detail in whole.get_tensor_details()}
    compared = []
    for twin in twins(file, "test"):
        reader = Interpreter(model_content=twin.integer)
        read = [by_name[detail["name"]] for detail in reader.get_input_details()]
        inputs, made = [whole.get_tensor(detail["index"]) for detail in read], by_name[twin.name]
        wanted = whole.get_tensor(made["index"])
        assert np.array_equal(alone(twin.integer, inputs), wanted), twin.name
        found = alone(twin.real, [real(*pair) for pair in zip(inputs, read, strict=True)])
        assert found.dtype == np.float32
        # Kernels have a scale per channel and their twins one for all: only their costs are compared.
        if twin.kind in ("ADD", "MEAN", "MAX_POOL_2D", "SOFTMAX"):
            scale, zero_point = made["quantization"]
            ends = (np.array([-128, 127]) - zero_point) * scale
            assert np.abs(np.clip(found, *ends) - real(wanted, made)).max() <= 1.01 * scale, twin.name
        compared.append(twin.kind)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX"} <= set(compared)


def test_twins_know_how_many_channels_are_read(file: bytes) -> None:
    assert next(twin.channels for twin in twins(file, "test") if twin.kind == "CONV_2D") == 4  # two pixels of two


def test_float_files_have_none_and_damaged_ones_are_refused(tiny_xception: Any, file: bytes) -> None:
    assert not list(twins(convert_tflite(tiny_xception, "float32"), "test"))
    with pytest.raises(ModelError, match="no whole TFLite file"):
        list(twins(file[:300], "test"))
