import gc
import weakref

import pytest

from pipeline import memory
from pipeline.memory import collection_paused, give_back


class Cycle:
    def __init__(self):
        self.itself = self


def left_behind():
    return weakref.ref(Cycle())


@pytest.fixture
def collector_off():
    gc.disable()
    yield
    gc.enable()


def test_after_memory_grew_what_is_left_in_cycles_goes(collector_off, monkeypatch):
    monkeypatch.setattr(memory, "_given_back", {})
    left = left_behind()
    give_back()
    assert left() is None


def test_after_an_action_that_took_no_memory_nothing_is_looked_for(collector_off, monkeypatch):
    monkeypatch.setattr(memory, "_given_back", {"bytes": memory._resident_bytes()})
    left = left_behind()
    give_back()
    assert left() is not None
    monkeypatch.setattr(memory, "_resident_bytes", lambda: memory._given_back["bytes"] + memory.GROWTH_BYTES)
    give_back()
    assert left() is None


def test_collection_goes_on_after_a_pause_even_one_that_fails():
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collection_paused():
        1 / 0  # noqa: B018
    assert gc.isenabled()
