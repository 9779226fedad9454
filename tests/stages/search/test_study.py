"""Search on a small trained network, for the smallest file that keeps its accuracy: no device is needed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.data import data_source
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.running.run import run
from pipeline.store import Store
from stages.keras.tensorflow import import_keras
from stages.search.answer import answered
from stages.search.candidates import Candidate
from stages.search.picture import svg_of
from stages.search.study import Study, study_name
from stages.search.table import text_of
from stages.search.workers import Here

RECIPE = """name: bars
seed: 3
model: bars.keras
data: {source: npz, path: bars.npz, validation: {from: train, fraction: 0.3}, calibration: {take: 32}, test: test}
stages:
  - load
  - prune: {criterion: obs, scope: loss, macs: 0.5, search: 4, samples: 64}
  - reconstruct: {samples: 128}
  - finetune: {epochs: 1, batch: 32, learning_rate: 0.003}
  - strip
  - quantize: {schemes: [float32]}
  - export: {formats: [tflite]}
  - verify
search:
  objectives: [tflite/float32.size_bytes, accuracy]
  constraints: {accuracy_drop: 0.02}
  budget: {trials: 8, minutes: 5}
  space: {stages.prune.macs: {low: 0.15, high: 0.9}, stages.finetune.learning_rate: [0.003, 0.01]}
"""


def bars(count, seed):
    """Return images of one bar in one of four places, with noise, and the place."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 4, count)
    images = rng.normal(0, 1.0, (count, 8, 8, 1)).astype(np.float32)
    for image, place in zip(images, places, strict=True):
        image[:, 2 * place : 2 * place + 2] += 1
    return images, places


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    made = layers.ReLU()(layers.Conv2D(16, 3, padding="same")(image))
    made = layers.ReLU()(layers.Conv2D(24, 3, strides=2, padding="same")(made))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(made)))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    (x, y), (x_test, y_test) = bars(600, 1), bars(200, 2)
    model.fit(x, y, epochs=3, batch_size=32, verbose=0)
    model.save(folder / "bars.keras")
    np.savez(folder / "bars.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    (folder / "bars.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def study(folder):
    """Return the answer of a search, and all that was said of its progress."""
    base, store = Candidate(folder / "bars.yaml", {}), Store(folder / "store")
    said = []
    found = Study(base, store, Here(store)).run(said.append)
    return answered(base, found, store, Here(store), folder / "front"), said


def test_finds_a_smaller_file_that_keeps_the_accuracy(study):
    answer, _ = study
    chosen = next(point for point in answer.points if point.letter == answer.chosen)
    assert chosen.validation.drop <= 0.02
    assert chosen.test.against.ratio < 0.8
    assert Recipe.load(chosen.recipe).search is None
    assert chosen.test.size_bytes == chosen.test.cost < 30_000


def test_the_front_falls_and_its_recipes_run_from_the_cache(study, folder):
    answer, _ = study
    costs = [point.validation.cost for point in answer.points]
    drops = [point.validation.drop for point in answer.points]
    assert costs == sorted(costs, reverse=True)
    assert drops == sorted(drops)
    again = run(Recipe.load(answer.points[0].recipe), folder / "store")
    assert {entry.status for entry in again.stages} == {"hit"}
    assert again.metrics[f"{answer.points[0].axis}.accuracy"] == answer.points[0].test.accuracy


def test_nothing_but_the_end_has_seen_test_data(study, folder):
    answer, _ = study
    recipe = Recipe.load(folder / "bars.yaml")
    data = data_source(recipe.data, recipe.folder, recipe.seed)
    tested, judged = data.digest("test"), data.digest("validation")
    read = [json.loads(path.read_text())["action"]["inputs"] for path in (folder / "store" / "actions").rglob("*.json")]
    on_test = [inputs for inputs in read if tested in inputs.values()]
    assert sum(judged in inputs.values() for inputs in read) > len(on_test)
    # The front, each with its source, and their Keras models: not one of the other candidates.
    keras = {inputs["model"] for inputs in on_test if "model" in inputs}
    assert len(keras) <= 4 * (len(answer.points) + 1)


def test_every_level_was_used_and_progress_tells_of_it(study):
    answer, said = study
    assert len(answer.trials) == 8
    assert {trial.why for trial in answer.trials} == {"levels", "border"}
    assert next(status.phase for status in said if status.running) == "border"
    assert said[-1].trials == answer.trials
    assert {(ranking.lower, ranking.of) for ranking in answer.rankings} >= {
        ("allocated", "accuracy"),
        ("fitted", "accuracy"),
        ("predicted", "cost"),
    }


def test_all_budgets_are_foreseen_by_one_search_and_few_go_on(study, folder):
    answer, _ = study
    assert [trial.why for trial in answer.trials].count("border") < 6
    assert len(answer.foreseen) == 8
    assert [one.share for one in answer.foreseen] == sorted((one.share for one in answer.foreseen), reverse=True)
    assert answer.foreseen[0].error < answer.foreseen[-1].error
    assert answer.foreseen[0].agreement > answer.foreseen[-1].agreement
    assert {one.letter for one in answer.foreseen} >= {point.letter for point in answer.points}
    store = Store(folder / "store")
    records = [json.loads(path.read_text())["action"] for path in (store.root / "actions").rglob("*.json")]
    assert [action["stage"] for action in records].count("weighing") == 1
    own = next(one for one in answer.foreseen if one.fitted is None)
    assert f"macs {Recipe.load(own.recipe).steps[1].config.macs}" == own.budget
    ended = run(Recipe.load(own.recipe), folder / "store", until="prune")  # which goes by the same search
    assert ended.metrics["prune.macs"] / ended.metrics["source.macs"] == pytest.approx(own.share, rel=0.1)
    after = [json.loads(path.read_text())["action"] for path in (store.root / "actions").rglob("*.json")]
    assert [action["stage"] for action in after].count("weighing") == 1


def test_a_study_goes_on_where_it_was(study, folder):
    base, store = Candidate(folder / "bars.yaml", {}), Store(folder / "store")
    again = Study(base, store, Here(store)).run(lambda _: None)
    assert again.trials == study[0].trials


def test_the_table_and_the_picture_show_the_front(study):
    answer, _ = study
    text, picture = text_of(answer), svg_of(answer)
    assert answer.verdict in text
    assert f"{answer.chosen}  ←" in text
    assert max(len(line) for line in text.splitlines() if "secateur" not in line) <= 100
    assert picture.count('class="point"') == len(answer.points)


def test_another_model_or_data_or_goal_is_another_study(folder):
    recipe = Recipe.load(folder / "bars.yaml")
    name = study_name(recipe, recipe.search, ("a", "b"))
    assert name.startswith("bars-")
    assert study_name(recipe, recipe.search, ("a", "b")) == name
    assert study_name(recipe, recipe.search, ("a", "c")) != name
    other = recipe.search.model_copy(update={"constraints": {"accuracy_drop": 0.5}})
    assert study_name(recipe, other, ("a", "b")) != name


def test_data_are_needed(folder):
    text = "\n".join(line for line in RECIPE.splitlines() if not line.startswith("data"))
    (folder / "without.yaml").write_text(text)
    store = Store(folder / "store")
    with pytest.raises(RecipeError, match="needs data"):
        Study(Candidate(folder / "without.yaml", {}), store, Here(store))
