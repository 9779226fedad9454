import numpy as np
import pytest

from stages.keras.accuracy import correct_counter
from stages.keras.tensorflow import import_keras


def classifier(units, activation):
    """Pass inputs on as scores, so that each test writes the answers itself."""
    keras = import_keras()
    scores = keras.Input((units,))
    return keras.Model(scores, keras.layers.Activation(activation)(scores))


def test_the_largest_score_is_the_class_over_all_batches():
    scores = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    labels = np.array([0, 1, 2, 0])
    count = correct_counter(classifier(3, "softmax"))
    assert count([(scores[:3], labels[:3]), (scores[3:], labels[3:])]) == 3


@pytest.mark.parametrize(("activation", "correct"), [("sigmoid", 3), ("linear", 3)])
def test_one_output_is_a_class_of_two_by_its_probability_or_its_logit(activation, correct):
    scores = np.array([[-1.0], [0.2], [0.3], [2.0]], np.float32)  # as probabilities, 0.2 and 0.3 would be below half
    assert correct_counter(classifier(1, activation))([(scores, np.array([0, 1, 0, 1]))]) == correct


def test_weights_are_read_again_at_each_call():
    keras = import_keras()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    count = correct_counter(model)
    batches = [(np.array([[1.0, 0.0]], np.float32), np.array([1]))]
    found = []
    for kernel in ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]):
        model.set_weights([np.array(kernel)])
        found.append(count(batches))
    assert found == [0, 1]
