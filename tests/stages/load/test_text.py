"""Check that text layers stay outside of the model, with their vocabularies, and the rest computes the same."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
WORDS = ["red", "green", "blue"]


@pytest.mark.parametrize("kind", ["keras2", "keras3"])
@pytest.mark.parametrize("form", ["functional", "sequential"])
def test_text_stays_outside_with_its_vocabulary(request, kind, form, tmp_path):
    keras = request.getfixturevalue(kind)
    layers = keras.layers
    text = layers.TextVectorization(output_sequence_length=4, vocabulary=WORDS, name="words")
    stack = [text, layers.Embedding(8, 3), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    inputs = keras.Input((1,), dtype="string", name="text")
    x = inputs
    for layer in stack:
        x = layer(x)
    model = keras.Model(inputs, x) if form == "functional" else keras.Sequential([inputs, *stack])
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    given = import_tensorflow().constant([["blue red"], ["nothing green green"]])
    assert loaded.model.input_shape == (None, 4)
    assert np.allclose(loaded.model(np.asarray(text(given))), np.asarray(model(given)), atol=1e-6)
    assert (loaded.preprocessing[0]["layer"], loaded.preprocessing[0]["class"]) == ("words", "TextVectorization")
    assert loaded.preprocessing[0]["settings"]["vocabulary"][2:] == WORDS
    assert "words (TextVectorization): it reads text, and stays outside the model" in loaded.notes[0]


def test_one_of_two_inputs_may_be_text(keras3, tmp_path):
    layers = keras3.layers
    word, number = keras3.Input((), dtype="string"), keras3.Input((3,))
    lookup = layers.StringLookup(vocabulary=WORDS, name="lookup")
    x = layers.Concatenate()([layers.Embedding(4, 3)(lookup(word)), number])
    keras3.Model([word, number], layers.Dense(2)(x)).save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert [tuple(tensor.shape) for tensor in loaded.model.inputs] == [(None,), (None, 3)]
    assert [one["class"] for one in loaded.preprocessing] == ["StringLookup"]
    assert isinstance(loaded.model, import_keras().Model)
