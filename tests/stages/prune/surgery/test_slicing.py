import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.keras.tensorflow import import_tensorflow
from stages.prune.surgery.slicing import ALIGNMENT_BYTES, BLOCK_BYTES, LARGE_BYTES, Slices

SHAPES = [(7,), (5, 8), (3, 3, 4, 6), (900, 700), (1, 1, 1300, 1200), (2500, 1100)]


def expected(array, kept):
    for axis, indices in kept.items():
        array = array[(slice(None),) * axis + (indices,)]
    return array


def drawn(rng, shape):
    axes = rng.choice(len(shape), rng.integers(1, len(shape) + 1), replace=False).tolist()
    return {axis: np.sort(rng.choice(shape[axis], rng.integers(1, shape[axis] + 1), replace=False)) for axis in axes}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.sampled_from(SHAPES), min_size=1, max_size=12))
def test_small_and_large_ones_of_one_batch_hold_what_was_kept(seed, shapes):
    tf, rng, slices = import_tensorflow(), np.random.default_rng(seed), Slices()
    arrays = [rng.random(shape, dtype=np.float32) for shape in shapes]
    kept = [drawn(rng, shape) for shape in shapes]
    tensors = [tf.constant(array) for array in arrays]
    promised = [slices.promise(tensor, axes) for tensor, axes in zip(tensors, kept, strict=True)]
    slices.write()
    for array, tensor, axes, made in zip(arrays, tensors, kept, promised, strict=True):
        np.testing.assert_array_equal(made.numpy(), expected(array, axes))
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "bool"])
@pytest.mark.parametrize("shape", [(6, 4), (1100, 1300)])
def test_any_type_is_promised_as_it_is(dtype, shape):
    tf, slices = import_tensorflow(), Slices()
    tensor = tf.cast(tf.constant(np.arange(np.prod(shape)).reshape(shape) % 7), dtype)
    promised = slices.promise(tensor, {0: np.array([0, 2]), 1: np.array([1, 3])})
    slices.write()
    assert promised.dtype == tensor.dtype
    np.testing.assert_array_equal(promised.numpy(), tensor.numpy()[[0, 2]][:, [1, 3]])


def test_the_memory_that_is_written_is_the_tensor_itself():
    tf, slices = import_tensorflow(), Slices()
    sizes = (LARGE_BYTES // 4 + 3, 5, BLOCK_BYTES // 2)  # of float32: large, small, more than a block
    promised = [slices.promise(tf.zeros(size), {0: np.arange(0, size, 2)}) for size in sizes]
    targets = [one.target for one in slices._promised]
    slices.write()
    for one, target in zip(promised, targets, strict=True):
        assert np.shares_memory(np.asarray(one), target)
        assert target.ctypes.data % ALIGNMENT_BYTES == 0
        assert np.shares_memory(np.asarray(tf.Variable(one).value()), target)


def test_a_tensor_that_nobody_else_holds_lives_until_it_is_sliced():
    tf, slices = import_tensorflow(), Slices()
    arrays = [np.full((1000, 600), number, np.float32) for number in range(8)]
    promised = [slices.promise(tf.constant(array), {0: np.arange(0, 1000, 2)}) for array in arrays]
    gc.collect()
    others = [tf.fill((1000, 600), -1.0) for _ in arrays]  # reuses freed memory
    slices.write()
    for number, made in enumerate(promised):
        np.testing.assert_array_equal(made.numpy(), np.full((500, 600), number, np.float32))
    del others
