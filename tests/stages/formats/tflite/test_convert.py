from __future__ import annotations

from stages.formats.tflite.convert import convert_tflite, tflite_facts
from stages.formats.tflite.schemes import leaves_small_kernels
from stages.keras.tensorflow import import_keras


def test_a_network_of_large_kernels_stays_with_the_converter() -> None:
    keras = import_keras()
    start = keras.Input((64,), name="v")
    model = keras.Model(start, keras.layers.Dense(4)(keras.layers.Dense(64, name="large")(start)))
    data = convert_tflite(model, "dynamic")
    assert not leaves_small_kernels(data)
    assert tflite_facts(data, "dynamic", (), ()).weights == {"float32": 256, "int8": 4096}
