import pytest

from stages.keras.regression.steps import GraphCall, front_of, steps_of


def graph(*calls):
    """Return calls from texts such as `conv: x -> y`."""
    made = []
    for call in calls:
        layer, tensors = call.split(": ")
        reads, makes = tensors.split(" -> ")
        made.append(GraphCall(layer, tuple(reads.split()), tuple(makes.split())))
    return made


def told(steps):
    return [(step.layers, step.reads, sorted(step.final), sorted(step.drafts)) for step in steps]


def test_a_chain_has_a_step_a_layer_and_runs_each_call_once():
    calls = graph("a: x -> 1", "relu: 1 -> 2", "b: 2 -> 3", "softmax: 3 -> 4")
    assert told(steps_of(calls, {"a": 1, "b": 1}, 100)) == [(("a",), (0,), [], []), (("b",), (2,), [0, 1], [])]


def test_siblings_share_a_step_up_to_the_limit():
    calls = graph("a: x -> 1", "b: x -> 2", "c: x -> 3", "add: 1 2 3 -> 4", "d: 4 -> 5")
    sizes = {"a": 4, "b": 4, "c": 4, "d": 50}
    assert [step.layers for step in steps_of(calls, sizes, 12)] == [("a", "b", "c"), ("d",)]
    assert [step.layers for step in steps_of(calls, sizes, 8)] == [("a", "b"), ("c",), ("d",)]
    assert [step.layers for step in steps_of(calls, sizes, 0)] == [("a",), ("b",), ("c",), ("d",)]


def test_layers_that_are_not_fitted_run_with_what_they_read():
    calls = graph("lstm: x -> 1", "a: 1 -> 2", "noise: x -> 3", "b: 2 3 -> 4")
    first, second = steps_of(calls, {"a": 1, "b": 1}, 100)
    assert (sorted(first.final), first.reads) == ([0, 2], (1,))
    assert sorted(second.final) == [0, 1, 2]


def test_the_calls_of_a_shared_layer_are_read_together_and_what_lies_between_is_a_draft():
    calls = graph("a: x -> 1", "shared: 1 -> 2", "b: 2 -> 3", "shared: 3 -> 4", "c: 4 -> 5")
    assert told(steps_of(calls, dict.fromkeys("abc", 1) | {"shared": 1}, 0)) == [
        (("a",), (0,), [], []),
        (("shared",), (1, 3), [0], [1, 2]),
        (("b",), (2,), [0, 1], []),
        (("c",), (4,), [0, 1, 2, 3], []),
    ]


def test_a_layer_that_reads_itself():
    calls = graph("shared: x -> 1", "shared: 1 -> 2")
    assert told(steps_of(calls, {"shared": 1}, 100)) == [(("shared",), (0, 1), [], [0])]


@pytest.mark.parametrize(
    ("final", "front"),
    [((), ("x", "z")), ((0,), ("1", "x", "z")), ((0, 1), ("1", "2", "z")), ((0, 1, 2, 3), ())],
)
def test_the_front_is_what_others_read(final, front):
    calls = graph("a: x -> 1", "b: 1 x -> 2", "c: 1 2 -> 3", "add: 3 z -> 4")
    assert set(front_of(calls, frozenset(final), ("x", "z"))) == set(front)
    assert len(front_of(calls, frozenset(final), ("x", "z"))) == len(front)
