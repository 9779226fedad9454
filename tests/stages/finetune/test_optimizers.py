import numpy as np
import pytest

from stages.finetune.config import Clip, Exponential, FinetuneConfig, Steps
from stages.finetune.optimizers import learning_rate, make_optimizer
from stages.keras.tensorflow import import_keras, import_tensorflow

STEPS = 10  # per epoch


def rates(steps, **settings):
    rate = learning_rate(FinetuneConfig(learning_rate=0.5, **settings), STEPS)
    return [float(rate(step)) if callable(rate) else rate for step in steps]


@pytest.mark.parametrize("schedule", ["constant", "reduce_on_plateau"])
def test_without_a_schedule_the_rate_is_a_number_that_callbacks_can_change(schedule):
    assert learning_rate(FinetuneConfig(learning_rate=0.5, schedule=schedule), STEPS) == 0.5


def test_cosine_falls_to_zero_over_all_epochs():
    assert rates([0, 15, 30], epochs=3, schedule="cosine") == pytest.approx([0.5, 0.25, 0], abs=1e-6)


def test_cosine_after_a_warm_up_begins_where_the_warm_up_ends():
    found = rates([0, 4, 9, 10, 20, 30], epochs=3, schedule="cosine", warmup=1)
    assert found == pytest.approx([0.05, 0.25, 0.5, 0.5, 0.25, 0], abs=1e-6)


def test_steps_and_exponential_fall_as_they_say():
    assert rates([0, 19, 20, 40], schedule="step", step=Steps(every=2, factor=0.1)) == pytest.approx(
        [0.5, 0.5, 0.05, 0.005]
    )
    found = rates([0, 10, 15], schedule="exponential", exponential=Exponential(factor=0.25))
    assert found == pytest.approx([0.5, 0.125, 0.0625])
    assert rates([0, 1, 7], epochs=3, schedule="constant", warmup=0.2) == pytest.approx([0.25, 0.5, 0.5])


def dense():
    model = import_keras().Sequential([import_keras().layers.Dense(2, name="dense")])
    model.build((None, 3))
    model.set_weights([np.ones((3, 2)), np.ones(2)])
    return model


def stepped(gradient=0.0, **settings):
    """Return kernel and bias after one step of equal gradients."""
    model = dense()
    optimizer = make_optimizer(FinetuneConfig(learning_rate=0.5, schedule="constant", **settings), STEPS, model)
    tf = import_tensorflow()
    gradients = [tf.fill(variable.shape, gradient) for variable in model.trainable_variables]
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    kernel, bias = model.get_weights()
    return float(kernel[0, 0]), float(bias[0])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_weight_decay_shrinks_kernels_and_leaves_biases(optimizer):
    assert stepped(optimizer=optimizer, weight_decay=0.1) == pytest.approx((1 - 0.5 * 0.1, 1))


def test_only_adamw_decays_unless_told_otherwise():
    assert stepped(optimizer="adam") == (1, 1)
    assert stepped(optimizer="adamw") == pytest.approx((1 - 0.5 * 0.004, 1))
    assert stepped(optimizer="adamw", weight_decay=0) == (1, 1)


def test_gradients_are_bounded_by_norm_or_by_value():
    assert stepped(2.0, optimizer="sgd")[0] == pytest.approx(0)
    assert stepped(2.0, optimizer="sgd", clip=Clip(value=0.4))[0] == pytest.approx(0.8)
    norm = np.sqrt(8 * 4.0)  # of eight gradients of 2
    assert stepped(2.0, optimizer="sgd", clip=Clip(norm=1.0)) == pytest.approx((1 - 0.5 * 2 / norm,) * 2)


def test_momentum_is_nesterov_s_where_that_is_said():
    assert stepped(1.0, optimizer="sgd", momentum=0.5)[0] == pytest.approx(0.5)
    assert stepped(1.0, optimizer="sgd", momentum=0.5, nesterov=True)[0] == pytest.approx(1 - 0.5 * 1.5)


def test_losses_are_scaled_where_gradients_are_float16():
    made = make_optimizer(FinetuneConfig(), STEPS, dense(), scaled=True)
    assert float(made.get_scaled_loss(import_tensorflow().constant(2.0))) == 2.0 * 2**15
