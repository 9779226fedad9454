"""Run recipes on data other than npz, from load to verify by the command line: images in folders, a table of
numbers.
"""

import json

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras, import_tensorflow

CLASSES = ("columns", "diagonal", "rows")
SIZE = 12
IMAGES = """\
name: folders
seed: 5
model: tiny.keras
data:
  source: image_folder
  path: stripes
  size: [12, 12]
  channels: 1
  max_undecodable: 0.05
  preprocess: {scale: 0.00784313725490196, offset: -1.0}
  test: {fraction: 0.2}
  calibration: {from: validation, take: 12}
  metrics: [accuracy, top_2, confusion_matrix, "mine:first_class_share"]
stages:
  - load
  - prune: {criterion: apoz, ratio: 0.25}
  - recalibrate: {batch: 512}
  - finetune: {epochs: 1, batch: 512, learning_rate: 0.01}
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite, onnx]}
  - verify
gates:
  - {metric: "tflite/float32.top_2", min: 0}
  - {metric: "finetune.first_class_share", max: 1}
"""
METRIC = "def first_class_share(targets, outputs):\n    return float((outputs.argmax(axis=1) == 0).mean())\n"
TABLE = """\
name: table
seed: 5
model: sums.keras
data: {source: csv, path: sums.csv, inputs: [a, b, c], label: total, test: {fraction: 0.25}}
stages:
  - load
  - prune: {criterion: hessian, ratio: 0.25}
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite, onnx]}
  - verify: {max_mse_ratio: 4}
gates:
  - {metric: "tflite/int8.mse", max: 10000}
  - {metric: "prune.mse_ratio", min: 0}
"""


def stripes_model():
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(len(CLASSES), activation="softmax", name="head")(x), name="stripes")


@pytest.fixture
def images(tmp_path):
    """Make three classes of striped pictures in folders, one picture broken; a recipe and its metric next to them."""
    rng, tf = np.random.default_rng(0), import_tensorflow()
    rows, columns = np.mgrid[0:16, 0:16]
    for name, phase in zip(CLASSES, (columns, rows + columns, rows), strict=True):
        (tmp_path / "stripes" / name).mkdir(parents=True)
        for index in range(24):
            pixels = 128 + 100 * np.sin(phase * 1.5) + rng.normal(0, 20, phase.shape)
            data = tf.io.encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8)[..., None]).numpy()
            (tmp_path / "stripes" / name / f"{index:02}.jpg").write_bytes(data)
    (tmp_path / "stripes" / "rows" / "03.jpg").write_bytes(data[:100])
    stripes_model().save(tmp_path / "tiny.keras")
    (tmp_path / "mine.py").write_text(METRIC)
    (tmp_path / "recipe.yaml").write_text(IMAGES)
    return tmp_path


def facts_of(manifest, entry_id, kind):
    entry = next(entry for entry in manifest["stages"] if entry["id"] == entry_id)
    return next(output for output in entry["outputs"] if output["kind"] == kind)


def test_a_folder_of_images_runs_from_load_to_verify_and_is_cached(images, secateur_here):
    store = images / "store"
    code, manifest, err = secateur_here("run", images / "recipe.yaml", "--store", store, "--json")
    assert code == 0, err
    assert "finetune: 1 of 51 images of train can't be decoded: rows/03.jpg (" in err
    assert "Improper call" not in err  # what the codec prints
    metrics = manifest["metrics"]
    for name in ("source", "prune", "recalibrate", "finetune", "tflite/float32", "onnx/int8"):
        assert 0 <= metrics[f"{name}.accuracy"] <= metrics[f"{name}.top_2"] <= 1
        assert f"{name}.first_class_share" in metrics
    assert metrics["finetune.top_2_drop"] == pytest.approx(metrics["source.top_2"] - metrics["finetune.top_2"])
    evaluation = facts_of(manifest, "verify:tflite/int8", "evaluation")
    (file,) = evaluation["files"]
    blob = store / "blobs" / "sha256" / file["digest"].removeprefix("sha256:")
    confusion = json.loads(blob.read_text())
    assert tuple(confusion["classes"]) == CLASSES
    assert np.sum(confusion["counts"]) == evaluation["facts"]["samples"]
    code, again, err = secateur_here("run", images / "recipe.yaml", "--store", store, "--json")
    assert (code, {entry["status"] for entry in again["stages"]}) == (0, {"hit"}), err

    (images / "mine.py").write_text(METRIC.replace("== 0", "== 1"))
    code, plan, err = secateur_here("plan", images / "recipe.yaml", "--store", store, "--json")
    ran = {action["id"]: action["reason"] for action in plan["actions"] if action["status"] == "run"}
    assert {name.partition(":")[0] for name in ran} == {"evaluate", "verify"}
    assert set(ran.values()) == {"input module mine changed"}


def test_a_table_of_numbers_runs_without_class_labels(tmp_path, secateur_here):
    rng, keras = np.random.default_rng(0), import_keras()
    rows = rng.standard_normal((80, 3))
    totals = rows @ [1.0, 2.0, -1.0]
    lines = [f"{a:.6f},{b:.6f},{c:.6f},{t:.6f}" for (a, b, c), t in zip(rows, totals, strict=True)]
    (tmp_path / "sums.csv").write_text("\n".join(["a,b,c,total", *lines]))
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu", input_shape=(3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(rows, totals, epochs=60, verbose=0)
    model.save(tmp_path / "sums.keras")
    (tmp_path / "recipe.yaml").write_text(TABLE)
    code, manifest, err = secateur_here("run", tmp_path / "recipe.yaml", "--store", tmp_path / "store", "--json")
    assert code == 0, err
    metrics = manifest["metrics"]
    assert metrics["onnx/float32.mse"] == pytest.approx(metrics["prune.mse"], rel=1e-3)
    assert metrics["tflite/int8.mse_ratio_reference"] == pytest.approx(
        metrics["tflite/int8.mse"] / metrics["prune.mse"], rel=1e-3
    )
    assert metrics["prune.mse_ratio"] == pytest.approx(metrics["prune.mse"] / metrics["source.mse"])
    assert not any("accuracy" in name for name in metrics)


