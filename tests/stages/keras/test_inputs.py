import numpy as np

from stages.keras.inputs import as_arrays, by_input

A, B = np.zeros(3), np.ones(3)


def test_inputs_by_name_come_in_the_model_s_order():
    assert [one is two for one, two in zip(by_input({"a": A, "b": B}, ["b", "a"]), (B, A), strict=True)] == [True] * 2


def test_one_array_is_a_list_of_one():
    assert by_input(A, ["x"])[0] is A
    assert as_arrays(A)[0] is A
    assert as_arrays((A, B))[1] is B
