import pytest

from pipeline.data import Preprocess
from pipeline.data.spec import named_metrics
from pipeline.errors import DataError


@pytest.mark.parametrize("mode", ["torch", "caffe"])
def test_modes_for_colors_refuse_gray(npz_source, mode):
    with pytest.raises(DataError, match="is for RGB"):
        npz_source(preprocess=Preprocess(mode=mode)).split("test")


def test_empty_braces_are_no_preprocessing_whatever_inputs_are_called(source, tmp_path):
    data = source(tmp_path, source="npz", path="d.npz", preprocess={})
    assert data.spec.preprocess == Preprocess()
    by_name = source(tmp_path, source="npz", path="d.npz", preprocess={"a": {"mode": "tf"}}).spec.preprocess
    assert by_name == {"a": Preprocess(mode="tf")}


def test_metrics_are_told_of_all_outputs_each_once():
    assert named_metrics({"a": ("accuracy", "mae"), "b": ("mae",)}) == ("accuracy", "mae")
    assert named_metrics(None) == ()
