import numpy as np
import pytest

from stages.formats.format import FileTensor
from stages.formats.layers.agreement import agreements, call_scores, layouts
from stages.keras.layer_calls import LayerCall

RNG = np.random.default_rng(0)
IMAGE, OTHER = (RNG.standard_normal((1, 2, 3, 4)).astype(np.float32) for _ in range(2))
CALLS = [
    LayerCall("a", (IMAGE,), frozenset()),
    LayerCall("b", (OTHER,), frozenset({0})),
    LayerCall("c", (np.arange(5),), frozenset()),  # whole numbers tell nothing
]


def test_a_layer_is_found_by_its_numbers_in_either_layout():
    near = OTHER + 1e-3
    tensors = [FileTensor("x", IMAGE.transpose(0, 3, 1, 2)), FileTensor("y", near), FileTensor("z", IMAGE[..., :2])]
    found = agreements(CALLS, tensors)
    assert {place: one.tensor for place, one in found.items()} == {0: "x", 1: "y"}
    np.testing.assert_array_equal(found[0].flat, IMAGE.ravel())
    assert found[0].sqnr_db > 100
    expected = 10 * np.log10(np.square(OTHER.astype(float)).sum() / np.square(near.astype(float) - OTHER).sum())
    assert found[1].sqnr_db == pytest.approx(expected)


def test_a_tensor_represents_the_layer_that_it_is_nearest_to_and_no_other():
    calls = [LayerCall("a", (IMAGE.reshape(6, 4),), frozenset()), LayerCall("b", (OTHER.reshape(6, 4),), frozenset())]
    found = agreements(calls, [FileTensor("noisy", calls[0].outputs[0] + 0.1), FileTensor("same", calls[0].outputs[0])])
    assert {place: one.tensor for place, one in found.items()} == {0: "same"}


def test_every_call_of_the_size_has_a_score_and_no_numbers_have_none():
    scores = call_scores(CALLS, FileTensor("x", IMAGE.transpose(0, 3, 1, 2)))
    assert scores.keys() == {0, 1}
    assert scores[0] > 100 > scores[1]
    assert call_scores(CALLS, FileTensor("x", IMAGE * np.float32(np.nan))) == {}


def test_only_images_have_a_second_layout():
    assert len(layouts(IMAGE)) == 2
    assert len(layouts(np.zeros((2, 3)))) == 1
