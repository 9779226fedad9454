import numpy as np
import pytest

from stages.prune.ranking.reduction import normalized


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [2.0, 3.0, 4.0]), ("max", [3.0, 4.0, 5.0]), ("sum", [4.0, 6.0, 8.0]), ("first", [3.0, 4.0, 5.0])],
)
def test_reductions_over_the_layers_that_make_a_channel(two_layers, how, expected, scores):
    for name, values in (("a", [1.0, 2.0, 3.0]), ("b", [3.0, 4.0, 5.0])):
        kernel = two_layers.get_layer(name).kernel
        kernel.assign(np.ones(kernel.shape) * values)
    # b is the first: as in the model, layers are ordered by their depth.
    np.testing.assert_allclose(scores(two_layers, "l1", reduction=how)["b"], expected)


def test_normalisations_make_groups_comparable():
    values = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(normalized(values, "none"), values)
    np.testing.assert_allclose(normalized(values, "mean"), values / 2)
    np.testing.assert_allclose(normalized(values, "max"), values / 3)
    np.testing.assert_allclose(normalized(values, "standardised"), (values - 2) / values.std())
    for how in ("mean", "max", "standardised"):  # dead groups would divide by zero
        assert np.isfinite(normalized(np.zeros(3), how)).all()
