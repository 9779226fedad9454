import tracemalloc

import numpy as np
import pytest

from pipeline.data.tfrecord import TFRecords
from pipeline.errors import DataError, RecipeError
from stages.keras.tensorflow import import_tensorflow

FEATURES = {"x": {"type": "float32", "shape": [2]}, "y": {"type": "int64"}}
RECORDS = {"source": "tfrecord", "path": "d", "features": FEATURES, "label": "y", "validation": "none"}


def example(**features):
    tf = import_tensorflow()
    kinds = {
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])),
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])),
        list: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v)),
    }
    made = {name: kinds[type(value)](value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


@pytest.fixture
def write(tmp_path):
    def write(name, examples, options=None):
        path = tmp_path / "records" / name
        path.parent.mkdir(exist_ok=True)
        with import_tensorflow().io.TFRecordWriter(str(path), options) as writer:
            for one in examples:
                writer.write(one)
        return path

    return write


def numbers(count, first=0):
    return [example(x=[float(i), i + 0.5], y=i % 3) for i in range(first, first + count)]


def test_records_are_read_by_number_over_several_files(write, source, splits_of):
    write("train-00000-of-00002", numbers(5))
    write("train-00001-of-00002", numbers(5, 5))
    folder = write("test.tfrecord", numbers(2, 50)).parent
    data = source(folder, **RECORDS, test="test")
    train = data.split("train")
    assert (train.task, train.input_shapes(), len(train)) == ("classes", ((2,),), 10)
    inputs, labels = train.take(np.array([7, 0, 4]))
    assert inputs.tolist() == [[7, 7.5], [0, 0.5], [4, 4.5]]
    assert labels.tolist() == [1, 0, 1]
    assert data.split("test").inputs()[:, 0].tolist() == [50, 51]
    assert splits_of(TFRecords, folder, data.spec.settings) == {"train": True, "test": True}


def test_one_file_is_divided_by_the_seed(write, source):
    path = write("all.tfrecord", numbers(30))
    data = source(path, **{**RECORDS, "validation": {"fraction": 0.2}}, test={"fraction": 0.1})
    parts = [data.split(name).inputs()[:, 0] for name in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(30))
    assert [np.bincount(data.split(n).y).tolist() for n in ("validation", "test")] == [[2, 2, 2], [1, 1, 1]]


def test_images_raw_arrays_and_several_inputs(write, source, image):
    features = {
        "picture": {"type": "image"},
        "raw": {"type": "raw", "dtype": "int16", "shape": [2]},
        "target": {"type": "float32", "shape": [1]},
    }
    raw = np.array([[1, -2], [3, 4]], "<i2")
    made = [example(picture=image(40 * i), raw=raw[i].tobytes(), target=[i + 0.5]) for i in range(2)]
    settings = {"features": features, "label": "target", "size": [3, 5], "channels": 1, "validation": "none"}
    split = source(write("train.tfrecord", made), source="tfrecord", path="d", **settings).split("train")
    assert split.input_names == ("picture", "raw")
    assert split.input_shapes() == ((3, 5, 1), (2,))
    assert (split.task, split.y.tolist()) == ("regression", [[0.5], [1.5]])
    inputs = split.inputs()
    assert inputs["picture"][:, 0, 0, 0].tolist() == [0, 40]
    assert inputs["raw"].tolist() == raw.tolist()
    one = source(write("train.tfrecord", made), source="tfrecord", path="d", inputs=["raw"], **settings).split("train")
    assert one.input_names is None
    short = {**features, "raw": {"type": "raw", "dtype": "float32", "shape": [2]}}
    wrong = source(write("t", made), source="tfrecord", path="d", **{**settings, "features": short}).split("train")
    with pytest.raises(DataError, match=r"record 0 of t: 'raw' has 4 bytes, 8 are needed"):
        wrong.inputs()


def test_pictures_that_do_not_decode_are_left_out_up_to_their_share(write, source, image):
    features = {"a": {"type": "image"}, "b": {"type": "image"}}
    made = [example(a=b"x" if i == 3 else image(i), b=b"x" if i == 5 else image(i)) for i in range(10)]
    path = write("train", made)
    settings = {"source": "tfrecord", "path": "d", "features": features, "size": [2, 2], "validation": "none"}
    with pytest.raises(DataError, match=r"1 of 10 images that were read can't be decoded: record 3 of train \("):
        source(path, **settings).split("train").inputs()
    split = source(path, **settings, max_undecodable=0.2).split("train")
    assert split.inputs()["b"][:, 0, 0, 0].tolist() == [0, 1, 2, 4, 6, 7, 8, 9]
    with pytest.raises(DataError, match=r"20.00% is more than the 10.00%"):
        source(path, **settings, max_undecodable=0.1).split("train")


def test_memory_does_not_grow_with_the_records(write, source):
    features = {"x": {"type": "float32", "shape": [5000]}}
    path = write("train", (example(x=[0.5] * 5000) for _ in range(200)))
    settings = {**RECORDS, "features": features, "label": None}
    split = source(path, **settings).split("train")
    split.inputs(0, 2)
    tracemalloc.start()
    total = sum(inputs.sum() for inputs, _ in split.batches(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 0.5 * 5000 * 200
    assert peak < 20 * 4 * 5000 * 4  # of 200 × 5000 × 4


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-7], "cut short, or no TFRecord, at byte"),
        (lambda data: b"not a record at all, but text " * 3, "cut short, or no TFRecord, at byte 0"),
        (lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], "damaged"),
        (lambda data: b"", "there are no records"),
    ],
)
def test_damaged_files_are_named(write, source, damage, words):
    path = write("train", numbers(5))
    path.write_bytes(damage(path.read_bytes()))
    for task in ({}, {"task": "unlabelled"}):
        with pytest.raises(DataError, match=words) as caught:
            source(path, **RECORDS, **task).split("train")
        assert caught.value.where.endswith("train")


