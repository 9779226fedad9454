import importlib
import sys

import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.keras.normal_form import decode_model
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
LAYERS = """
import tf_keras

class Scale(tf_keras.layers.Layer):
    def __init__(self, factor=2.0, **more):
        super().__init__(**more)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
"""


@pytest.fixture
def custom(keras2, tmp_path, monkeypatch):
    """Make a module with a layer next to the recipe, and a model with it, as saved by an earlier process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "scaling.py").write_text(LAYERS)
    sys.path.append(str(tmp_path))
    module = importlib.import_module("scaling")
    inputs = keras2.Input((3,))
    model = keras2.Model(inputs, keras2.layers.Dense(2)(module.Scale(3.0, name="own")(inputs)))
    model.save(tmp_path / "m.keras")
    sys.path.pop()
    del sys.modules["scaling"]
    yield model
    sys.modules.pop("scaling", None)


def test_custom_layers_go_through_all_stages(custom, loaded, tmp_path):
    with pytest.raises(ModelError, match="'own' names the class Scale of scaling") as caught:
        loaded("m.keras")
    assert caught.value.where == str(tmp_path / "m.keras")
    entries, files = loaded("{path: m.keras, custom_objects: ['scaling:Scale']}")
    x = np.ones((2, 3), "float32")
    assert np.allclose(decode_model(files["model.keras"])(x), custom(x))
    first = entries[-1].outputs[0].digest

    # Another source is another model, with equal configuration and weights; this process has the old one, and reports
    # it.
    (tmp_path / "scaling.py").write_text(LAYERS.replace("x * self.factor", "x + self.factor"))
    with pytest.raises(ModelError, match="changed after it was imported"):
        loaded("{path: m.keras, custom_objects: ['scaling:Scale']}")
    del sys.modules["scaling"]
    entries, files = loaded("{path: m.keras, custom_objects: ['scaling:Scale']}")
    assert entries[0].reason == "failed last time: the source of scaling changed after it was imported"
    assert not np.allclose(decode_model(files["model.keras"])(x), custom(x))
    assert entries[-1].outputs[0].digest != first


def test_a_custom_object_that_is_not_there(custom, loaded):
    with pytest.raises(ModelError, match="can't be imported") as caught:
        loaded("{path: m.keras, custom_objects: ['scaling:Scale', 'scaling:Other']}")
    assert caught.value.where == "scaling:Other"
    with pytest.raises(RecipeError, match="there is no module scalling"):
        loaded("{path: m.keras, custom_objects: ['scalling:Scale']}")


LAYERS_3 = LAYERS.replace("tf_keras", "keras").replace(
    "class Scale", "@keras.saving.register_keras_serializable()\nclass Scale"
)


def test_a_layer_of_keras_3_stays_a_layer_with_its_twin_for_tf_keras(keras3, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "twins_of_two.py").write_text(LAYERS)
    (tmp_path / "twins_of_three.py").write_text(LAYERS_3)
    inputs = keras3.Input((3,))
    own = importlib.import_module("twins_of_three").Scale(3.0, name="own")
    model = keras3.Model(inputs, keras3.layers.Dense(2)(own(inputs)))
    model.save(tmp_path / "m.keras")
    alone = load_model(tmp_path / "m.keras", custom_objects=("twins_of_three:Scale",))
    assert "own (Scale): tf_keras has no such layer: it is taken over as what it computes" in alone.notes[0]
    found = load_model(tmp_path / "m.keras", custom_objects=("twins_of_three:Scale", "twins_of_two:Scale"))
    assert type(found.model.get_layer("own")).__name__ == "Scale"
    x = np.ones((2, 3), "float32")
    for loaded in (alone, found):
        assert np.allclose(loaded.model(x), model(x), atol=1e-6)
