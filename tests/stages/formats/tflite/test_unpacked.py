import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import Quantizer, qtyping

from pipeline.errors import ModelError
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.unpacked import unpacked


def test_weights_behind_the_flatbuffer_are_put_inside(keras):
    vector = keras.Input((600,))
    model = keras.Model(vector, keras.layers.Dense(600)(vector))
    quantizer = Quantizer(bytearray(convert_tflite(model, "float32")))
    quantizer.add_weight_only_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=8)
    with redirect_stdout(io.StringIO()):
        data = bytes(quantizer.quantize().quantized_model)
    assert len(largest(schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0)))) < 600 * 600
    codes = np.frombuffer(largest(unpacked(data, "model.tflite")), np.int8).reshape(600, 600)
    kernel = model.layers[-1].kernel.numpy().T
    steps = np.abs(kernel).max(axis=1, keepdims=True) / 127
    assert np.abs(codes * steps - kernel).max() <= 0.51 * steps.max()


def largest(model):
    return bytes(max((buffer.data for buffer in model.buffers if buffer.data is not None), key=len))


def test_what_is_no_file_is_told_with_its_name():
    with pytest.raises(ModelError, match="no whole TFLite file") as told:
        unpacked(b"\x08\x00\x00\x00TFL3" + b"\xff" * 8, "broken.tflite")
    assert told.value.where == "broken.tflite"
