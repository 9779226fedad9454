import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.keras.channels.coupling import connected_components


def by_hand(count, edges):
    """Merge sets one edge at a time, then number them by their smallest member."""
    sets = [{index} for index in range(count)]
    for left, right in edges:
        a = next(found for found in sets if left in found)
        b = next(found for found in sets if right in found)
        if a is not b:
            sets.remove(b)
            a |= b
    sets.sort(key=min)
    return [next(place for place, found in enumerate(sets) if index in found) for index in range(count)]


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_agrees_with_merging_sets_one_by_one(drawn):
    count, edges = drawn
    pairs = [(np.array([left]), np.array([right])) for left, right in edges]
    assert connected_components(count, pairs).tolist() == by_hand(count, edges)


def test_a_chain_in_the_worst_order_is_one_component():
    order = np.random.default_rng(0).permutation(5000)
    assert set(connected_components(5000, [(order[:-1], order[1:])]).tolist()) == {0}
    assert connected_components(0, []).size == 0
