import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.keras.sparsity import PlannedKernel, SparsityPlan
from stages.keras.tensorflow import import_keras, import_tfmot


def plan(shares, **settings):
    defaults = {"criterion": "magnitude", "scope": "layer", "pattern": "free", "block": (2, 2), "reached_at": 0.0}
    kernels = tuple(PlannedKernel(layer=f"l{i}", weight=0, share=share) for i, share in enumerate(shares))
    return SparsityPlan(**{**defaults, **settings}, seed=3, kernels=kernels)


def kernels(*shapes):
    return [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)]


def masked_by_tfmot(kernel, **settings):
    """Return what tfmot's own pruning makes of a dense or convolution kernel."""
    keras, sparsity = import_keras(), import_tfmot().sparsity.keras
    *window, inputs, outputs = kernel.shape
    layer = keras.layers.Conv2D(outputs, window) if window else keras.layers.Dense(outputs)
    wrapped = sparsity.prune_low_magnitude(layer, **settings)
    wrapped.build((None, 9, 9, inputs) if window else (None, inputs))
    layer.kernel.assign(kernel)
    wrapped.pruning_step.assign(1)
    wrapped.pruning_obj.conditional_mask_update()
    return wrapped.pruning_vars[0][1].numpy() != 0


@pytest.mark.parametrize("shape", [(12, 8), (3, 3, 8, 5)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.87])
def test_magnitude_masks_are_those_of_tfmot(shape, share):
    (kernel,) = kernels(shape)
    schedule = import_tfmot().sparsity.keras.ConstantSparsity(share, begin_step=0, frequency=1)
    (mask,) = plan([share]).masks([kernel])
    np.testing.assert_array_equal(mask, masked_by_tfmot(kernel, pruning_schedule=schedule))


@pytest.mark.parametrize("shape", [(12, 8), (3, 3, 8, 8), (1, 1, 6, 4)])
def test_two_of_four_are_those_of_tfmot(shape):
    (kernel,) = kernels(shape)
    (mask,) = plan([0.5], pattern="2:4").masks([kernel])
    np.testing.assert_array_equal(mask, masked_by_tfmot(kernel, sparsity_m_by_n=(2, 4)))


def test_blocks_are_those_of_tfmot():
    (kernel,) = kernels((12, 8))
    schedule = import_tfmot().sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=1)
    (mask,) = plan([0.5], pattern="block", block=(4, 2)).masks([kernel])
    expected = masked_by_tfmot(kernel, pruning_schedule=schedule, block_size=(4, 2), block_pooling_type="AVG")
    np.testing.assert_array_equal(mask, expected)


@given(
    shape=st.sampled_from([(7, 5), (3, 3, 6, 4), (1, 1, 4, 9), (3, 3, 8, 1)]),
    share=st.floats(0, 0.95),
    criterion=st.sampled_from(["magnitude", "random"]),
    pattern=st.sampled_from(["free", "block"]),
)
def test_what_went_stays_away_while_more_goes(shape, share, criterion, pattern):
    values = kernels(shape, shape)
    made = plan([share, share / 2], criterion=criterion, pattern=pattern)
    before = [np.ones(shape, dtype=bool)] * 2
    for progress in (0.3, 0.7, 1.0):
        masks = made.masks(values, progress)
        for mask, earlier, kernel in zip(masks, before, made.kernels, strict=True):
            assert not (mask & ~earlier).any()
            if pattern == "free":
                assert (~mask).sum() == mask.size - max(1, round(mask.size * (1 - kernel.share * progress)))
        values = [value * mask for value, mask in zip(values, masks, strict=True)]
        before = masks


def test_one_ranking_over_all_kernels():
    values = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.1, 0.2], [0.3, 9.0]])]
    first, second = plan([0.5, 0.5], scope="global").masks(values)
    assert first.tolist() == [[False, True], [True, True]]
    assert second.tolist() == [[False, False], [False, True]]


def test_random_choice_follows_from_the_seed_and_leaves_out_a_count():
    values = kernels((20, 10))
    (first,), (again,) = (plan([0.1], criterion="random").masks(values) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (~first).sum() == 20
    (other,) = plan([0.1], criterion="random").model_copy(update={"seed": 4}).masks(values)
    assert (first != other).any()


def test_the_schedule_is_cubic_and_ends_where_it_was_told_to():
    made = plan([0.5], reached_at=0.5)
    assert [made.progress(trained) for trained in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([0, 0.875, 1, 1])
    assert plan([0.5]).progress(0.0) == 1.0
