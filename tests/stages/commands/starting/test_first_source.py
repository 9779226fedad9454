"""Tell what data is, and which columns of a table are what."""

import numpy as np
import pytest

from pipeline.errors import DataError, RecipeError
from pipeline.records.artifacts import TensorSpec
from stages.commands.starting.first_source import label_among, of_images, of_table, source_at


def entry(*shape):
    return TensorSpec(name="x", shape=(None, *shape), dtype="float32")


def settings(found):
    return {own.key: own.value for own in found}


def table(path, *lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_what_data_is_is_told_from_its_content(tmp_path):
    np.savez(tmp_path / "a.bin", x_train=np.zeros(3))
    (tmp_path / "a.bin.npz").rename(tmp_path / "a.bin")
    assert source_at(tmp_path / "a.bin") == ("npz", tmp_path / "a.bin")
    csv = table(tmp_path / "tables" / "labels.csv", "a,label", "1,0")
    assert source_at(csv) == ("csv", csv)
    assert source_at(tmp_path / "tables") == ("csv", csv)  # the only one of its folder
    table(tmp_path / "tables" / "train.csv", "a,label", "1,0")
    assert source_at(tmp_path / "tables") == ("csv", tmp_path / "tables")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.PNG").touch()
    assert source_at(tmp_path / "photos") == ("image_folder", tmp_path / "photos")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "train-0").write_bytes((20).to_bytes(8, "little") + bytes(28))
    assert source_at(tmp_path / "records") == ("tfrecord", tmp_path / "records")


def test_what_no_source_reads_is_named(tmp_path):
    with pytest.raises(RecipeError, match="the data can't be read: no such file"):
        source_at(tmp_path / "none")
    (tmp_path / "data.py").write_text("def load():\n    return 1, 2\n")
    with pytest.raises(RecipeError, match="of no kind that is known here"):
        source_at(tmp_path / "data.py")
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    with pytest.raises(RecipeError, match="holds no images, csv files or TFRecords") as error:
        source_at(tmp_path)
    assert error.value.hint == "name the file: a.npz"


def test_a_column_is_the_label_by_its_name_or_since_it_remains(tmp_path):
    named = table(tmp_path / "a.csv", "y,a,b", "0,1.5,2", "1,2.5,3")
    assert settings(of_table(named, entry(2))) == {"label": "y"}
    remaining = table(tmp_path / "b.csv", "a,b,kind", "1.5,2,iris", "2.5,3,rose")
    (label,) = of_table(remaining, entry(2))
    assert (label.value, label.doubt) == ("kind", "guessed, no column is called label")
    last = table(tmp_path / "c.csv", "a,b,price", "1.5,2,3", "2.5,3,4")
    assert settings(of_table(last, entry(2))) == {"label": "price"}
    assert settings(of_table(last, entry(3))) == {}  # all are inputs
    with pytest.raises(DataError, match="takes 1, and the table has 2 columns of numbers besides the label: a, b"):
        list(of_table(named, entry(1)))
    with pytest.raises(DataError, match="takes 2×1, and the table has 2 columns"):
        list(of_table(named, entry(2, 1)))
    pandas = table(tmp_path / "d.csv", ",a,b,note,label", "0,1.5,2,x,0", "1,2.5,3,y,1")
    assert settings(of_table(pandas, entry(2))) == {"inputs": ("a", "b"), "label": "label"}


def test_images_and_splits_of_a_table_are_columns_too(tmp_path):
    file = table(tmp_path / "a.csv", "file,class,subset", "a.png,0,train", "b.jpg,1,test")
    found = settings(of_table(file, entry(32, 24, 1)))
    assert found == {"split": "subset", "image": "file", "size": (32, 24), "channels": 1, "label": "class"}


def test_words_in_files_of_their_own_are_listed_as_classes(tmp_path):
    for split in ("train", "test"):
        table(tmp_path / "t" / f"{split}.csv", "a,label", "1,rose", "2,iris", "3,rose")
    assert settings(of_table(tmp_path / "t", entry(1))) == {"label": "label", "classes": ("iris", "rose")}


def test_a_table_without_rows_and_images_for_vectors_are_refused(tmp_path):
    with pytest.raises(DataError, match="the csv holds no rows"):
        list(of_table(table(tmp_path / "a.csv", "a,b"), entry(1)))
    with pytest.raises(RecipeError, match="no such file"):
        list(of_table(table(tmp_path / "t" / "test.csv", "a,b").parent, entry(1)))
    with pytest.raises(DataError, match=r"the data is images, and the model's input 'x' has shape \(None, 10\)"):
        list(of_images(entry(10)))


def test_labels_are_known_at_the_end_of_a_path():
    assert label_among(["image/height", "image/class/label"]) == "image/class/label"
    assert label_among(["a", "Target"]) == "Target"
    assert label_among(["a", "b"]) is None
