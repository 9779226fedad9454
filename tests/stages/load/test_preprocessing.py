import numpy as np
import pytest

from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture
def front(either_keras, tmp_path):
    """Save a model with a front of three preprocessing layers, functional or not; return the file."""

    def save(sequential):
        layers = either_keras.layers
        chain = [
            layers.Resizing(6, 6, name="resize"),
            layers.Rescaling(1 / 255.0, name="scale"),
            layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3], name="norm"),
            layers.Conv2D(3, 3, name="conv"),
            layers.Rescaling(2.0, name="inner"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
        inputs = either_keras.Input((8, 8, 3), name="image")
        x = inputs
        if sequential:
            model = either_keras.Sequential([inputs, *chain])
        else:
            for layer in chain:
                x = layer(x)
            model = either_keras.Model(inputs, x)
        model.save(tmp_path / "m.keras")
        return tmp_path / "m.keras"

    return save


@pytest.mark.parametrize("sequential", [False, True])
def test_a_front_is_split_off_and_written_down(front, sequential):
    path = front(sequential)
    loaded = load_model(path, preprocess="extract")
    assert [entry["class"] for entry in loaded.preprocessing] == ["Resizing", "Rescaling", "Normalization"]
    assert loaded.preprocessing[2]["settings"]["mean"] == pytest.approx([0.4, 0.5, 0.6])
    assert loaded.preprocessing[1]["settings"]["scale"] == pytest.approx(1 / 255)
    assert "resize (Resizing), scale (Rescaling), norm (Normalization) was split off" in loaded.notes[-1]
    assert [x.name for x in loaded.model.layers if "input" not in x.name and x.name != "image"][:2] == ["conv", "inner"]
    assert loaded.model.input_shape == (None, 6, 6, 3)
    x = np.random.default_rng(0).uniform(0, 255, (2, 6, 6, 3)).astype("float32")
    by_hand = (x / 255 - [0.4, 0.5, 0.6]) / np.sqrt([0.1, 0.2, 0.3])
    features = np.asarray(loaded.model(by_hand.astype("float32")))
    kept = load_model(path).model
    assert kept.input_shape == (None, 8, 8, 3)
    tail = kept.get_layer("head")(
        kept.layers[-2](kept.get_layer("inner")(kept.get_layer("conv")(by_hand.astype("float32"))))
    )
    assert np.allclose(features, tail, atol=1e-5)


def test_a_model_without_a_front_stays_as_it_is(keras2, tmp_path):
    layers, inputs = keras2.layers, keras2.Input((8, 8, 3))
    scaled = layers.Rescaling(0.1)(inputs)
    both = layers.Add()([scaled, inputs])  # the input is read twice: nothing can be split off
    keras2.Model(inputs, layers.Flatten()(both)).save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras", preprocess="extract")
    assert loaded.preprocessing == ()
    assert loaded.model.input_shape == (None, 8, 8, 3)


def test_an_application_gives_its_front_away():
    spec = {"application": "EfficientNetB0", "weights": None, "input_shape": [32, 32, 3], "preprocess": "extract"}
    loaded = load_model(spec)
    assert [entry["class"] for entry in loaded.preprocessing] == ["Rescaling", "Normalization"]
    assert all(type(layer).__name__ != "Normalization" for layer in loaded.model.layers)
