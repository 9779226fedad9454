import numpy as np
import pytest

from pipeline.errors import ModelError, PreconditionError


def test_random_scores_follow_from_the_seed(two_layers, scores):
    first, again, other = (scores(two_layers, "random", seed)["separable"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_data_is_asked_for_where_it_is_needed(two_layers, scores):
    for criterion in ("apoz", "taylor", "hessian"):
        with pytest.raises(PreconditionError, match=f"{criterion} looks at data"):
            scores(two_layers, criterion)
    with pytest.raises(PreconditionError, match="taylor needs labels"):
        scores(two_layers, "taylor", data=np.zeros((2, 6, 6, 2), np.float32))


def test_scores_that_are_not_finite_are_told(two_layers, randomize, scores):
    data = np.full((2, 6, 6, 2), np.inf, np.float32), np.zeros(2, np.int64)
    with pytest.raises(ModelError, match="not finite"):
        scores(randomize(two_layers), "taylor", data=data)
