import gc

import numpy as np

from stages.keras.channels.shared import OncePerArray


def test_each_array_is_asked_about_once_and_equal_ones_each_for_themselves():
    asked = []
    size_of = OncePerArray(lambda array: asked.append(array) or array.size)
    one, equal = np.arange(3), np.arange(3)
    assert [size_of(one), size_of(equal), size_of(one)] == [3, 3, 3]
    assert len(asked) == 2
    assert asked[0] is one
    assert asked[1] is equal


def test_an_array_that_nobody_else_holds_is_not_mistaken_for_a_later_one():
    first_of = OncePerArray(lambda array: int(array[0]))
    for number in range(100):  # each at the address of the one before, if that one were freed
        assert first_of(np.array([number])) == number
        gc.collect(0)
