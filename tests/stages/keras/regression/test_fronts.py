import numpy as np
import pytest

from stages.keras.regression.fronts import Front
from stages.keras.tensorflow import import_tensorflow

BYTES = 2 * 3 * 4  # of a batch


def batches(count, dtype="float32"):
    tf = import_tensorflow()
    return [{"7": tf.cast(tf.reshape(tf.range(6), (2, 3)) + batch, dtype)} for batch in range(count)]


@pytest.fixture
def made(tmp_path):
    """Make a front of four batches."""

    def make(**room):
        return Front(tmp_path / "front", 4, **room)

    return make


@pytest.mark.parametrize("room", [{}, {"memory": 4 * BYTES, "disk": 0}, {"memory": 4 * BYTES - 1}])
def test_what_was_added_is_read(room, made):
    front = made(**room)
    assert all(map(front.add, batches(4)))
    assert front.folder.exists() is (room == {"memory": 4 * BYTES - 1})
    for number, tensors in enumerate(batches(4)):
        found = front.read(number)
        assert found.keys() == tensors.keys()
        np.testing.assert_array_equal(found["7"], tensors["7"])
    front.close()
    assert not front.folder.exists()


def test_what_would_take_too_much_is_not_kept(made):
    front = made(memory=0, disk=4 * BYTES - 1)
    assert not front.add(batches(1)[0])
    assert not front.folder.exists()


@pytest.mark.parametrize("memory", [0, 2**20])
def test_masks_stay_with_their_tensors(memory, made):
    front, (tensors,) = made(memory=memory), batches(1)
    tensors["7"]._keras_mask = import_tensorflow().constant([[True, False, True]] * 2)
    assert front.add(tensors)
    assert front.read(0)["7"]._keras_mask.numpy().tolist() == [[True, False, True]] * 2


def test_what_no_file_holds_is_not_kept(made):
    assert not made().add(batches(1, "bfloat16")[0])
    text = import_tensorflow().constant([["a"]])
    assert not made().add({"7": text})
