import numpy as np
import pytest

from stages.load.slices import spelled_out, without_ellipses


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((..., 0), [":", ":", 0]),
        ((0, ..., 1), [0, ":", 1]),
        ((..., None, 2), [":", ":", None, 2]),  # a new axis reads none
        (..., [":", ":", ":"]),
        ((1, 2), (1, 2)),
    ],
)
def test_an_ellipsis_is_as_many_axes_as_are_left(key, expected):
    assert spelled_out(key, 3, ":") == expected


def test_a_model_can_be_written_once_its_slices_have_none(keras2, tmp_path):
    image = keras2.Input((4, 4, 3))
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    plain = keras2.Model(image, keras2.layers.ReLU()(image))
    assert without_ellipses(plain) is plain
    model = keras2.Model(image, image[..., 1])
    found = without_ellipses(keras2.Model.from_config(model.get_config()))  # as it comes out of a file
    found.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras2.models.load_model(tmp_path / "m.keras")(x), x[..., 1])
