import numpy as np

from stages.keras.equalizing.equalize import equalized
from stages.keras.normal_form import decode_model, encode_model
from stages.quantize.equalized import equalized_model

X = np.random.default_rng(0).standard_normal((16, 8, 8, 3)).astype(np.float32)


def relu_before_normalization(keras, nested=False):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.Flatten()(x)))
    model.get_layer("bn").set_weights([np.array([1.0, 3, -2, 5]), *np.ones((2, 4)), np.full(4, 0.5)])
    if not nested:
        return model
    outside = keras.Input((8, 8, 3))
    return keras.Model(outside, keras.layers.Dense(2, name="end")(model(outside)))


def stored(make_context, model, kept=()):
    context = make_context(None)
    context.inputs = {"model": context.write_model(model)}
    return equalized_model(context, [X], kept), context


def test_the_equal_model_is_stored_with_what_was_done(keras, make_context):
    model = relu_before_normalization(keras)
    made, context = stored(make_context, model)
    assert made.notes[0].startswith("bn: its scale goes into the kernels before it")
    assert made.difference < 1e-5
    read = decode_model(context.stored(made.file))
    assert type(read.get_layer("bn")).__name__ == "Activation"
    np.testing.assert_allclose(read(X), model(X), rtol=1e-4, atol=1e-4)
    # The model that was changed in place is stored as a copy of it would be.
    assert context.stored(made.file).read_bytes() == encode_model(equalized(model, [X]).model)


def test_where_nothing_is_to_be_done_the_model_stays(keras, make_context):
    image = keras.Input((8, 8, 3))
    assert stored(make_context, keras.Model(image, keras.layers.Conv2D(2, 1)(image)))[0] is None
    assert stored(make_context, relu_before_normalization(keras), kept=["bn", "conv", "head"])[0] is None


def test_names_in_nested_models_are_not_guessed(keras, make_context):
    model = relu_before_normalization(keras, nested=True)
    assert stored(make_context, model, kept=["bn"])[0] is None
    assert stored(make_context, model)[0].notes


def test_the_schemes_of_a_run_equalize_a_model_once(keras, make_context, monkeypatch):
    from stages.keras.equalizing import equalize

    made, real = [], equalize.equalized
    monkeypatch.setattr(equalize, "equalized", lambda *given: made.append(given) or real(*given))
    context = make_context(None)
    context.inputs = {"model": context.write_model(relu_before_normalization(keras))}
    first, again = (equalized_model(context, [X], ()) for _ in range(2))
    assert (first, len(made)) == (again, 1)
    equalized_model(context, [X + 1], ())
    equalized_model(context, [X + 1], ("head",))
    assert len(made) == 3
