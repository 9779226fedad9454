import numpy as np

from stages.formats.tensors import ends_of, reads_of


def test_the_ends_of_a_quantized_tensor_are_those_of_its_type():
    assert ends_of(0.5, -128, np.int8) == (0.0, 127.5)
    assert ends_of(0.5, 0, np.uint8) == (0.0, 127.5)
    assert ends_of(1e-3, 0, np.int16) == (-32.768, 32.767)
    assert ends_of(0.0, 0, np.int8) is None  # not quantized
    assert ends_of(0.5, 0, np.int32) is None  # a bias, wide enough for any
    assert ends_of(0.5, 0, np.float32) is None


def test_operators_read_those_that_made_their_inputs():
    ends = [(["x", "w"], ["a"]), (["a", "a"], ["b", "c"]), (["c", "x", "a"], ["y"])]
    assert reads_of(ends) == [frozenset(), {0}, {0, 1}]