def test_a_record_that_lacks_a_feature_is_named(write, source):
    path = write("train", [*numbers(3), example(x=[1.0, 2.0])])
    with pytest.raises(DataError, match="record 3 of train does not hold y"):
        source(path, **RECORDS).split("train")
    path = write("train", [*numbers(3), example(x=[1.0], y=1)])
    with pytest.raises(DataError, match="record 3 of train does not hold x"):
        source(path, **RECORDS).split("train").inputs()


def test_names_that_are_none_are_the_recipe_s_mistake(write, source):
    path = write("train", numbers(1))
    with pytest.raises(RecipeError, match="'z' is not a feature"):
        source(path, **{**RECORDS, "label": "z"})
    with pytest.raises(DataError, match="there are no files of split test"):
        source(path.parent, **RECORDS, test="test").digest("test")


def test_a_file_that_changes_is_not_read_on(write, source):
    path = write("train", numbers(3))
    data = source(path, **RECORDS)
    split, digest = data.split("train"), data.digest("train")
    write("train", numbers(3, 3))
    with pytest.raises(DataError, match="changed during the run"):
        split.inputs()
    assert source(path, **RECORDS).digest("train") != digest


def test_labels_by_output_are_features(write, source):
    path = write("train.tfrecord", numbers(4))
    settings = {**RECORDS, "features": {"x": {"type": "float32", "shape": [2]}, "y": {"type": "int64"}}}
    split = source(path, **{**settings, "label": {"kind": "y"}}).split("train")
    assert (split.task, split.y["kind"].tolist(), split.input_shapes()) == ({"kind": "classes"}, [0, 1, 2, 0], ((2,),))


def test_tfrecords_tell_by_their_features(tmp_path, data_of):
    (tmp_path / "t.tfrecord").write_bytes(b"")
    features = {"pixels": {"type": "image"}, "more": {"type": "float32", "shape": [5]}, "y": {"type": "int64"}}
    settings = {"source": "tfrecord", "path": "t.tfrecord", "size": [4, 6], "label": "y", "features": features}
    assert data_of(settings, tmp_path).shapes() == ({"pixels": (4, 6, 3), "more": (5,)},)
    assert data_of({**settings, "inputs": ["pixels"]}, tmp_path).shapes() == ({"": (4, 6, 3)},)
