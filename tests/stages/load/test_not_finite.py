import numpy as np
import pytest

from pipeline.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def test_a_layer_whose_outputs_overflow_is_named(loaded, keras2, tmp_path):
    layers = keras2.layers
    inputs = keras2.Input((64,), name="x")
    boom = layers.Dense(8, name="boom", kernel_initializer=keras2.initializers.Constant(3e38))
    keras2.Model(inputs, layers.Dense(2, name="y")(boom(inputs))).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="layer 'boom' gives NaN or infinity on random inputs") as caught:
        loaded("m.keras")
    assert caught.value.where.endswith("m.keras")


@pytest.mark.parametrize("kind", ["keras2", "keras3"])
def test_weights_that_are_no_numbers_are_named(request, kind, residual, loaded, tmp_path):
    model = residual(request.getfixturevalue(kind))
    layer = next(layer for layer in model.layers if layer.weights)
    layer.set_weights([np.full_like(weight, np.nan) for weight in layer.get_weights()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=f"layer '{layer.name}' holds NaN or infinity in its weight") as caught:
        loaded("m.keras")
    assert caught.value.where.endswith("m.keras")
    assert "diverged" in caught.value.hint
