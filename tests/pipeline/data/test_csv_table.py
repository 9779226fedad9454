import numpy as np
import pytest

from pipeline.data.csv_table import CsvSettings, CsvTable
from pipeline.errors import DataError

HOUSES = "rooms,area,city,price\n" + "".join(f"{i},{i * 10}.5,x,{i * 3}.25\n" for i in range(1, 21))
CSV = {"source": "csv", "path": "t.csv"}


@pytest.fixture
def table(tmp_path):
    def write(text, name="t.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
        return path

    return write


def test_numeric_columns_and_a_target_are_regression(table, source):
    data = source(table(HOUSES), **CSV, inputs=["area", "rooms"], label="price", test={"fraction": 0.2})
    train, validation, test = (data.split(name) for name in ("train", "validation", "test"))
    assert (train.task, len(train), len(validation), len(test)) == ("regression", 14, 2, 4)
    together = np.concatenate([split.inputs() for split in (train, validation, test)])
    assert sorted(together[:, 1].tolist()) == list(range(1, 21))
    for split in (train, validation, test):
        inputs, targets = split.take(np.arange(len(split)))
        assert np.allclose(inputs[:, 0], inputs[:, 1] * 10 + 0.5)
        assert np.allclose(targets, inputs[:, 1] * 3 + 0.25)
        assert targets.dtype == np.float32


def test_words_are_classes_sorted_or_in_the_order_named(table, source):
    path = table("a,kind\n1,dog\n2,cat\n3,dog\n4,cat\n")
    split = source(path, **CSV, label="kind", validation={"fraction": 0.4}).split("train")
    assert (split.classes, split.task) == (("cat", "dog"), "classes")
    named = source(path, **CSV, label="kind", classes=["dog", "cat"], validation="none").split("train")
    assert named.y.tolist() == [0, 1, 0, 1]
    with pytest.raises(DataError, match=r"'cat', which data\.classes does not name"):
        source(path, **CSV, label="kind", classes=["dog"]).split("train")


def test_all_other_columns_are_inputs_and_whole_numbers_are_classes(table, source):
    split = source(table("a,b,y\n1,2,0\n3,4,1\n"), **CSV, label="y", validation="none").split("train")
    assert split.inputs().tolist() == [[1, 2], [3, 4]]
    assert (split.task, split.y.tolist()) == ("classes", [0, 1])
    said = source(table("a,b,y\n1,2,0\n3,4,1\n"), **CSV, label="y", task="regression", validation="none")
    assert said.split("train").y.dtype == np.float32


def test_a_header_with_blanks_and_empty_lines_before_it_tells_what_is_read(table, source):
    data = source(table("\n\na, b, y \n" + "1,2,0\n3,4,1\n" * 20), **CSV, label="y", validation={"fraction": 0.5})
    assert data.shapes() == ({"": (2,)},)
    assert data.split("train").input_shapes() == data.split("validation").input_shapes() == ((2,),)


ROWS = "\n" + "1,2,3,4,5,6,7.5\n" * 20
TWICE = "a,b,c,d,e,a,price" + ROWS


@pytest.mark.parametrize(
    ("text", "settings", "what", "hint"),
    [
        (TWICE, {}, r"the header names columns 1 and 6 'a'", "inputs: "),
        ("a,b,a ,d,e,a,price" + ROWS, {}, r"the header names columns 1, 3 and 6 'a'", "inputs: "),
        (TWICE, {"inputs": ["b", "a"]}, r"the header names columns 1 and 6 'a'", "a name of its own"),
        (
            "a,price,c,d,e,f,price" + ROWS,
            {"inputs": ["c"]},
            r"the header names columns 2 and 7 'price'",
            "a name of its own",
        ),
        (",b,c,d,e,,price" + ROWS, {}, r"leaves columns 1 and 6 without a name", "inputs: "),
    ],
)
def test_a_column_that_is_named_twice_is_refused_when_planned_and_when_read(table, source, text, settings, what, hint):
    path = table(text)
    data = source(path, **CSV, label="price", **settings)
    for read in (lambda: data.digest("train"), lambda: data.split("train")):
        with pytest.raises(DataError, match=what) as error:
            read()
        assert error.value.where == str(path)
        assert hint in error.value.hint


def test_a_column_named_twice_that_nothing_reads_does_no_harm(table, source):
    data = source(table(TWICE), **CSV, label="price", inputs=["e", "b"])
    assert data.shapes() == ({"": (2,)},)
    assert data.split("train").inputs()[0].tolist() == [5, 2]


def test_several_label_columns_of_zeros_and_ones_are_multilabel(table, source):
    path = table("a,sun,rain\n1,1,1\n2,0,0\n3,0,1\n")
    split = source(path, **CSV, label=["sun", "rain"], validation="none").split("train")
    assert split.task == "multilabel"
    assert split.y.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert split.inputs().tolist() == [[1], [2], [3]]


def test_classes_are_the_same_in_every_split(table, source):
    path = table("a,kind,part\n1,cat,train\n2,dog,train\n3,fox,train\n4,fox,test\n")
    data = source(path, **CSV, inputs=["a"], label="kind", split="part", test="test", validation="none")
    assert data.split("test").y.tolist() == [2]
    assert data.split("test").classes == data.split("train").classes == ("cat", "dog", "fox")
    for name, text in (("train", "a,kind\n1,cat\n2,dog\n3,fox\n"), ("test", "a,kind\n4,fox\n")):
        table(text, f"files/{name}.csv")
    settings = {**CSV, "label": "kind", "test": "test", "validation": "none"}
    with pytest.raises(DataError, match="classes have to be named for all") as caught:
        source(path.parent / "files", **settings).split("train")
    assert caught.value.hint == "data.classes: [cat, dog, fox]"
    named = source(path.parent / "files", **settings, classes=["cat", "dog", "fox"])
    assert named.split("test").y.tolist() == [2]


def test_what_a_label_is_does_not_depend_on_the_split(table, source):
    path = table("a,y,part\n1,1.5,train\n2,2,test\n")
    data = source(path, **CSV, inputs=["a"], label="y", split="part", test="test")
    assert data.split("test").task == "regression"


def test_several_inputs_by_name(table, source):
    inputs = {"one": ["a"], "two": ["c", "b"]}
    split = source(table("a,b,c\n1,2,3\n4,5,6\n"), **CSV, inputs=inputs, validation="none").split("train")
    assert split.input_names == ("one", "two")
    assert split.input_shapes() == ((1,), (2,))
    taken, targets = split.take(np.array([1]))
    assert {name: array.tolist() for name, array in taken.items()} == {"one": [[4]], "two": [[6, 5]]}
    assert targets is None


def test_a_column_or_files_tell_splits_apart(table, source, splits_of):
    path = table("a,y,part\n1,0.5,train\n2,1.5,test\n3,2.5,train\n")
    data = source(path, **CSV, label="y", split="part", test="test", validation="none")
    assert data.split("test").inputs().tolist() == [[2]]
    assert data.split("train").y.tolist() == [0.5, 2.5]
    labelled = CsvSettings(path=path, label="y", split="part")
    assert splits_of(CsvTable, path, labelled) == {"train": True, "test": True}
    assert splits_of(CsvTable, path, CsvSettings(path=path)) == {"train": False}
    with pytest.raises(DataError, match="no rows of split none"):
        data.split("validation")
    table("a,y\n1,0.5\n", "folder/train.csv")
    table("a,y\n2,1.5\n", "folder/test.csv")
    files = source(path.parent / "folder", **CSV, label="y", test="test", validation="none")
    assert files.split("test").inputs().tolist() == [[2]]
    assert splits_of(CsvTable, files.path, CsvSettings(path=files.path)) == {"train": False, "test": False}
    with pytest.raises(DataError, match=r"there is no none\.csv"):
        files.digest("validation")


def test_rows_are_found_by_offset_across_quotes_and_empty_lines(table, source):
    path = table('\ufeffa,"b",note\r\n1,2,"two\r\nlines, and ""more"""\r\n\r\n3,4,x\r\n5,6,"y"\r\n')
    split = source(path, **CSV, inputs=["a", "b"], validation="none").split("train")
    assert split.take(np.array([2, 0, 1]))[0].tolist() == [[5, 6], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("a,b\n1,2\n", {"label": "prize"}, "no column 'prize'"),
        ("a,b\n1,x\n", {}, "line 2, column 'b': 'x' is not a finite number"),
        ("a,b\n1,nan\n", {}, "'nan' is not a finite number"),
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 cells, the header 2"),
        ("", {}, "the file is empty"),
        ("a" * 140_000, {}, "the header can't be read: field larger than"),
        ("a,b\n", {}, "there are no rows"),
        ("a,b\n1,2\n", {"test": "test"}, "no split test of its own"),
    ],
)
def test_tables_that_mean_nothing_are_named(table, source, text, settings, words):
    data = source(table(text), **CSV, validation="none" if "test" in settings else {"fraction": 0.5}, **settings)
    with pytest.raises(DataError, match=words):
        data.split("test" if "test" in settings else "train").inputs()


