import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.data import DataSpec, data_source
from pipeline.data.spec import HeldOutPart
from pipeline.errors import RecipeError


def test_validation_is_held_out_of_train_with_each_class_in_its_share(npz_source, arrays):
    data = npz_source()
    train, validation = data.split("train"), data.split("validation")
    assert (len(train), len(validation)) == (92, 8)
    assert np.bincount(validation.y).tolist() == [2, 2, 2, 2]
    together = np.concatenate([train.x, validation.x]).reshape(100, -1)
    assert {row.tobytes() for row in together} == {row.tobytes() for row in arrays()["x_train"].reshape(100, -1)}


def test_validation_drawn_from_test_leaves_train_whole_and_the_rest_to_test(npz_source, arrays):
    data = npz_source(validation=HeldOutPart.model_validate({"from": "test", "fraction": 0.5}), test="test")
    stored = arrays()
    assert np.array_equal(data.split("train").x, stored["x_train"])
    validation, test = data.split("validation"), data.split("test")
    assert np.abs(np.bincount(validation.y) - np.bincount(test.y)).max() <= 1
    together = np.sort(np.concatenate([validation.rows, test.rows]))
    assert np.array_equal(together, np.arange(len(stored["x_test"])))
    assert np.array_equal(validation.x, stored["x_test"][validation.rows])
    judged = npz_source(validation=data.spec.validation, test="test", judge_on="validation")
    assert np.array_equal(judged.split("test").rows, validation.rows)


def test_test_samples_are_drawn_from_train_alone():
    with pytest.raises(ValidationError, match="drawn from train, not from val"):
        DataSpec.model_validate({"source": "npz", "path": "d.npz", "test": {"from": "val"}})


def test_the_same_seed_draws_the_same_and_another_does_not(npz_source):
    assert np.array_equal(npz_source().split("validation").x, npz_source().split("validation").x)
    assert npz_source(seed=8).digest("validation") != npz_source().digest("validation")
    assert not np.array_equal(npz_source(seed=8).split("validation").x, npz_source().split("validation").x)


def test_calibration_comes_from_what_is_trained_on(npz_source):
    data = npz_source()
    trained_on = {row.tobytes() for row in data.split("train").x}
    calibration = data.split("calibration")
    assert len(calibration) == 16
    assert all(row.tobytes() in trained_on for row in calibration.x)


def test_data_that_changed_is_read_again_under_its_own_digest(npz_source, tmp_path, arrays):
    data = npz_source()
    before = data.split("test")
    changed = arrays()
    changed["y_test"] = (changed["y_test"] + 1) % 4
    np.savez(tmp_path / "d.npz", **changed)
    after = data.split("test")
    assert after.digest != before.digest
    assert np.array_equal(after.y, changed["y_test"])


def test_digests_need_no_numpy(npz_source, tmp_path):
    digest = npz_source().digest("train")
    code = (
        "import sys; from pathlib import Path; from pipeline.data import DataSource, DataSpec\n"
        "spec = DataSpec.model_validate_json(sys.argv[2])\n"
        "print(DataSource(spec, Path(sys.argv[1]) / 'd.npz', 7).digest('train'), 'numpy' in sys.modules)"
    )
    spec = npz_source().spec.model_dump_json(by_alias=True)
    run = subprocess.run([sys.executable, "-c", code, tmp_path, spec], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest, "False"]
    assert hashlib.sha256(b"").hexdigest() not in digest


def test_targets_by_output_keep_to_their_samples_and_are_drawn_evenly_by_the_first_that_has_classes(npz_source, heads):
    data = npz_source(members=heads())
    train, validation = data.split("train"), data.split("validation")
    assert (train.output_names, train.task) == (("kind", "level"), {"kind": "classes", "level": "regression"})
    assert np.bincount(validation.y["kind"]).tolist() == [2, 2, 2, 2]
    places = np.round(train.y["level"][:, 0] * 99).astype(int)  # of each sample among all stored ones
    assert np.array_equal(train.x, heads()["x_train"][places])
    assert np.array_equal(train.y["kind"], places % 4)
    _, labels = train.take(np.array([5, 2]))
    assert {name: y.shape for name, y in labels.items()} == {"kind": (2,), "level": (2, 1)}
    assert [len(y["level"]) for _, y in train.batches(50)] == [50, 42]


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


def test_other_sources_tell_by_their_settings(make_images, tmp_path, data_of):
    make_images({"a/1.png": 3, "b/1.png": 4})
    folder = {"source": "image_folder", "path": "images", "size": [12, 16], "channels": 1}
    assert data_of(folder, tmp_path).shapes() == ({"": (12, 16, 1)},)
    (tmp_path / "t.csv").write_text("a,b,c,y,path\n1,2,3,4,images/a/1.png\n")
    table = {"source": "csv", "path": "t.csv", "label": "y"}
    assert data_of(table, tmp_path).shapes() == ({"": (4,)},)
    assert data_of({**table, "inputs": ["a", "b"]}, tmp_path).shapes() == ({"": (2,)},)
    assert data_of({**table, "inputs": {"u": ["a", "b"], "v": ["c"]}}, tmp_path).shapes() == ({"u": (2,), "v": (1,)},)
    pictures = {**table, "image": "path", "size": [4, 6]}
    assert data_of(pictures, tmp_path).shapes() == ({"": (4, 6, 3)},)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef split(name):\n    assert name == 'train'\n    return np.zeros((3, 7, 2))\n"
    )
    assert data_of({"source": "python", "function": "mine:split"}, tmp_path).shapes() == ({"": (7, 2)},)


def test_judged_on_validation_everything_else_is_drawn_as_before(npz_source):
    final = npz_source(test=HeldOutPart(fraction=0.2))
    chosen = npz_source(test=HeldOutPart(fraction=0.2), judge_on="validation")
    assert np.array_equal(chosen.split("test").x, final.split("validation").x)
    assert chosen.digest("test") == final.digest("validation")
    for name in ("train", "validation", "calibration"):
        assert chosen.digest(name) == final.digest(name)
    assert chosen.digest("test") != final.digest("test")
