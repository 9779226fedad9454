import threading

import pytest

from stages.keras.regression.ahead import one_ahead


def test_items_come_in_order_and_the_next_is_made_while_one_is_used():
    made, second = [], threading.Event()

    def items():
        for number in range(3):
            made.append((number, threading.current_thread() is threading.main_thread()))
            if number == 1:
                second.set()
            yield number

    found = []
    for number in one_ahead(items()):
        if number == 0:
            assert second.wait(10)  # nobody has asked for it yet
        found.append(number)
    assert found == [0, 1, 2]
    assert made == [(number, False) for number in range(3)]


def test_an_error_is_raised_where_its_item_would_have_come():
    def items():
        yield 1
        raise ValueError("the second")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second"):
        next(ahead)


def test_who_stops_early_leaves_no_thread():
    ahead = one_ahead(iter(range(9)))
    assert next(ahead) == 0
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
