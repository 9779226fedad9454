import hashlib
import subprocess
import sys

import numpy as np
import pytest

from pipeline.data import DataSource, DataSpec, Preprocess, stratified_part
from pipeline.errors import DataError

SIZES = {"train": 100, "test": 30}


def arrays(seed=0, classes=4):
    rng = np.random.default_rng(seed)
    found = {}
    for split, size in SIZES.items():
        found[f"x_{split}"] = rng.integers(0, 256, (size, 5, 5, 1), dtype=np.uint8)
        found[f"y_{split}"] = np.arange(size, dtype=np.uint8) % classes
    return found


@pytest.fixture
def source(tmp_path):
    def make(seed=7, members=None, compressed=True, **settings):
        (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", **(members or arrays()))
        spec = DataSpec.model_validate_json(
            '{"source": "npz", "path": "d.npz", "test": "test", "preprocess": {"scale": 0.5, "offset": -1},'
            '"calibration": {"take": 16}}'
        )
        return DataSource(spec.model_copy(update=settings), tmp_path / "d.npz", seed)

    return make


def test_validation_is_held_out_of_train_with_each_class_in_its_share(source):
    data = source()
    train, validation = data.split("train"), data.split("validation")
    assert (len(train), len(validation)) == (92, 8)
    assert np.bincount(validation.y).tolist() == [2, 2, 2, 2]
    together = np.concatenate([train.x, validation.x]).reshape(100, -1)
    assert {row.tobytes() for row in together} == {row.tobytes() for row in arrays()["x_train"].reshape(100, -1)}


def test_the_same_seed_draws_the_same_and_another_does_not(source):
    assert np.array_equal(source().split("validation").x, source().split("validation").x)
    assert source(seed=8).digest("validation") != source().digest("validation")
    assert not np.array_equal(source(seed=8).split("validation").x, source().split("validation").x)


def test_calibration_comes_from_what_is_trained_on(source):
    data = source()
    trained_on = {row.tobytes() for row in data.split("train").x}
    calibration = data.split("calibration")
    assert len(calibration) == 16
    assert all(row.tobytes() in trained_on for row in calibration.x)


def test_a_digest_covers_bytes_picking_and_preprocessing_but_not_compression(source):
    names = ("train", "validation", "calibration", "test")
    digests = {name: source().digest(name) for name in names}
    assert len(set(digests.values())) == len(names)
    assert {name: source(compressed=False).digest(name) for name in names} == digests
    assert source(preprocess=Preprocess(scale=0.25)).digest("test") != digests["test"]
    changed = arrays()
    changed["x_train"][0, 0, 0, 0] ^= 1
    assert source(members=changed).digest("train") != digests["train"]
    assert source(members=changed).digest("test") == digests["test"]


def test_inputs_are_preprocessed_in_float32(source):
    split = source().split("test")
    assert split.x.dtype == np.uint8
    batch, labels = next(split.batches(8))
    assert batch.dtype == np.float32
    assert np.array_equal(batch, split.x[:8].astype(np.float32) * 0.5 - 1)
    assert np.array_equal(labels, split.y[:8])
    assert sum(len(labels) for _, labels in split.batches(8)) == 30


@pytest.mark.parametrize(("mode", "expected"), [("tf", 1.0), ("torch", (1 - 0.485) / 0.229), ("caffe", 255 - 103.939)])
def test_named_modes_are_keras_own(mode, expected):
    white = np.full((1, 2, 2, 3), 255, np.uint8)
    assert Preprocess(mode=mode)(white)[0, 0, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_mode_and_scale_exclude_each_other():
    with pytest.raises(ValueError, match="either mode or scale"):
        Preprocess(mode="tf", scale=2.0)


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("y_train", np.zeros(100, np.float32), "integer class labels"),
        ("y_train", np.zeros((100, 3), np.float32), "no integer class labels"),
        ("y_train", np.eye(100, dtype=np.int64), "no integer class labels"),
        ("y_train", np.full((100, 2), 3), "integer class labels"),
        ("y_train", np.full((100, 2), np.nan), "target of sample 0 is NaN"),
        ("y_train", np.full(100, -1), "label -1"),
        ("y_train", np.zeros(99, np.int64), "99 labels"),
        ("x_train", np.array([None] * 100, dtype=object), "can't be read"),
    ],
)
def test_data_that_means_nothing_is_named(source, member, value, words):
    with pytest.raises(DataError, match=words):
        source(members=arrays() | {member: value}).split("train")


def test_a_missing_member_and_a_damaged_file_are_named(source, tmp_path):
    members = arrays()
    del members["x_test"]
    data = source(members=members)
    with pytest.raises(DataError, match=r"no x_test\.npy"):
        data.digest("test")
    path = tmp_path / "d.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="damaged"):
        data.digest("train")


def test_data_that_changed_is_read_again_under_its_own_digest(source, tmp_path):
    data = source()
    before = data.split("test")
    changed = arrays()
    changed["y_test"] = (changed["y_test"] + 1) % 4
    np.savez(tmp_path / "d.npz", **changed)
    after = data.split("test")
    assert after.digest != before.digest
    assert np.array_equal(after.y, changed["y_test"])


@pytest.mark.parametrize("mode", ["torch", "caffe"])
def test_modes_for_colours_refuse_grey(source, mode):
    with pytest.raises(DataError, match="is for RGB"):
        source(preprocess=Preprocess(mode=mode)).split("test")


def test_words_are_no_inputs(source):
    with pytest.raises(DataError, match="numbers are needed"):
        source(members=arrays() | {"x_test": np.full((30, 5), "a")}).split("test")


def test_labels_in_a_column_are_taken(source):
    members = arrays()
    members["y_test"] = members["y_test"][:, None]
    assert source(members=members).split("test").y.shape == (30,)


def test_digests_need_no_numpy(source, tmp_path):
    digest = source().digest("train")
    code = (
        "import sys; from pathlib import Path; from pipeline.data import DataSource, DataSpec\n"
        "spec = DataSpec.model_validate_json(sys.argv[2])\n"
        "print(DataSource(spec, Path(sys.argv[1]) / 'd.npz', 7).digest('train'), 'numpy' in sys.modules)"
    )
    spec = source().spec.model_dump_json(by_alias=True)
    run = subprocess.run([sys.executable, "-c", code, tmp_path, spec], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest, "False"]
    assert hashlib.sha256(b"").hexdigest() not in digest


def test_every_class_keeps_one_sample_however_small_the_fraction():
    labels = np.repeat(np.arange(5), 3)
    assert np.bincount(labels[stratified_part(labels, 0.01, 0)]).tolist() == [1] * 5
    assert np.bincount(labels[stratified_part(labels, 0.99, 0)]).tolist() == [2] * 5
    assert stratified_part(np.array([0, 0, 1]), 0.5, 0).tolist() in ([0], [1])
