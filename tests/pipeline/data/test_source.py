import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from pipeline.data import DataSource, DataSpec, Preprocess, data_source, stratified_part
from pipeline.errors import DataError, RecipeError

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
        (np.savez_compressed if compressed else np.savez)(
            tmp_path / "d.npz", **(arrays() if members is None else members)
        )
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
        ("y_train", np.full(100, "cat"), "words, such as 'cat'"),
        ("y_train", np.zeros(99, np.int64), "99 labels"),
        ("x_train", np.array([None] * 100, dtype=object), "can't be read"),
    ],
)
def test_data_that_means_nothing_is_named(source, member, value, words):
    with pytest.raises(DataError, match=words) as caught:
        source(members=arrays() | {member: value}).split("train")
    assert caught.value.hint or "NaN" in words or "integer" in words


def test_a_missing_member_and_a_damaged_file_are_named(source, tmp_path):
    members = arrays()
    del members["x_test"]
    data = source(members=members)
    with pytest.raises(
        DataError, match="targets y_test and no inputs x_test: it has x_train, y_test, y_train"
    ) as caught:
        data.digest("test")
    assert caught.value.hint == "splits that are there: train, or let a part of train be drawn: `test: {fraction: 0.2}`"
    path = tmp_path / "d.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="damaged"):
        data.digest("train")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no inputs x_test: it has no arrays at all"),
        (("y_train", "y_test"), "targets y_test and no inputs x_test: it has y_test, y_train"),
        (("images", "labels"), "no inputs x_test: it has images, labels"),
        (("x_test", "x_test__a"), "holds x_test and x_test__a: which are the inputs"),
        (("x_test__a", "x_test__b"), "x_test__a has 5 samples, x_test__b has 6"),
        (tuple(f"x_{n:02}" for n in range(40)), "it has x_00, .*, x_11, …$"),
    ],
)
def test_what_an_npz_holds_is_told_where_something_is_missing(source, names, words):
    data = source(members={name: np.zeros((5 + (name == "x_test__b"), 2)) for name in names})
    with pytest.raises(DataError, match=words):
        data.split("test")


def test_targets_that_a_task_needs_and_that_are_not_there(source):
    members = arrays()
    del members["y_test"]
    with pytest.raises(DataError, match="is classes, and these samples have no targets") as caught:
        source(members=members, task="classes").split("test")
    assert "data.task: unlabelled" in caught.value.hint
    assert caught.value.where.endswith("d.npz: test")


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


def heads(seed=0):
    """Return targets for two outputs: classes, and numbers."""
    found = {name: array for name, array in arrays(seed).items() if name[0] == "x"}
    for split, size in SIZES.items():
        found[f"y_{split}__kind"] = np.arange(size) % 4
        found[f"y_{split}__level"] = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    return found


def test_targets_by_output_keep_to_their_samples_and_are_drawn_evenly_by_the_first_that_has_classes(source):
    data = source(members=heads())
    train, validation = data.split("train"), data.split("validation")
    assert (train.output_names, train.task) == (("kind", "level"), {"kind": "classes", "level": "regression"})
    assert np.bincount(validation.y["kind"]).tolist() == [2, 2, 2, 2]
    places = np.round(train.y["level"][:, 0] * 99).astype(int)  # of each sample among all stored ones
    assert np.array_equal(train.x, heads()["x_train"][places])
    assert np.array_equal(train.y["kind"], places % 4)
    _, labels = train.take(np.array([5, 2]))
    assert {name: y.shape for name, y in labels.items()} == {"kind": (2,), "level": (2, 1)}
    assert [len(y["level"]) for _, y in train.batches(50)] == [50, 42]


def test_each_output_sees_its_own_targets(source):
    split = source(members=heads()).split("test")
    assert (split.of_output("level").task, split.of_output("level").y.shape) == ("regression", (30, 1))
    other = split.of_output("none")
    assert (other.task, other.labelled, len(other)) == ("unlabelled", False, 30)
    alone = source().split("test")
    assert alone.of_output("any") is alone


def test_the_digest_covers_the_targets_of_every_output_and_their_names(source):
    digest = source(members=heads()).digest("test")
    changed, renamed = heads(), heads()
    changed["y_test__level"][0] += 1
    renamed["y_test__height"] = renamed.pop("y_test__level")
    assert len({digest, *(source(members=one).digest("test") for one in (changed, renamed))}) == 3


def test_a_task_by_output_says_what_could_be_two_things_or_leaves_an_output_out(source):
    said = {"kind": "regression", "level": "unlabelled"}
    split = source(members=heads(), task=said).split("test")
    assert (split.task, list(split.y)) == ({"kind": "regression"}, ["kind"])
    with pytest.raises(DataError, match=r"data\.task names 'kin', which has no targets here") as caught:
        source(members=heads(), task={"kin": "classes"}).split("test")
    assert "kind" in caught.value.hint
    with pytest.raises(DataError, match=r"data\.task is by output, the targets have no names"):
        source(task={"kind": "classes"}).split("test")


def test_targets_with_and_without_a_name_are_one_too_many(source):
    with pytest.raises(DataError, match="holds y_test and y_test__kind"):
        source(members={**heads(), "y_test": np.zeros(30)}).split("test")
    short = {**heads(), "y_test__level": np.zeros(29)}
    with pytest.raises(DataError, match="x_test has 30 samples, y_test__level has 29 labels"):
        source(members=short).split("test")


def test_inputs_that_are_no_numbers_are_found_at_their_place_among_what_is_stored(source):
    members = arrays()
    members["x_train"] = members["x_train"].astype(np.float32)
    members["x_train"][[40, 77], 3, 3, 0] = np.nan, np.inf
    data = source(members=members)
    found = {}
    for name in ("train", "validation"):
        split = data.split(name)
        place = split.first_not_finite()
        if place is not None:
            found[int(split.rows[place[0]])] = split.x[place[0]]
    assert found
    assert set(found) <= {40, 77}
    assert all(not np.isfinite(sample).all() for sample in found.values())
    assert source().split("train").first_not_finite() is None


@pytest.mark.parametrize(
    ("said", "file", "looks"),
    [("csv", "npz", "npz"), ("tfrecord", "npz", "npz"), ("npz", "csv", "csv"), ("npz", "record", "tfrecord")],
)
def test_a_file_of_another_source_is_noticed_from_its_first_bytes(tmp_path, said, file, looks):
    path = tmp_path / "data"
    if file == "npz":
        with path.open("wb") as out:
            np.savez(out, x_train=np.zeros(3))
    else:
        path.write_bytes(b"a,b\n1,2\n" if file == "csv" else (16).to_bytes(8, "little") + bytes(24))
    more = {"features": {"x": {"type": "float32"}}} if said == "tfrecord" else {}
    spec = DataSpec.model_validate_json(json.dumps({"source": said, "path": "data", **more}))
    with pytest.raises(RecipeError, match=f"data.source is {said}, and data looks like {looks}") as caught:
        data_source(spec, tmp_path, 7)
    assert caught.value.where == "data.source"
    assert f"`source: {looks}`" in caught.value.hint
