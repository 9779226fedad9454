"""Check that the size chosen for open ones is one at which the network runs, the same in every stage."""

import pytest

from pipeline.errors import ModelError
from stages.keras.flatten import flattened
from stages.keras.free_sizes import SIZES, Wanted, filled, settle, shapes_of
from stages.keras.normal_form import copy_model, decode_model, encode_model, keras_facts, random_inputs
from stages.keras.stripping.layers import strip_model as stripped
from stages.keras.tensorflow import import_keras
from stages.prune import PruneConfig, prune_model


def halving(times):
    """Build halvings and doublings, joined with the input: it runs only at multiples of 2 ** times."""
    layers = import_keras().layers
    x = inputs = import_keras().Input((None, None, 1))
    for _ in range(times):
        x = layers.Conv2D(2, 3, 2, padding="same")(x)
    for _ in range(times):
        x = layers.Conv2DTranspose(2, 2, 2)(x)
    return import_keras().Model(inputs, layers.Conv2D(1, 1)(layers.Concatenate()([x, inputs])))


@pytest.mark.parametrize(("times", "size"), [(2, 96), (6, 128), (7, 128)])
def test_the_first_size_that_runs_stands_for_open_ones_everywhere(times, size):
    model = halving(times)
    assert shapes_of(model) == shapes_of(copy_model(model)) == {model.input_names[0]: (size, size, 1)}
    assert random_inputs(model)[0].shape == (4, size, size, 1)
    assert random_inputs(model, shapes={model.input_names[0]: (256, 128, 1)})[0].shape == (4, 256, 128, 1)
    facts = keras_facts(model)
    assert facts.macs > size * size


def test_unpadded_layers_may_need_more():
    layers, inputs = import_keras().layers, import_keras().Input((None, None, 1))
    x = layers.MaxPooling2D(4)(layers.MaxPooling2D(4)(inputs))
    model = import_keras().Model(inputs, layers.Conv2D(1, 7)(x))
    assert shapes_of(model) == {model.input_names[0]: (128, 128, 1)}  # 112 at least


def test_fixed_sizes_are_what_they_are_and_none_at_all_is_an_error():
    keras = import_keras()
    layers, inputs = keras.layers, keras.Input((None, 5))
    assert filled((None, 5), 96) == (96, 5)
    never = keras.Model(inputs, layers.Dense(2)(layers.Reshape((7 * 11 * 13 * 17, 5))(inputs)))
    with pytest.raises(ModelError, match=r"leaves sizes of its inputs open, and runs at none of 8, 16, .* 640"):
        shapes_of(never)
    assert len(set(SIZES)) == len(SIZES)


NAMED = "image"


@pytest.fixture
def open_image():
    """Build convolutions that halve twice and double twice: it runs only at multiples of 4."""
    keras = import_keras()
    x = image = keras.Input((None, None, 3), name=NAMED)
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(keras.layers.Conv2D(4, 3, 2, padding="same")(x))
    x = keras.layers.UpSampling2D(4)(x)
    return keras.Model(image, keras.layers.Concatenate()([x, image]))


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        (Wanted(sizes=8), (8, 8, 3)),
        (Wanted(sizes=(8, 12)), (8, 12, 3)),
        (Wanted(sizes={NAMED: (8, 12)}), (8, 12, 3)),
        (Wanted(sizes={NAMED: 8}), (8, 8, 3)),
        (Wanted(samples=({"": (20, 12, 3)}, {"": (40, 40, 3)})), (20, 12, 3)),
        (Wanted(samples=({NAMED: (20, 12, 3)},)), (20, 12, 3)),
        (Wanted(sizes=40, samples=({"": (20, 12, 3)}, {"": (40, 40, 3)})), (40, 40, 3)),
        (Wanted(samples=({"": (20, 12, 4)},)), (96, 96, 3)),  # the model takes no such samples: reported elsewhere
        (Wanted(samples=({"": (12,)},)), (96, 96, 3)),
        (Wanted(samples=({"other": (20, 12, 3)},)), (96, 96, 3)),
        (Wanted(), (96, 96, 3)),
    ],
)
def test_what_is_said_goes_before_the_data_and_the_data_before_the_list(open_image, wanted, shape):
    settle(open_image, wanted)
    assert shapes_of(open_image) == {NAMED: shape}
    assert keras_facts(open_image).macs_size == {NAMED: shape}
    assert random_inputs(open_image, samples=2)[0].shape == (2, *shape)


