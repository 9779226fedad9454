import os
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from pipeline.data.image_folder import ImageFolder
from pipeline.errors import ChangedDataError, DataError
from pipeline.store import file_digests

FLAT = {f"{name}/{index}.png": 10 * place + index for place, name in enumerate(("cat", "dog")) for index in range(10)}
SPLIT = {f"{split}/{name}": value for split in ("train", "test") for name, value in FLAT.items()}
FORM = {"source": "image_folder", "path": ".", "size": [3, 4]}


@pytest.fixture
def hashed(monkeypatch):
    """Return the names of the files that are hashed."""
    names = []
    digest_of_file = file_digests.digest_of_file
    monkeypatch.setattr(file_digests, "digest_of_file", lambda path: (names.append(path.name), digest_of_file(path))[1])
    return names


def test_labels_count_the_class_folders_in_sorted_order(make_images, source):
    split = source(make_images(SPLIT), **FORM, test="test").split("test")
    assert split.classes == ("cat", "dog")
    assert split.task == "classes"
    assert split.y.tolist() == [0] * 10 + [1] * 10
    assert split.input_shapes() == ((3, 4, 3),)
    inputs, labels = split.take(np.array([11, 0]))
    assert inputs.dtype == np.float32
    assert inputs[:, 0, 0, 0].tolist() == [11, 0]
    assert labels.tolist() == [1, 0]
    assert split.inputs(8, 12)[:, 2, 3, 2].tolist() == [8, 9, 10, 11]


def test_classes_may_be_named_in_the_model_s_order(make_images, source):
    split = source(make_images(SPLIT), **FORM, classes=["dog", "cat"], test="test").split("test")
    assert split.y.tolist() == [1] * 10 + [0] * 10
    assert split.classes == ("dog", "cat")


def test_class_names_are_told_without_reading_any_image(make_images, source):
    for files in (SPLIT, FLAT):
        folder = make_images(files)
        spec = source(folder, **FORM, test={"fraction": 0.2} if files is FLAT else "test").spec
        assert spec.class_names(folder) == ("cat", "dog")
        assert spec.model_copy(update={"classes": ("dog", "cat")}).class_names(folder) == ("dog", "cat")
        assert spec.model_copy(update={"task": "unlabelled"}).class_names(folder) is None
        assert spec.class_names(folder / "elsewhere") is None


def test_one_folder_is_divided_by_the_seed_with_each_class_in_its_share(make_images, source):
    data = source(make_images(FLAT), **FORM, test={"fraction": 0.2}, validation={"fraction": 0.25})
    train, validation, test = (data.split(name) for name in ("train", "validation", "test"))
    assert [np.bincount(split.y).tolist() for split in (train, validation, test)] == [[6, 6], [2, 2], [2, 2]]
    values = [set(split.inputs()[:, 0, 0, 0].tolist()) for split in (train, validation, test)]
    assert set.union(*values) == set(range(20))
    assert sum(map(len, values)) == 20
    again = source(make_images(FLAT), **FORM, test={"fraction": 0.2}, validation={"fraction": 0.25})
    assert again.digest("test") == test.digest
    other = source(make_images(FLAT), 8, **FORM, test={"fraction": 0.2})
    assert other.split("test").inputs()[:, 0, 0, 0].tolist() != test.inputs()[:, 0, 0, 0].tolist()


def test_preprocessing_and_channels(make_images, source):
    folder = make_images(FLAT)
    split = source(folder, **FORM, channels=1, preprocess={"scale": 0.5, "offset": -1}).split("train")
    assert split.input_shapes() == ((3, 4, 1),)
    assert split.take(np.array([0]))[0][0, 0, 0, 0] in (-1.0, -0.5)
    with pytest.raises(DataError, match="is for RGB"):
        source(folder, **FORM, channels=1, preprocess={"mode": "torch"}).split("train")


def test_images_without_class_folders_are_unlabelled(make_images, source, splits_of):
    data = source(make_images({f"{index}.png": index for index in range(6)}), **FORM)
    split = data.split("calibration")
    assert (split.task, split.y) == ("unlabelled", None)
    assert sorted(split.inputs()[:, 0, 0, 0].tolist() + data.split("validation").inputs()[:, 0, 0, 0].tolist()) == [
        *range(6)
    ]
    assert next(split.batches(4))[1] is None
    assert splits_of(ImageFolder, data.path, data.spec.settings) == {"train": False}
    path = make_images({"train/a/1.png": 1, "train/b/2.png": 2, "test/a/3.png": 3}, "in splits")
    assert splits_of(ImageFolder, path, data.spec.settings) == {"train": True, "test": True}


def test_labels_may_be_left_aside(make_images, source):
    split = source(make_images(FLAT), **FORM, task="unlabelled", validation="none").split("train")
    assert (split.task, split.y, split.classes, len(split)) == ("unlabelled", None, None, 20)


def test_the_digest_is_of_content_classes_and_form_never_of_the_place(make_images, source, tmp_path):
    folder = make_images(FLAT)
    digest = source(folder, **FORM).digest("train")
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "cat" / "0.png").rename(moved / "cat" / "00.png")  # the same order
    assert source(moved, **FORM).digest("train") == digest
    assert source(folder, **{**FORM, "size": [4, 4]}).digest("train") != digest
    assert source(folder, **FORM, resize="nearest").digest("train") != digest
    (moved / "cat").rename(moved / "bat")
    assert source(moved, **FORM).digest("train") != digest
    (folder / "dog" / "3.png").write_bytes((folder / "dog" / "4.png").read_bytes())
    assert source(folder, **FORM).digest("train") != digest