HEADS = """\
name: heads
seed: 5
model: heads.keras
data: {source: npz, path: heads.npz, test: {fraction: 0.25}, metrics: {kind: [accuracy, auc]}}
control: true
stages:
  - load
  - prune: {criterion: taylor, ratio: 0.25}
  - finetune: {epochs: 12, learning_rate: 0.02, loss_weights: {level: 0.5}}
  - strip
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite]}
  - verify: {max_accuracy_drop: 0.2, max_mse_ratio: 20}
gates:
  - {metric: "tflite/int8.accuracy_drop[kind]", max: 1}
  - {metric: "finetune.mse_ratio[level]", max: 100}
"""


def test_a_model_with_several_outputs_is_trained_and_measured_by_each(tmp_path, secateur_here):
    rng, keras = np.random.default_rng(0), import_keras()
    x = rng.standard_normal((160, 4)).astype(np.float32)
    y = {"y_train__kind": x[:, :3].argmax(axis=1), "y_train__level": x[:, :1] - x[:, 3:]}
    np.savez(tmp_path / "heads.npz", x_train=x, **y)
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4,), name="x")
    body = keras.layers.Dense(16, activation="relu", name="body")(inputs)
    heads = {"kind": (3, "softmax"), "level": (1, None), "spare": (2, None)}  # nobody has labels for the last
    outputs = [keras.layers.Dense(size, activation=how, name=name)(body) for name, (size, how) in heads.items()]
    keras.Model(inputs, outputs).save(tmp_path / "heads.keras")
    (tmp_path / "recipe.yaml").write_text(HEADS)
    code, manifest, err = secateur_here("run", tmp_path / "recipe.yaml", "--store", tmp_path / "store", "--json")
    assert code == 0, err
    metrics = manifest["metrics"]
    for name in ("source", "prune", "finetune", "control", "tflite/float32", "tflite/int8"):
        found = {metric for metric in metrics if metric.startswith(f"{name}.") and "spare" in metric}
        assert (found, {"accuracy[kind]", "auc[kind]", "mse[level]"} - {m[len(name) + 1 :] for m in metrics}) == (
            set(),
            set(),
        )
    drop = metrics["source.accuracy[kind]"] - metrics["finetune.accuracy[kind]"]
    assert metrics["finetune.accuracy_drop[kind]"] == pytest.approx(drop)
    assert metrics["tflite/float32.mse[level]"] == pytest.approx(metrics["finetune.mse[level]"], rel=1e-3)
    assert metrics["control.accuracy[kind]"] > metrics["source.accuracy[kind]"]
    assert [gate["verdict"] for gate in manifest["gates"]] == ["pass", "pass"]
    (tmp_path / "wrong.yaml").write_text(HEADS.replace("accuracy_drop[kind]", "accuracy_drop[kinds]"))
    err = refused(secateur_here, 2, "run", tmp_path / "wrong.yaml", "--store", tmp_path / "other")
    assert "no output 'kinds'" in err  # after load, before anything is trained
    assert [line.split()[1] for line in err.splitlines() if line.startswith("✔")] == ["load"]
    unnamed = dict(zip(("y_train", "x_train"), (y["y_train__kind"], x), strict=True))
    np.savez(tmp_path / "heads.npz", **unnamed)
    err = refused(secateur_here, 4, "run", tmp_path / "recipe.yaml", "--store", tmp_path / "store")
    assert "y_test__kind in an npz" in " ".join(err.split())


def refused(secateur_here, expected, *arguments):
    code, _, err = secateur_here(*arguments)
    assert code == expected, err
    assert "Traceback" not in err
    assert "error: " in err
    return err


def test_images_that_do_not_decode_are_refused_above_their_share(images, secateur_here):
    for index in range(8):
        (images / "stripes" / "rows" / f"{index:02}.jpg").write_bytes(b"no picture")
    err = refused(secateur_here, 4, "run", images / "recipe.yaml", "--store", images / "store")
    assert "more than the 5.00% that data.max_undecodable allows" in err
    assert "rows/0" in err


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("source: image_folder", "source: image_foldr", 2, "image_folder"),
        ("  size: [12, 12]\n", "", 2, "source image_folder needs size"),
        ("path: stripes", "path: tiny.keras", 2, "is not a folder"),
        ("path: stripes", "path: stripe", 2, "is not there"),
        ("channels: 1", "label: name", 2, "label is for source csv or tfrecord, not for image_folder"),
        ("top_2", "top_two", 2, "'top_two' is not a metric"),
        ("mine:first", "other:first", 2, "other.py can't be read"),
        ("channels: 1", "channels: 3", 4, "samples are 12×12×3, the model's input 'image' takes 12×12×1"),
        ("  test: {fraction: 0.2}", "  test: test", 4, "the folder has no splits"),
    ],
)
def test_mistakes_in_data_are_named(images, secateur_here, old, new, code, words):
    assert old in IMAGES
    (images / "recipe.yaml").write_text(IMAGES.replace(old, new))
    err = refused(secateur_here, code, "run", images / "recipe.yaml", "--store", images / "store", "--until", "load")
    assert words in " ".join(err.split())
