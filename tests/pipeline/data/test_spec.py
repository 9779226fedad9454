import pytest

from pipeline.data import Preprocess
from pipeline.data.spec import named_metrics
from pipeline.errors import DataError


@pytest.mark.parametrize("mode", ["torch", "caffe"])
def test_modes_for_colors_refuse_gray(npz_source, mode):
    with pytest.raises(DataError, match="is for RGB"):
        npz_source(preprocess=Preprocess(mode=mode)).split("test")


def test_metrics_are_told_of_all_outputs_each_once():
    assert named_metrics({"a": ("accuracy", "mae"), "b": ("mae",)}) == ("accuracy", "mae")
    assert named_metrics(None) == ()