def test_a_table_that_changes_is_not_read_on(table, source):
    path = table("a,b\n1,2\n3,4\n")
    split = source(path, **CSV, validation="none").split("train")
    path.write_text("a,b\n9,9\n3,4\n")
    with pytest.raises(DataError, match="changed during the run"):
        split.inputs()


def test_the_digest_is_of_the_table_and_the_settings(table, source, tmp_path):
    path = table(HOUSES)
    digest = source(path, **CSV, label="price").digest("train")
    copy = table(HOUSES, "elsewhere.csv")
    assert source(copy, **CSV, label="price").digest("train") == digest
    assert source(path, **CSV, label="rooms").digest("train") != digest
    table(HOUSES.replace("10.5", "11.5"), "elsewhere.csv")
    assert source(copy, **CSV, label="price").digest("train") != digest


IMAGES = {"source": "csv", "path": "t.csv", "image": "file", "size": [2, 2]}


def test_images_by_path_with_their_labels(table, source, make_images, image):
    make_images({f"{i}.png": i * 20 for i in range(4)})
    path = table("file,kind\nimages/3.png,b\nimages/0.png,a\nimages/1.png,b\n")
    data = source(path, **IMAGES, label="kind", validation="none")
    split = data.split("train")
    assert split.inputs()[:, 0, 0, 0].tolist() == [60, 0, 20]
    assert (split.y.tolist(), split.classes) == ([1, 0, 1], ("a", "b"))
    digest = data.digest("train")
    (path.parent / "images" / "1.png").write_bytes(image(21))
    assert source(path, **IMAGES, label="kind", validation="none").digest("train") != digest
    (path.parent / "images" / "1.png").unlink()
    with pytest.raises(DataError, match=r"images/1\.png can't be read"):
        source(path, **IMAGES, label="kind", validation="none").digest("train")


def test_labels_by_output_are_words_or_numbers_each(table, source):
    path = table("a,kind,level\n1,cat,0.5\n2,dog,1.5\n3,cat,2.5\n")
    data = source(path, **{**CSV, "inputs": ["a"], "label": {"what": "kind", "size": "level"}, "validation": "none"})
    split = data.split("train")
    assert (split.task, split.classes) == ({"what": "classes", "size": "regression"}, {"what": ("cat", "dog")})
    assert (split.y["what"].tolist(), split.y["size"].ravel().tolist()) == ([0, 1, 0], [0.5, 1.5, 2.5])
    assert split.of_output("what").classes == ("cat", "dog")


def test_paths_of_images_that_nothing_says_are_such_are_no_numbers(table, source):
    path = table("path,label\na/1.png,a\nb/1.png,b\n")
    with pytest.raises(DataError, match=r"line 2, column 'path': 'a/1.png' is not a finite number") as caught:
        source(path, **CSV, label="label", validation="none").split("train")
    assert "`image: path`" in caught.value.hint
