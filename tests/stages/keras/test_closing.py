import numpy as np
import pytest

from stages.keras.closing import before_squashing
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize("closing", ["softmax", "sigmoid", "layer"])
def test_outputs_are_those_before_a_closing_activation_which_is_back_afterwards(closing):
    keras = import_keras()
    vector = keras.Input((3,))
    head = keras.layers.Dense(4, activation=None if closing == "layer" else closing)
    outputs = head(vector)
    model = keras.Model(vector, keras.layers.Softmax()(outputs) if closing == "layer" else outputs)
    samples = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    squashed = model(samples).numpy()
    with before_squashing(model) as unsquashed:
        np.testing.assert_allclose(unsquashed(samples), samples @ head.kernel + head.bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(samples), squashed)
    assert squashed.max() < 1


def test_activations_are_restored_after_an_error():
    keras = import_keras()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match="linear"), before_squashing(model):
        raise ValueError(model.layers[-1].activation.__name__)
    assert model.layers[-1].activation.__name__ == "softmax"
