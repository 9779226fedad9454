import numpy as np
import pytest

from stages.keras.channels.labels import Call, CannotFollowError, Fixed, Labels, Ledger


def call_on(*inputs, shapes=((None, 4, 4, 6),), layer=None, arguments=((), {})):
    return Call("here", layer, inputs, shapes, shapes, arguments, Ledger(count=100))


def test_ids_are_new_each_time_and_belong_to_their_maker():
    ledger = Ledger()
    first, second = ledger.make("a", 3), ledger.make("b", 2)
    assert [*first, *second] == [0, 1, 2, 3, 4]
    assert (ledger.makers, ledger.count) == ([("a", 3), ("b", 2)], 5)
    with pytest.raises(CannotFollowError, match="couples 3 channels with 2"):
        ledger.couple(first, second)
    assert ledger.couplings == []


def test_a_tensor_that_is_fixed_has_one_set_of_frozen_ids_an_axis():
    ledger, fixed = Ledger(), Fixed("input", "the model's input")
    ids = ledger.ids_of_fixed(fixed, 3, 4)
    assert ledger.ids_of_fixed(fixed, 3, 4) is ids
    assert ledger.ids_of_fixed(fixed, 1, 4)[0] == 4
    frozen, why = ledger.frozen[0]
    assert (list(frozen), str(why)) == ([0, 1, 2, 3], "input: the model's input")


def test_a_call_reads_the_axis_that_carries_channels_and_no_other():
    labels = Labels(3, np.arange(6))
    assert call_on(labels).read(3) is labels.ids
    with pytest.raises(CannotFollowError, match="works along axis 1, where channels are on axis 3"):
        call_on(labels).read(1)
    with pytest.raises(CannotFollowError, match="reads axis 1, whose size is not known"):
        call_on(Fixed("input", "why"), shapes=((None, None, 4, 6),)).read(1)
    with pytest.raises(CannotFollowError, match="is called on 2 tensors"):
        call_on(labels, labels).only()


def test_arguments_are_found_by_place_or_by_name():
    call = call_on(arguments=((7,), {"axis": 2}))
    assert call.argument(0, "x") == ((0, 0), 7)
    assert call.argument(1, "axis") == ((1, "axis"), 2)
    assert call.argument(1, "keepdims", default=False) == ((1, "keepdims"), False)


def test_blocks_are_coupled_place_by_place():
    call = call_on()
    call.couple_blocks(np.arange(6), 3)
    assert [(list(one), list(other)) for one, other in call.ledger.couplings] == [([0, 1], [2, 3]), ([0, 1], [4, 5])]
