"""Test that channels are ranked once, however many of them go; and that what goes by obs and by loss keeps more."""

import json

import numpy as np
import pytest

from pipeline.store import Store
from stages.keras.tensorflow import import_keras

RECIPE = """\
name: ranked
seed: 5
model: trained.keras
data:
  source: npz
  path: data.npz
  preprocess: {scale: 0.00784313725490196, offset: -1.0}
  calibration: {take: 24}
  test: test
stages:
  - load
  - prune: {criterion: obs, scope: loss, search: 4, ratio: 0.5}
"""


@pytest.fixture(scope="module")
def trained(assets, tmp_path_factory):
    """Return a folder with a network of three groups that has learned the data, and the data."""
    keras, folder = import_keras(), tmp_path_factory.mktemp("trained")
    layers = keras.layers
    keras.utils.set_random_seed(2)
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(12, 3, strides=2, use_bias=False, name="first")(image)
    x = layers.ReLU(name="first_relu")(layers.BatchNormalization(momentum=0.8, name="first_bn")(x))
    x = layers.Conv2D(16, 3, activation="relu", name="second")(x)
    x = layers.Dense(20, activation="relu", name="third")(layers.Flatten(name="flat")(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="trained")
    with np.load(assets / "data.npz") as data:
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(data["x_train"] / 127.5 - 1, data["y_train"], batch_size=16, epochs=4, verbose=0)
    model.save(folder / "trained.keras")
    (folder / "data.npz").symlink_to(assets / "data.npz")
    return folder


@pytest.fixture
def ranked(trained, tmp_path):
    for path in trained.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def write(*changes):
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "ranked.yaml").write_text(text)
        return tmp_path / "ranked.yaml"

    return write


@pytest.fixture
def run(ranked, secateur_here, tmp_path):
    def run(*changes):
        code, manifest, told = secateur_here("run", ranked(*changes), "--store", tmp_path / "store", "--json")
        assert code == 0, told
        stages = {stage["id"]: stage for stage in manifest["stages"]}
        return manifest["run_id"], stages, told

    return run


def test_another_ratio_scope_or_step_asks_the_criterion_no_more(run, tmp_path):
    first, stages, told = run()
    prune = stages["prune"]
    assert "prune>ranking: samples obs" in told
    (key,) = prune["children"]
    record = Store(tmp_path / "store").records.get(key)
    assert (record.action.stage, record.provenance.run_id) == ("ranking", first)
    for changes in (
        ("ratio: 0.5", "ratio: 0.3"),
        ("ratio: 0.5", "macs: 0.6, round_to: 2, exclude: [second]"),
        ("scope: loss, search: 4, ratio: 0.5", "scope: layer, ratio: 0.5, min_channels: 3"),
    ):
        other, stages, told = run(changes)
        assert "prune>ranking" not in told
        again = stages["prune"]
        assert again["key"] != prune["key"]
        assert again["children"] == [key]  # and its record is the first run's
        assert Store(tmp_path / "store").records.get(key).provenance.run_id == first != other
    for changes in (("ratio: 0.5", "ratio: 0.5, samples: 8"), ("obs", "hessian"), ("seed: 5", "seed: 6")):
        _, stages, _ = run(changes)
        assert stages["prune"]["children"] != [key]


def test_the_report_holds_the_predicted_loss_that_the_ranking_holds(run, tmp_path):
    _, stages, _ = run()
    prune = stages["prune"]
    store = Store(tmp_path / "store")

    def document(key, kind):
        artifact = store.records.get(key).output(kind)
        return json.loads(store.blobs.path(artifact.files[0].digest).read_bytes())

    report = document(prune["key"], "prune-report")
    ranking = {group["name"]: group for group in document(prune["children"][0], "ranking-report")["groups"]}
    pruned = [group for group in report["groups"] if not group["frozen"]]
    for group in pruned:
        gone = group["channels_before"] - group["channels_after"]
        assert group["predicted_loss"] == ranking[group["name"]]["losses"][gone]
    assert report["predicted_loss"] == pytest.approx(sum(group["predicted_loss"] for group in pruned))
    assert report["predicted_loss"] > 0
    assert np.isfinite(report["predicted_loss"])


def test_after_re_fitting_less_is_lost_than_by_the_norms_of_weights(run):
    errors = {}
    for criterion in ("criterion: obs, scope: loss, search: 4", "criterion: l2"):
        changes = f"{criterion}, macs: 0.4}}\n  - reconstruct"
        _, stages, _ = run(("criterion: obs, scope: loss, search: 4, ratio: 0.5}", changes))
        errors[criterion] = stages["reconstruct"]["metrics"]["output_error"]
    assert errors["criterion: obs, scope: loss, search: 4"] < 0.5 * errors["criterion: l2"]