@pytest.mark.parametrize(
    ("wanted", "where", "what", "hint"),
    [
        (Wanted(sizes=10), "model.sizes", "can't run at image 10×10×3: in layer 'concatenate", "image 96×96×3"),
        (Wanted(sizes=(8, 8, 3)), "model.sizes", "gives 3 sizes, and input image ?×?×3 leaves 2 open", "one number"),
        (Wanted(sizes={"imag": 8}), "model.sizes", "names 'imag', no input", "image"),
        (Wanted(sizes={NAMED: 8, "no": 8}), "model.sizes", "names 'no', no input", "image"),
        (Wanted(sizes=8, setting="--sizes", samples=({"": (16, 8, 3)},)), "--sizes", "data are image 16×8×3", "out"),
        (Wanted(samples=({"": (10, 8, 3)},)), "data", "can't run at image 10×8×3", "bring the data"),
    ],
)
def test_a_wrong_size_says_what_where_and_what_to_do(open_image, wanted, where, what, hint):
    with pytest.raises(ModelError) as caught:
        settle(open_image, wanted)
    assert what in caught.value.what
    assert caught.value.where == where
    assert hint in str(caught.value.hint)


def test_a_model_without_open_sizes_takes_none():
    keras = import_keras()
    fixed = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    settle(fixed, Wanted(samples=({"": (9, 9, 3)},)))
    assert shapes_of(fixed) == {}
    assert keras_facts(fixed).macs_size is None
    with pytest.raises(ModelError, match="no input of the model leaves a size open"):
        settle(fixed, Wanted(sizes=8))


def test_several_inputs_have_sizes_of_their_own():
    keras = import_keras()
    image, words, fixed = keras.Input((None, None, 1), name="i"), keras.Input((None, 2), name="w"), keras.Input((4,))
    pooled = [keras.layers.GlobalAveragePooling2D()(image), keras.layers.GlobalAveragePooling1D()(words), fixed]
    model = keras.Model([image, words, fixed], keras.layers.Concatenate()(pooled))
    settle(model, Wanted(sizes={"i": (8, 6), "w": 5}))
    assert [array.shape for array in random_inputs(model, samples=2)] == [(2, 8, 6, 1), (2, 5, 2), (2, 4)]
    settle(model, Wanted(samples=({"i": (7, 6, 1), "w": (3, 2), fixed.name: (4,)},)))
    assert shapes_of(model) == {"i": (7, 6, 1), "w": (3, 2)}
    with pytest.raises(ModelError, match=r"gives 2 sizes, and input w \?×2 leaves 1 open"):
        settle(model, Wanted(sizes=(8, 6)))
    with pytest.raises(ModelError, match=r"says nothing of input w \?×2"):
        settle(model, Wanted(sizes={"i": 8}))


def test_sizes_travel_in_the_file_and_to_whatever_is_made_of_a_model(open_image, tmp_path):
    before = encode_model(open_image)
    settle(open_image, Wanted(sizes=(8, 12)))
    stored = encode_model(open_image)
    assert encode_model(open_image) == stored != before
    (tmp_path / "stored").write_bytes(stored)
    read = decode_model(tmp_path / "stored")
    keras = import_keras()
    nested = keras.Model(again := keras.Input((None, None, 3)), keras.layers.ReLU()(open_image(again)))
    settle(nested, Wanted(sizes=(8, 12)))
    pruned = prune_model(open_image, PruneConfig(ratio=0.3)).model
    for model in (read, copy_model(open_image), flattened(nested), stripped(read).model, pruned):
        assert list(shapes_of(model).values()) == [(8, 12, 3)]
