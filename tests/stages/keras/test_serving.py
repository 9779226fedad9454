import numpy as np
import pytest

from pipeline.errors import ModelError, PreconditionError
from stages.keras import serving
from stages.keras.serving import input_specs, require_fixed, require_size, serving_function, weight_bytes
from stages.keras.tensorflow import import_keras, import_tensorflow


@pytest.fixture
def model():
    """Take an image of free height and a vector, and give two outputs by name."""
    keras = import_keras()
    image, vector = keras.Input((None, 4, 2), name="image"), keras.Input((3,), name="vector")
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(image)
    return keras.Model([image, vector], [pooled, keras.layers.Dense(2, name="dense")(vector)])


def test_the_function_takes_inputs_in_order_and_gives_outputs_by_name(model):
    tf = import_tensorflow()
    specs = input_specs(tf, model, batch=1, shapes={"image": (5, 4, 2)})
    assert [(spec.name, spec.shape.as_list()) for spec in specs] == [("image", [1, 5, 4, 2]), ("vector", [1, 3])]
    x = [np.ones((1, 5, 4, 2), np.float32), np.ones((1, 3), np.float32)]
    found = serving_function(tf, model, specs)(*map(tf.constant, x))
    assert {name: tensor.numpy().tolist() for name, tensor in found.items()} == {
        name: tensor.numpy().tolist() for name, tensor in zip(("pooled", "dense"), model(x), strict=True)
    }


def test_free_sizes_are_asked_for_with_those_that_stand_in(model):
    tf = import_tensorflow()
    with pytest.raises(PreconditionError, match=r"input 'image' is \?×4×2") as caught:
        require_fixed(input_specs(tf, model, batch=1), {"image": (96, 4, 2), "vector": (3,)})
    assert "shapes: {image: [96, 4, 2]}" in caught.value.hint
    require_fixed(input_specs(tf, model, batch=1, shapes={"image": (5, 4, 2)}), {})


def test_weights_beyond_what_a_file_holds_are_refused(model, monkeypatch):
    assert weight_bytes(model) == (3 * 2 + 2) * 4
    monkeypatch.setattr(serving, "MOST_BYTES", 32)
    require_size(model, "a TFLite file")
    monkeypatch.setattr(serving, "MOST_BYTES", 31)
    with pytest.raises(ModelError, match="a TFLite file takes less than"):
        require_size(model, "a TFLite file")
