"""Test that channels shrink: by how much in one step, which ones, and what a cut costs afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from pipeline.errors import PreconditionError
from stages.finetune.channel_lasso import ALPHA, ChannelLasso
from stages.finetune.config import Distill, FinetuneConfig, Regularize
from stages.finetune.training import fine_tune
from stages.keras.channels.groups import ChannelGroup, channel_groups
from stages.keras.flatten import layers_by_flat_name
from stages.keras.normal_form import copy_model
from stages.keras.sparsity import PlannedKernel, SparsityPlan
from stages.keras.tensorflow import import_keras, import_tensorflow, tensorflow_action

IMAGES = Path(__file__).parents[3] / "configs" / "assets" / "fashion_mnist.npz"


def network(size: int = 8, channels: int = 1, classes: int = 3) -> Any:
    """Build a convolution, a residual block that couples two of them, a depthwise one, and a branch to join."""
    layers = import_keras().layers
    image = import_keras().Input((size, size, channels), name="image")
    x = layers.Conv2D(12, 3, strides=2, use_bias=False, name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, name="stem_bn")(x))
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, name="inner")(x)
    y = layers.ReLU()(layers.BatchNormalization(momentum=0.9, name="inner_bn")(y))
    y = layers.Conv2D(12, 1, name="back")(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y))
    x = layers.Concatenate(name="both")([layers.Add(name="join")([x, y]), layers.Conv2D(8, 1, name="side")(x)])
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(name="pool")(layers.ReLU()(x)))
    return import_keras().Model(image, layers.Dense(classes, activation="softmax", name="head")(x))


def nested() -> Any:
    """Build a network of a model and a head, in which two layers have the same name."""
    layers = import_keras().layers
    inner = import_keras().Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(6, 3, name="conv"), layers.ReLU(), layers.Conv2D(5, 3, name="last")],
        name="backbone",
    )
    image = import_keras().Input((8, 8, 1), name="image")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, name="conv")(inner(image)))
    return import_keras().Model(image, layers.Dense(3, activation="softmax", name="head")(x))


def squares(model: Any, group: ChannelGroup, *, trainable: bool = True) -> Any:
    """Return ‖w_k‖² of each channel of a group, channel by channel."""
    layers, total = layers_by_flat_name(model), np.zeros(group.channels.size)
    learned = {variable.ref() for variable in model.trainable_variables}
    for slot in (*group.producers, *group.pass_through, *group.consumers):
        variable = slot.variable(layers[slot.layer])
        if trainable and variable.ref() not in learned:
            continue
        weights = np.moveaxis(variable.numpy().astype(np.float64), slot.axis, 0)
        for place, channel in enumerate(group.channels):
            total[place] += (weights[slot.channels == channel] ** 2).sum()
    return total


def expected(model: Any, rate: float) -> dict[Any, Any]:
    """Return each variable after one step, from the formula and loops over channels."""
    layers = layers_by_flat_name(model)
    after = {v.ref(): v.numpy().astype(np.float64) for v in model.trainable_variables}
    for group in channel_groups(model).prunable:
        sizes = squares(model, group)
        gammas = 2 ** (ALPHA * (sizes.max() - sizes) / (sizes.max() - sizes.min()))
        for slot in (*group.producers, *group.pass_through, *group.consumers):
            key = slot.variable(layers[slot.layer]).ref()
            for channel, gamma in zip(group.channels, gammas, strict=True) if key in after else ():
                np.moveaxis(after[key], slot.axis, 0)[slot.channels == channel] *= 1 - rate * gamma
    return after


@pytest.mark.parametrize("make", [network, nested])
def test_a_step_takes_of_each_channel_what_the_formula_says(make: Any) -> None:
    with tensorflow_action(3, 2):
        model = make()
        for variable in model.trainable_variables:
            variable.assign(variable + 0.1)  # no shift and no offset is zero
        wanted, before = expected(model, 0.01), [weight.numpy() for weight in model.non_trainable_variables]
        ChannelLasso(model, Regularize(groups=0.1), 10).shrink(import_tensorflow().constant(0.01))
    for variable in model.trainable_variables:
        np.testing.assert_allclose(variable.numpy(), wanted[variable.ref()], rtol=1e-5, err_msg=variable.name)
    for one, other in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())  # moving statistics stay


def test_what_is_excluded_or_frozen_is_left_alone_and_the_head_keeps_its_outputs() -> None:
    with tensorflow_action(3, 2):
        model = network()
        model.get_layer("side").trainable = False
        before = {variable.name: variable.numpy() for variable in model.weights}
        settings = Regularize(groups=0.1, exclude=("inner",))
        ChannelLasso(model, settings, 10).shrink(import_tensorflow().constant(0.01))
        changed = {v.name.partition(":")[0] for v in model.weights if (v.numpy() != before[v.name]).any()}
        # Of `inner` and `back` the other channels' side alone; `side` reads what the stem makes.
        assert changed == {"stem/kernel", "stem_bn/gamma", "inner/kernel", "back/kernel", "head/kernel"}
        with pytest.raises(PreconditionError, match="all of them are excluded"):
            ChannelLasso(model, Regularize(groups=0.1, exclude=("*",)), 10)
        with pytest.raises(PreconditionError, match='no layer matches "innner"'):
            ChannelLasso(model, Regularize(groups=0.1, exclude=("innner",)), 10)
        model.trainable = False
        with pytest.raises(PreconditionError, match="are frozen"):
            ChannelLasso(model, settings, 10)


def test_channels_of_zeros_and_equal_ones_give_numbers() -> None:
    with tensorflow_action(3, 2):
        model = network()
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        ChannelLasso(model, Regularize(groups=0.1), 10).shrink(import_tensorflow().constant(1.0))
        assert all((weight == 0).all() for weight in model.get_weights())


@pytest.fixture(scope="module")
def fashion() -> Any:
    """Return training and validation images at a quarter of their size."""
    with np.load(IMAGES) as arrays:
        x = arrays["x_train"].astype(np.float32).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))[..., None] / 127.5 - 1
        y = arrays["y_train"].astype(np.int64)
    return tuple(
        Split(name, f"sha256:{name}", x[rows], y[rows], Preprocess())
        for name, rows in (("train", slice(1500)), ("validation", slice(1500, 2500)))
    )


PLAIN = FinetuneConfig(epochs=8, batch=32, learning_rate=0.003, schedule="cosine", early_stopping=None)
SPARSE = PLAIN.model_copy(update={"regularize": Regularize(groups=0.4)})


def accuracy(model: Any, split: Any) -> float:
    return float((model.predict(split.inputs(), verbose=0).argmax(1) == split.y).mean())


def weak_share(model: Any) -> float:
    """Return the weaker half's share of ‖w‖², on average over the groups."""
    sizes = [np.sort(squares(model, group)) for group in channel_groups(model).prunable]
    return float(np.mean([size[: size.size // 2].sum() / size.sum() for size in sizes]))


def masked(model: Any) -> Any:
    """Return a copy in which nobody reads the weaker half of each group's channels, as after a cut."""
    cut = copy_model(model)
    for group in channel_groups(model).prunable:
        gone = group.channels[np.argsort(squares(model, group))[: group.channels.size // 2]]
        for slot in group.consumers:
            variable = slot.variable(cut.get_layer(slot.layer))
            weights = variable.numpy()
            np.moveaxis(weights, slot.axis, 0)[np.isin(slot.channels, gone)] = 0
            variable.assign(weights)
    return cut


def test_weak_channels_shrink_accuracy_stays_and_a_cut_costs_less(fashion: Any) -> None:
    figures = {}
    with tensorflow_action(5, 2):
        start = network(14, 1, 10)
        fine_tune(start, PLAIN, *fashion, 5)
        began = accuracy(start, fashion[1])
        for name, config in (("plain", PLAIN), ("sparse", SPARSE)):
            model = copy_model(start)
            result = fine_tune(model, config, *fashion, 6)
            assert name == "plain" or result.best_epoch == SPARSE.epochs  # earlier channels have not shrunk as far
            cut = masked(model)
            outputs = [one.predict(fashion[1].inputs(), verbose=0) for one in (model, cut)]
            figures[name] = (
                weak_share(model),
                accuracy(model, fashion[1]),
                accuracy(cut, fashion[1]),
                float(np.abs(outputs[0] - outputs[1]).mean()),
            )
    plain, sparse = figures["plain"], figures["sparse"]
    # Without the regularizer both trainings are the same. Processors round differently, which is like another seed:
    # over five of them the four figures were 0.36 to 0.46, -0.021 to 0.012, 0.079 to 0.229, and 0.53 to 0.81.
    assert sparse[0] < 0.6 * plain[0]
    assert sparse[1] > began - 0.04
    assert sparse[2] > plain[2] + 0.04
    assert sparse[3] < 0.9 * plain[3]


@pytest.mark.parametrize("settings", [{}, {"mixed_precision": True}, {"distill": Distill()}], ids=str)
def test_channels_shrink_in_every_kind_of_training(fashion: Any, settings: dict[str, Any]) -> None:
    few = Split("train", "sha256:few", fashion[0].x[:320], fashion[0].y[:320], Preprocess())
    regularize = Regularize(groups=5, growth=0)
    config = FinetuneConfig(epochs=2, batch=32, learning_rate=0.01, regularize=regularize, **settings)
    with tensorflow_action(5, 2):
        model = network(14, 1, 10)
        before, teacher = weak_share(model), copy_model(model)
        fine_tune(model, config, few, few, 5, teacher=teacher)
    assert weak_share(model) < 0.3 * before
    assert {weight.dtype.name for weight in model.weights} == {"float32"}


def test_a_model_that_keeps_single_zeros_is_refused(fashion: Any) -> None:
    model = network(14, 1, 10)
    plan = SparsityPlan(
        criterion="magnitude",
        scope="layer",
        pattern="free",
        block=(4, 4),
        reached_at=0,
        seed=1,
        kernels=(PlannedKernel(layer="stem", weight=0, share=0.5),),
    )
    with pytest.raises(PreconditionError, match="a plan of single zeros"):
        fine_tune(model, SPARSE, *fashion, 5, plan=plan)
