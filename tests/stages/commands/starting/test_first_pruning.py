"""Check that the goal of a first recipe is feasible, by pruning to it."""

import pytest

from stages.commands.starting.first_pruning import first_pruning
from stages.keras.macs import count_macs
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.prune import PruneConfig, prune_model


def of(x, image):
    keras = import_keras()
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def pruned_to(model, goal):
    config = PruneConfig(**{goal.measure: goal.left, "round_to": goal.round_to})
    return prune_model(model, config).report


def test_the_work_goes_down_to_six_tenths_where_wide_dense_layers_hold_most_channels():
    keras = import_keras()
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(80, 3, padding="same")(keras.layers.Conv2D(80, 3, padding="same")(image))
    x = keras.layers.Dense(500, activation="relu")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    goal = first_pruning(model)
    assert (goal.measure, goal.left, goal.before, goal.round_to) == ("macs", 0.6, count_macs(model), 8)
    assert goal.after == round(0.6 * count_macs(model))
    report = pruned_to(model, goal)
    assert report.macs_after / report.macs_before == pytest.approx(0.6, abs=0.06)


def test_narrow_layers_go_in_smaller_steps():
    keras = import_keras()
    image = keras.Input((12, 12, 3))
    model = of(keras.layers.Conv2D(9, 3)(keras.layers.Conv2D(9, 3)(image)), image)
    goal = first_pruning(model)
    assert (goal.measure, goal.left) == ("macs", 0.6)
    assert goal.round_to < 8
    assert pruned_to(model, goal).reached == pytest.approx(0.6, abs=0.06)


def test_what_is_frozen_stays_and_the_goal_is_a_part_of_the_rest():
    keras = import_keras()
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(32, 3, name="free")(image)
    x = keras.layers.Conv2D(32, 3, name="held")(x)
    model = of(keras.layers.Softmax()(x), image)  # across the channels of the second convolution
    goal = first_pruning(model)
    assert goal.measure == "macs"
    assert goal.left >= 0.6
    assert pruned_to(model, goal).reached == pytest.approx(goal.left, abs=0.03)
    wide = keras.layers.Conv2D(64, 3, padding="same")(keras.layers.Softmax()(keras.layers.Conv2D(64, 3)(image)))
    wide = keras.layers.Conv2D(16, 1)(keras.layers.Softmax()(wide))
    little = first_pruning(of(wide, image))
    assert little is None or little.left > 0.6


def test_parameters_where_macs_are_not_known_or_can_not_go():
    keras, tf = import_keras(), import_tensorflow()
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(16, 3)(keras.layers.Conv2D(16, 1)(image))
    loop = keras.layers.Lambda(lambda x: tf.map_fn(lambda one: tf.matmul(one, one, transpose_b=True), x))
    unknown = of(loop(x), image)
    goal = first_pruning(unknown)
    assert goal.measure == "params"
    assert pruned_to(unknown, goal).reached == pytest.approx(goal.left, abs=0.06)
    large = keras.Input((40, 40, 3))
    x = keras.layers.Softmax()(keras.layers.Conv2D(16, 3, padding="same")(large))  # all of the work, and frozen
    x = keras.layers.Dense(100)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(large, keras.layers.Dense(3)(x))
    goal = first_pruning(model)
    assert (goal.measure, goal.before) == ("params", model.count_params())
    assert pruned_to(model, goal).params_after < 0.9 * model.count_params()


def test_no_goal_where_nothing_can_go():
    keras = import_keras()
    image = keras.Input((6, 6, 3))
    assert first_pruning(keras.Model(image, keras.layers.Conv2D(4, 3)(image))) is None
