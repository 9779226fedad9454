import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from stages.finetune.checkpoints import Checkpoints
from stages.finetune.config import Distill, Features, FinetuneConfig
from stages.finetune.training import fine_tune
from stages.keras.normal_form import copy_model
from stages.keras.sparsity import PlannedKernel, SparsityPlan, apply_masks
from stages.keras.tensorflow import import_keras, tensorflow_action


def split(name, count=96):
    rng = np.random.default_rng(len(name))
    y = np.arange(count) % 3
    x = rng.standard_normal((count, 8, 8, 2)).astype(np.float32) + y[:, None, None, None]
    return Split(name, f"sha256:{name}", x, y.astype(np.int64), Preprocess())


def network():
    """Build every kind of kernel: of a convolution, depthwise, separable, dense, and of a layer that is
    called twice.
    """
    layers = import_keras().layers
    image = import_keras().Input((8, 8, 2))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    shared = layers.Conv2D(6, 1, name="shared")
    x = layers.Add()([shared(x), shared(layers.ReLU()(x))])
    x = layers.Dropout(0.1)(layers.SeparableConv2D(8, 3, name="separable")(x))
    x = layers.GlobalAveragePooling2D()(x)
    return import_keras().Model(image, layers.Dense(3, activation="softmax", name="head")(x))


def plan(model, share=0.5, reached_at=0.0, criterion="magnitude"):
    kernels = tuple(
        PlannedKernel(layer=layer.name, weight=place, share=share)
        for layer in model.layers
        for place, weight in enumerate(layer.weights)
        if len(weight.shape) > 1
    )
    return SparsityPlan(
        criterion=criterion, scope="layer", pattern="free", block=(4, 4), reached_at=reached_at, seed=1, kernels=kernels
    )


def zero_places(model, made):
    return [variable.numpy() == 0 for variable in made.variables(model)]


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_zeros_stay_where_they_are_and_the_rest_learns(criterion):
    with tensorflow_action(seed=1, threads=2):
        model = network()
        made = plan(model, criterion=criterion)
        apply_masks(model, made)
        zeros, before = zero_places(model, made), model.get_weights()
        result = fine_tune(model, FinetuneConfig(epochs=2, batch=32), split("train"), split("val"), 1, plan=made)
        assert result.model is model
        assert {type(layer).__name__ for layer in model.layers} & {"PruneLowMagnitude"} == set()
        for then, now in zip(zeros, zero_places(model, made), strict=True):
            np.testing.assert_array_equal(then, now)
        assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True) if old.ndim > 1)
        assert all(len(layer.inbound_nodes) == (2 if layer.name == "shared" else 1) for layer in model.layers)


@pytest.mark.parametrize(
    "settings",
    [
        {"mixed_precision": True, "strategy": "mirrored"},
        {"distill": Distill(features=Features(layers=("conv", "sep*")))},
    ],
    ids=["16 bits, mirrored", "distilled"],
)
def test_zeros_stay_also_in_a_copy_and_beside_a_teacher(settings):
    with tensorflow_action(seed=1, threads=2):
        model = network()
        teacher, made = copy_model(model), plan(model)
        apply_masks(model, made)
        zeros = zero_places(model, made)
        config = FinetuneConfig(epochs=2, batch=32, **settings)
        fine_tune(model, config, split("train"), split("val"), 1, plan=made, teacher=teacher)
        for then, now in zip(zeros, zero_places(model, made), strict=True):
            np.testing.assert_array_equal(then, now)


def test_sparsity_grows_and_the_best_epoch_is_one_that_has_it_all():
    with tensorflow_action(seed=1, threads=2):
        model = network()
        made = plan(model, share=0.6, reached_at=0.5)
        config = FinetuneConfig(epochs=4, batch=32, learning_rate=1e-5)
        result = fine_tune(model, config, split("train"), split("val"), 1, plan=made)
        assert result.best_epoch >= 3
        assert result.start == {}  # with too few zeros it is no result
        for zeros in zero_places(model, made):
            assert zeros.sum() == zeros.size - max(1, round(zeros.size * 0.4))


def test_a_start_with_all_its_zeros_is_kept_with_them_if_training_harms():
    with tensorflow_action(seed=1, threads=2):
        model = network()
        made = plan(model)
        good = FinetuneConfig(epochs=8, batch=32, learning_rate=0.01)
        fine_tune(model, good, split("train"), split("val"), 1, plan=made)
        zeros, before = zero_places(model, made), model.get_weights()
        harmful = FinetuneConfig(epochs=2, batch=32, learning_rate=1.0)
        result = fine_tune(model, harmful, split("train"), split("val"), 1, plan=made)
        assert result.best_epoch == 0
        for then, now in zip([*before, *zeros], [*model.get_weights(), *zero_places(model, made)], strict=True):
            np.testing.assert_array_equal(then, now)


def test_a_killed_training_goes_on_bit_by_bit(tmp_path):
    config = FinetuneConfig(epochs=4, batch=32)

    def trained(folder, stop_after=None):
        with tensorflow_action(seed=1, threads=2):
            model = start
            made = plan(model, share=0.6, reached_at=0.7)
            told = []

            def progress(done, *_):
                told.append(done)
                if stop_after and done > stop_after:
                    raise KeyboardInterrupt

            fresh = copy_model(model)
            folder.mkdir(exist_ok=True)
            return fine_tune(
                fresh,
                config,
                split("train"),
                split("val"),
                1,
                Checkpoints(folder),
                progress,
                made,
                progress_interval_s=0,
            )

    with tensorflow_action(seed=1, threads=2):
        start = network()
    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", stop_after=2.4)
    again = trained(tmp_path / "cut")
    assert again.resumed_from == 2
    assert again.history == whole.history
    for one, other in zip(whole.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
