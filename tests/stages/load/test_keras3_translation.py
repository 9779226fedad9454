import pytest

from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def test_layers_that_do_nothing_at_inference_are_left_out_with_a_note(keras3, tmp_path):
    layers = keras3.layers
    stack = [keras3.Input((8, 8, 3)), layers.RandomHue(0.3, name="hue"), layers.RandomErasing(name="gone")]
    keras3.Sequential([*stack, layers.Conv2D(2, 3)]).save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert [type(layer).__name__ for layer in loaded.model.layers[1:]] == ["Activation", "Activation", "Conv2D"]
    assert "hue (RandomHue), gone (RandomErasing): does nothing at inference, and `finetune` goes" in loaded.notes[0]
