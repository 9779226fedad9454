import numpy as np

from stages.keras.channels.groups import channel_groups
from stages.keras.tensorflow import import_tensorflow
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.gates import mean_squares
from stages.samples.model_samples import ModelSamples


def test_each_sample_is_squared_before_the_mean_so_that_signs_do_not_cancel(keras):
    inputs = keras.Input((2,), name="x")
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="y")(hidden))
    x = np.array([[1.0, -2.0], [-1.0, 2.0], [0.5, 3.0]], np.float32)  # the first two are opposite
    tf, told = import_tensorflow(), []
    groups = channel_groups(model).prunable
    samples = ModelSamples(3, lambda start, stop: ([x[start:stop]], [np.zeros(stop - start)]))
    question = Question(model, groups, 0, samples, lambda done, total: told.append((done, total)))
    found = mean_squares(question, samples, lambda inputs, _labels: tf.reduce_sum(model(inputs[0])))
    (group,) = (group for group in groups if group.name == "hidden")
    (members,) = (part for part, one in zip(found, groups, strict=True) if one is group)
    kernel, read = model.get_layer("hidden").get_weights()[0], model.get_layer("y").get_weights()[0]
    gated = (x @ kernel) * read.sum(axis=1)  # of the sum of outputs, by each channel's gate
    np.testing.assert_allclose(members[0].values, np.mean(gated**2, axis=0), rtol=1e-5)
    assert told[-1] == (3, 3)
