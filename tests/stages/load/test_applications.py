import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.load import load_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),  # Keras 3, saving
]
CLOSE = 1e-5
SMALL = {"application": "MobileNetV2", "include_top": False, "input_shape": [32, 32, 3], "head": {"classes": 5}}


def test_an_application_is_built_with_its_head():
    loaded = load_model(SMALL | {"weights": None})
    assert loaded.model.output_shape == (None, 5)
    assert loaded.model.layers[-1].name == "head"


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_an_application_takes_weights_of_either_keras(either_keras, keras3, tmp_path, suffix):
    base = either_keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3))
    save = base.save if either_keras is keras3 and suffix == ".h5" else base.save_weights
    save(tmp_path / f"w{suffix}")
    loaded = load_model(SMALL | {"weights": str(tmp_path / f"w{suffix}")})
    kernel = loaded.model.get_layer("Conv_1").kernel.numpy()
    assert np.array_equal(kernel, np.asarray(base.get_layer("Conv_1").kernel))
    assert loaded.translation_difference <= CLOSE


def test_an_application_refuses_weights_that_do_not_fit(keras2, residual, tmp_path):
    residual(keras2).save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ModelError, match="the weights don't fit"):
        load_model(SMALL | {"weights": str(tmp_path / "w.weights.h5")})


def test_an_application_that_does_not_exist_has_a_nearest_name():
    with pytest.raises(RecipeError) as caught:
        load_model({"application": "MobilNetV2", "weights": None})
    assert "MobileNetV2" in caught.value.hint
