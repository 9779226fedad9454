"""Outputs that are inputs, in the runtime that mistakes them."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("between", ["nothing", "layer", "slice"])
def test_an_input_that_is_passed_on_is_given_out_anew_at_each_call(dtype, between):
    keras = import_keras()
    values, lengths = keras.Input((4,), name="values"), keras.Input((1,), dtype=dtype, name="lengths")
    layer = keras.layers.Activation("linear", dtype=dtype)
    kept = {"nothing": lengths, "layer": layer(lengths), "slice": lengths[:, :1]}[between]
    model = keras.Model([values, lengths], [keras.layers.Dense(2, name="out")(values), kept])
    interpreter = Interpreter(model_content=convert_tflite(model, "float32"))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    passed = next(name for name in runner.get_output_details() if name != "out")
    for number in (3, 5, 7):
        given = np.full((1, 1), number, dtype)
        found = runner(values=np.ones((1, 4), np.float32), lengths=given)
        np.testing.assert_array_equal(found[passed], given)
