import pytest

from stages.keras.losses import gives_logits, multilabel_loss, regression_loss
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize(
    ("units", "closing", "logits"),
    [(3, "softmax", False), (3, None, True), (1, "sigmoid", False), (1, None, True)],
)
def test_logits_are_told_from_probabilities_wherever_the_activation_stands(units, closing, logits):
    layers = import_keras().layers
    inner = import_keras().Sequential([layers.Input((5,)), layers.Dense(units, closing, name="inner_head")])
    inputs = import_keras().Input((5,))
    assert gives_logits(import_keras().Model(inputs, inner(inputs))) == logits


@pytest.mark.parametrize(("closing", "logits"), [("sigmoid", False), (None, True)])
def test_labels_that_do_not_exclude_each_other_need_not_add_up_to_one(closing, logits):
    layers = import_keras().layers
    model = import_keras().Sequential([layers.Input((5,)), layers.Dense(3, closing)])
    assert gives_logits(model, exclusive=False) == logits
    assert gives_logits(model)  # for a classifier these are not probabilities
    expected = 0.6931 if logits else 0.9163
    assert float(multilabel_loss(model)([[1.0, 0.0]], [[0.0, 0.0] if logits else [0.4, 0.6]])) == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize(("name", "expected"), [("mse", 5.0), ("mae", 2.0), ("huber", 1.5)])
def test_losses_between_numbers_are_keras_s(name, expected):
    assert float(regression_loss(name)([[0.0, 0.0]], [[1.0, 3.0]])) == pytest.approx(expected)
