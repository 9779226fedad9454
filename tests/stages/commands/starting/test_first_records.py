import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.records.artifacts import TensorSpec
from stages.commands.starting.first_records import of_records
from stages.keras.tensorflow import import_tensorflow

THREADS = 2


@pytest.fixture
def guessed(tmp_path):
    """Write one example, and return the settings that are guessed from it for an input of this shape."""

    def guess(shape, **features):
        tf = import_tensorflow()
        kinds = {bytes: ("bytes_list", tf.train.BytesList), int: ("int64_list", tf.train.Int64List)}
        made = {}
        for name, value in features.items():
            values = value if isinstance(value, list) else [value]
            field, kind = kinds.get(type(values[0]), ("float_list", tf.train.FloatList))
            made[name] = tf.train.Feature(**{field: kind(value=values)})
        with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
            writer.write(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())
        found = of_records(tmp_path, TensorSpec(name="x", shape=(None, *shape), dtype="float32"), THREADS)
        return {own.key: own.value for own in found}

    return guess


def test_the_feature_that_fits_the_input_is_taken_and_the_label_by_its_name(guessed):
    png = import_tensorflow().io.encode_png(np.zeros((5, 5, 1), np.uint8)).numpy()
    found = guessed((8, 6, 1), image=png, label=3, height=5, name=b"a.png")
    features = {"image": {"type": "image"}, "label": {"type": "int64"}}
    assert found == {"features": features, "size": (8, 6), "channels": 1, "label": "label"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (bytes(12), {"type": "raw", "dtype": "uint8", "shape": (2, 6)}),
        (bytes(48), {"type": "raw", "dtype": "float32", "shape": (2, 6)}),
        ([0.5] * 12, {"type": "float32", "shape": (2, 6)}),
        ([7] * 12, {"type": "int64", "shape": (2, 6)}),
    ],
)
def test_arrays_are_told_by_their_size(guessed, values, kind):
    assert guessed((2, 6), x=values, kind=1)["features"] == {"x": kind, "kind": {"type": "int64"}}
    assert guessed((2, 6), x=values, kind=1, other=2) == {"features": {"x": kind}}  # which is the label?


def test_what_can_not_be_told_is_named_with_the_features_that_are_there(guessed, tmp_path):
    with pytest.raises(DataError, match=r"no feature of its examples fits the model's input 'x' .*; features: a, b"):
        guessed((2, 6), a=[1.0] * 5, b=2)
    with pytest.raises(DataError, match="more than one feature of its examples fits"):
        guessed((2,), a=[1.0] * 2, b=[2.0] * 2)
    with import_tensorflow().io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        writer.write(b"\xff\xff")
    entry = TensorSpec(name="x", shape=(None, 2), dtype="float32")
    with pytest.raises(DataError, match=r"no tf\.train\.Examples"):
        list(of_records(tmp_path, entry, THREADS))
    (tmp_path / "train-0").rename(tmp_path / "other-0")
    with pytest.raises(DataError, match="no files of split train"):
        list(of_records(tmp_path, entry, THREADS))