def test_unchanged_images_are_hashed_once_by_all_processes(make_images, source, tmp_path, hashed, monkeypatch):
    folder, memory = make_images(FLAT), tmp_path / "store" / "file-digests.json"
    now = file_digests.time.time_ns
    monkeypatch.setattr(file_digests.time, "time_ns", lambda: now() + 10_000_000_000)
    (tmp_path / "tmp").mkdir()

    def digest():
        data = source(folder, memory=memory, **FORM)
        found = data.digest("train")
        data._reader._digests.save(tmp_path / "tmp")
        return found

    first = digest()
    assert len(hashed) == 20
    assert digest() == first
    assert len(hashed) == 20
    assert len(list((tmp_path / "store" / "file-digests").iterdir())) == 1
    path = folder / "dog" / "7.png"
    before = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))  # the same size, and put back to the same time
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest() != first
    assert hashed[20:] == ["7.png"]


def test_files_changed_just_now_are_hashed_again(make_images, source, tmp_path, hashed):
    folder, memory = make_images(FLAT), tmp_path / "file-digests.json"
    data = source(folder, memory=memory, **FORM)
    data.digest("train")
    data._reader._digests.save(tmp_path)
    source(folder, memory=memory, **FORM).digest("train")
    assert len(hashed) == 40


def test_an_image_that_changes_after_it_was_hashed_is_never_read(make_images, source, image):
    folder = make_images(FLAT)
    split = source(folder, **FORM).split("train")
    (folder / "cat" / "2.png").write_bytes(image(99))
    with pytest.raises(ChangedDataError, match="changed during the run") as caught:
        split.inputs()
    assert caught.value.where.endswith("cat/2.png")


def test_memory_does_not_grow_with_the_images(make_images, source, image):
    big = image(5, (200, 200))
    split = source(make_images({f"a/{i:03}.png": big for i in range(60)}), **{**FORM, "size": [128, 128]}).split(
        "train"
    )
    split.inputs(0, 2)
    tracemalloc.start()
    total = sum(inputs.sum() for inputs, _ in split.batches(2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == pytest.approx(5.0 * len(split) * 128 * 128 * 3)
    assert peak < 12 * 128 * 128 * 3 * 4  # of 54


def test_digests_need_neither_numpy_nor_tensorflow(make_images, source):
    folder = make_images(FLAT)
    code = (
        "import sys; from pathlib import Path; from pipeline.data import DataSource, DataSpec\n"
        "spec = DataSpec.model_validate_json(sys.argv[2])\n"
        "print(DataSource(spec, Path(sys.argv[1]), 7).digest('train'), {'numpy', 'tensorflow'} & sys.modules.keys())"
    )
    data = source(folder, **FORM)
    command = [sys.executable, "-c", code, folder, data.spec.model_dump_json(by_alias=True)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [data.digest("train"), "set()"]


BROKEN = b"\x89PNG\r\n\x1a\n and no picture"


def test_an_image_that_does_not_decode_is_named(make_images, source):
    split = source(make_images({**FLAT, "dog/5.png": BROKEN, "dog/6.png": b""}), **FORM).split("train")
    with pytest.raises(DataError, match=r"2 of 18 images .* dog/5.png \(.*dog/6.png") as caught:
        split.inputs()
    assert "max_undecodable" in caught.value.hint


def test_a_share_of_them_may_be_left_out_and_is_counted(make_images, source):
    folder = make_images({**FLAT, "dog/5.png": BROKEN})
    data = source(folder, **FORM, max_undecodable=0.1, validation="none")
    split = data.split("train")
    assert len(split) == 19
    assert split.inputs()[:, 0, 0, 0].tolist() == [*range(15), *range(16, 20)]
    (note,) = split.notes
    assert "1 of 20 images of train can't be decoded: dog/5.png" in note
    make_images({"cat/1.png": BROKEN, "cat/2.png": BROKEN})
    with pytest.raises(DataError, match=r"3 of 20 images .* 15.00% is more than the 10.00%"):
        source(folder, **FORM, max_undecodable=0.1, validation="none").split("train")


def test_class_folders_that_differ_between_splits_are_named(make_images, source):
    folder = make_images({**SPLIT, "test/cow/1.png": 3})
    shutil.rmtree(folder / "test" / "dog")
    data = source(folder, **FORM, test="test")
    data.digest("train")
    with pytest.raises(DataError, match="cow only in test; dog only in train"):
        data.digest("test")
    with pytest.raises(DataError, match=r"cat only in train; dog only in train|fox only in data.classes"):
        source(folder, **FORM, classes=["cat", "dog", "fox"]).digest("train")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**SPLIT, "train/loose.png": 1}, "train/loose.png lies next to the class folders"),
        ({"a/readme.txt": b"x"}, "there are no images"),
    ],
)
def test_folders_that_mean_nothing_are_named(make_images, source, files, words):
    with pytest.raises(DataError, match=words):
        source(make_images(files), **FORM).digest("train")


def test_a_split_that_is_not_there_is_named(make_images, source):
    with pytest.raises(DataError, match="there is no folder tset"):
        source(make_images(SPLIT), **FORM, test="tset").digest("test")
    with pytest.raises(DataError, match="the folder has no splits"):
        source(make_images(FLAT, "flat"), **FORM, test="test").digest("test")
