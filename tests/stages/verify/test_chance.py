"""Check when a run stops before it has begun: only if another preprocessing is proved to be the right one."""

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.data import Preprocess
from pipeline.errors import SourceError
from stages.keras.tensorflow import import_keras
from stages.verify.config import EvaluateConfig
from stages.verify.evaluate import EvaluateStage

LABELS = np.arange(200) % 4
STORED = (np.random.default_rng(1).integers(0, 60, (200, 6, 6)) + 60 * LABELS[:, None, None]).astype(np.uint8)
SCALED = Preprocess(scale=1 / 255)


def by_brightness(times=1.0, offset=0.0):
    """Predict the class of an image by its mean, on 0…255 times and plus this."""
    keras = import_keras()
    image = keras.Input((6, 6))
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(image)))
    level = np.array([30.0, 90.0, 150.0, 210.0]) * times + offset
    model.set_weights([np.tile(2 * level, (36, 1)).astype("f4") / 36, -np.square(level).astype("f4")])
    return model


@pytest.fixture
def evaluated(make_context, make_split):
    def evaluate(model, x, y, preprocess, checked=True):
        splits = {"test": make_split("test", x, y, preprocess)}
        context = make_context(EvaluateConfig(check_preprocess=checked), splits=splits)
        context.inputs = {"model": context.write_model(model)}
        return EvaluateStage().run(context), context

    return evaluate


def test_a_wrong_range_stops_with_what_each_gives(evaluated):
    with pytest.raises(
        SourceError, match=r"no better than chance: 25\.0% of 200 .*; with preprocess: {} it is right"
    ) as e:
        evaluated(by_brightness(), STORED, LABELS, SCALED)
    assert e.value.where == "data.preprocess"
    assert "100.0% at 0…255 (preprocess: {})" in e.value.hint
    assert "25.0% as now" in e.value.hint
    assert "check_preprocess: false under data" in e.value.hint


def test_a_mode_on_numbers_that_need_none_stops_whatever_their_range(evaluated):
    model = by_brightness(times=4.0, offset=-480.0)  # made for -480…540
    stored = STORED.astype(np.float32) * 4 - 480
    with pytest.raises(SourceError, match=r"with preprocess: {} it is right on 100\.0%") as error:
        evaluated(model, stored, LABELS, Preprocess(mode="tf"))
    assert "of 200 samples right: 100.0% as stored (preprocess: {}), 31.0% as now" in error.value.hint
    result, context = evaluated(model, stored, LABELS, Preprocess())
    assert (result.metrics["accuracy"], context.warnings) == (1.0, [])


def test_where_nobody_asks_or_all_is_well_there_is_no_word(evaluated):
    result, context = evaluated(by_brightness(), STORED, LABELS, SCALED, checked=False)
    assert (result.metrics["accuracy"], context.warnings) == (0.25, [])
    result, context = evaluated(by_brightness(), STORED, LABELS, Preprocess())
    assert (result.metrics["accuracy"], context.warnings) == (1.0, [])


def test_few_samples_prove_nothing(evaluated):
    result, context = evaluated(by_brightness(), STORED[:40], LABELS[:40], SCALED)
    assert (result.metrics["accuracy"], context.warnings) == (0.25, [])


def test_an_untrained_network_is_a_warning(evaluated):
    import_keras().utils.set_random_seed(4)
    noise = np.random.default_rng(2).integers(0, 256, STORED.shape).astype(np.uint8)
    model = by_brightness()
    model.set_weights([np.random.default_rng(3).standard_normal(w.shape).astype("f4") for w in model.get_weights()])
    _, context = evaluated(model, noise, LABELS, SCALED)
    (warning,) = context.warnings
    assert "no better than chance" in warning
    assert "unless it is untrained on purpose (of 200 samples right: " in warning


def test_the_run_ends_there_unless_it_is_told_to_go_on(tmp_path):
    by_brightness().save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x_train=STORED, y_train=LABELS, x_test=STORED, y_test=LABELS)
    text = "name: r\nmodel: m.keras\ndata: {source: npz, path: d.npz, test: test, preprocess: {scale: 0.00392}}\n"
    (tmp_path / "r.yaml").write_text(f"{text}stages: [load, strip]\n")
    with pytest.raises(SourceError) as error:
        run(Recipe.load(tmp_path / "r.yaml"), store=tmp_path / "store")
    statuses = {entry.id: entry.status for entry in error.value.manifest.stages}
    assert statuses == {"load": "ran", "evaluate:source": "failed", "strip": "skipped", "evaluate:strip": "skipped"}
    assert "r.yaml:3" in error.value.where
    going_on = Recipe.load(tmp_path / "r.yaml", ["data.check_preprocess=false"])
    assert run(going_on, store=tmp_path / "store").metrics["strip.accuracy"] == 0.25
    right = Recipe.load(tmp_path / "r.yaml", ["data.preprocess={}"])
    assert run(right, store=tmp_path / "store").metrics["strip.accuracy"] == 1.0
