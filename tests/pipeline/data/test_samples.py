import numpy as np
import pytest

from pipeline.data import Preprocess


@pytest.mark.parametrize(("mode", "expected"), [("tf", 1.0), ("torch", (1 - 0.485) / 0.229), ("caffe", 255 - 103.939)])
def test_named_modes_are_keras_own(mode, expected):
    white = np.full((1, 2, 2, 3), 255, np.uint8)
    assert Preprocess(mode=mode)(white)[0, 0, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_mode_and_scale_exclude_each_other():
    with pytest.raises(ValueError, match="either mode or scale"):
        Preprocess(mode="tf", scale=2.0)
