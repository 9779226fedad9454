"""Search on a small trained network, for the smallest file that keeps its accuracy: no device is needed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.data import data_source
from pipeline.errors import RecipeError, StoreError
from pipeline.recipe.recipe import Recipe
from pipeline.records.facts import EvaluationFacts
from pipeline.records.manifest import Output, RunManifest, StageEntry
from pipeline.running.run import run
from pipeline.store import Store
from stages.keras.tensorflow import import_keras
from stages.search.answer import answered
from stages.search.candidates import Candidate
from stages.search.picture import svg_of
from stages.search.study import Study
from stages.search.table import text_of
from stages.search.workers import Here, unheard

DIGEST = "sha256:" + "0" * 64
RECIPE = """name: bars
seed: 3
model: bars.keras
data: {source: npz, path: bars.npz, validation: {from: train, fraction: 0.3}, calibration: {take: 32}, test: test}
stages:
  - load
  - prune: {criterion: obs, scope: loss, macs: 0.5, search: 4, search_at: 0.5, samples: 64}
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
    assert {trial.why for trial in answer.trials} == {"border", "explored"}
    assert next(status.phase for status in said if status.running) == "border"
    assert said[-1].trials == answer.trials
    assert {(ranking.lower, ranking.of) for ranking in answer.rankings} >= {
        ("foreseen", "accuracy"),
        ("fitted", "accuracy"),
        ("predicted", "cost"),
    }


def searches(store):
    """Return how many distributions were searched."""
    records = [json.loads(path.read_text())["action"] for path in (store.root / "actions").rglob("*.json")]
    return [action["stage"] for action in records].count("weighing")


def test_one_search_foresees_all_budgets_and_few_go_on(study, folder):
    answer, _ = study
    shares = [one.foreseen.share for one in answer.budgets]
    assert len(shares) > 8
    assert shares == sorted(shares, reverse=True)
    first, last = answer.budgets[0].foreseen, answer.budgets[-1].foreseen
    assert first.error < last.error
    assert 1 >= first.agreement >= last.agreement > 0.5
    border = [trial for trial in answer.trials if trial.why == "border"]
    known = [one.foreseen.settings for one in answer.budgets if one.level is not None]
    assert border[0].settings in known
    assert 1 < len(known) < len(shares)
    store = Store(folder / "store")
    assert searches(store) == 1
    only = next(one for one in answer.budgets if one.level is None)
    ended = run(Recipe.load(only.recipe), folder / "store", until="prune")
    assert ended.metrics["prune.macs"] / ended.metrics["source.macs"] == pytest.approx(only.foreseen.share)
    assert searches(store) == 1


def test_a_study_goes_on_where_it_was(study, folder):
    base, store = Candidate(folder / "bars.yaml", {}), Store(folder / "store")
    again = Study(base, store, Here(store)).run(lambda _: None)
    assert again.trials == study[0].trials


def test_an_interrupted_study_keeps_its_trials_and_goes_on(study, folder):
    base, store = Candidate(folder / "bars.yaml", {}), Store(folder / "store")
    storage, seen = f"sqlite:///{folder / 'own.db'}", []

    def interrupted(status):
        seen.append(status)
        if status.phase == "border" and status.running and status.trials:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Study(base, store, Here(store), storage).run(interrupted)
    again = Study(base, store, Here(store), storage).run(lambda _: None)
    kept = seen[-1].trials
    assert 0 < len(kept) < 8 == len(again.trials)
    assert again.trials[: len(kept)] == kept


def test_without_an_accuracy_to_keep_the_gaps_of_the_front_are_trained_first(folder):
    text = RECIPE.replace("  constraints: {accuracy_drop: 0.02}\n", "").replace("trials: 8", "trials: 4")
    text = text.replace("low: 0.15", "low: 0.04")  # so little that something is lost
    (folder / "gaps.yaml").write_text(text)
    store = Store(folder / "store")
    found = Study(Candidate(folder / "gaps.yaml", {}), store, Here(store)).run(lambda _: None)
    assert found.goal.max_drop is None
    gaps = [trial for trial in found.trials if trial.why == "gaps"]
    assert [trial.settings["stages.prune.macs"] for trial in gaps][:2] == [0.04, 0.2]  # foreseen, near sqrt(0.04 * 0.9)
    assert all(trial.at("trained") is not None for trial in gaps)
    assert {trial.settings["stages.finetune.learning_rate"] for trial in gaps} == {0.003}
    assert found.finalists


def test_the_table_and_the_picture_show_the_front(study):
    answer, _ = study
    text, picture = text_of(answer), svg_of(answer)
    assert answer.verdict in text
    assert f"{answer.chosen}  ←" in text
    assert max(len(line) for line in text.splitlines() if "secateur" not in line) <= 100
    assert picture.count('class="point"') == len(answer.points)


class Scripted:
    """End each recipe as it was told, and remember what was run."""

    side_by_side = False

    def __init__(self, *ends):
        self.ends, self.ran = list(ends), []

    def run(self, recipes, until=None, listener=unheard):
        self.ran += recipes
        yield from [(index, self.ends.pop(0)) for index, _ in enumerate(recipes)]


def test_a_latency_is_measured_in_the_file_that_is_fastest_from_the_control_on(searched, tmp_path):
    recipe = searched("{objectives: [latency_ms], constraints: {accuracy_drop: 0.01}}")
    metrics = {"tflite/int8@cpu.latency_p50_ms": 0.7, "onnx/float32@cpu.latency_p50_ms": 0.6}
    plain = RunManifest(
        run_id="abcd1233", name="n", recipe_digest=DIGEST, stages=(), metrics={}, gates=(), verdict="pass"
    )
    first = RunManifest(
        run_id="abcd1234", name="n", recipe_digest=DIGEST, stages=(), metrics=metrics, gates=(),
        verdict="pass",
    )  # fmt: skip
    workers = Scripted(plain, first, StoreError("full"))
    with pytest.raises(StoreError, match="full"):
        Study(Candidate(recipe.source.file, {}), Store(tmp_path / "store"), workers).run(lambda _: None)
    (brief, control) = ({step.id: step.config for step in ran.steps} for ran in workers.ran[1:])
    assert (brief["prune"].macs, brief["prune"].search, brief["finetune"].epochs) == (0.5, 0, 1)
    assert (control["prune"].macs, control["prune"].latency, control["finetune"].epochs) == (None, 0.7, 2)
    assert (control["prune"].measure_on.format, control["prune"].measure_on.scheme) == ("onnx", "float32")


class Curve:
    """Train candidates that lose as a function of the MACs left says; no file is made."""

    side_by_side = False

    def __init__(self, lost, samples):
        self.lost, self.samples = lost, samples

    def run(self, recipes, until=None, listener=unheard):
        yield from ((index, self.ended(recipe, until)) for index, recipe in enumerate(recipes))

    def ended(self, recipe, until):
        (macs,) = [step.config.macs for step in recipe.steps if step.stage == "prune"] or [None]
        if until is None or macs is None:
            return StoreError("no files here")
        accuracy = 0.9 - self.lost(macs)
        facts = EvaluationFacts(samples=self.samples, metrics={"accuracy": 0.9})
        return RunManifest(
            run_id="abcd1234", name="n", recipe_digest=DIGEST, gates=(), verdict="pass",
            stages=(
                StageEntry(
                    id="source", stage="evaluate", axis=None, key=DIGEST, status="ran", reason="", wall_s=0.0,
                    outputs=(Output(kind="evaluation", files=(), facts=facts, digest=DIGEST),),
                ),
            ),
            metrics={
                "source.accuracy": 0.9, "source.macs": 100.0, "prune.macs": 100.0 * macs,
                "reconstruct.accuracy": accuracy, "finetune.accuracy": accuracy,
            },
        )  # fmt: skip


@pytest.fixture
def trained_by(searched, tmp_path):
    """Return the budgets that a study trained, where candidates lose as a function of theirs says."""

    def search(lost, samples=5000, minutes=5.0):
        recipe = searched(
            "{objectives: [size_bytes], constraints: {accuracy_drop: 0.01}, "
            f"budget: {{trials: 6, minutes: {minutes}}}, space: {{stages.prune.macs: {{low: 0.2, high: 0.95}}}}}}"
        )
        workers, store = Curve(lost, samples), Store(tmp_path / f"store-{samples}-{minutes}")
        found = Study(Candidate(recipe.source.file, {}), store, workers).run(lambda _: None)
        return found, [trial.settings["stages.prune.macs"] for trial in found.trials if trial.why == "border"]

    return search


def test_where_the_border_has_no_chance_to_spare_a_candidate_above_it_is_trained(trained_by):
    """Half a point is lost at the border at most, and a standard error is 0.3 points of 5,000 samples, 1 of 500."""
    found, border = trained_by(lambda macs: 0.1 if macs < 0.5 else 0.004)
    assert found.chance == pytest.approx((0.05 / 5000) ** 0.5)
    assert max(border) == 0.5
    found, border = trained_by(lambda macs: 0.1 if macs < 0.5 else 0.004, samples=500)
    assert found.chance == pytest.approx(0.01)
    assert max(border) == pytest.approx(0.6)


def test_what_may_be_lost_is_the_goal_less_chance(trained_by):
    _, border = trained_by(lambda macs: 0.008 if macs < 0.9 else 0.0)  # within the goal, and not with 0.3 to spare
    assert border[0] == 0.5
    assert max(border) > 0.7


def test_the_candidate_that_was_trained_with_the_control_counts_where_the_time_is_over(trained_by):
    found, border = trained_by(lambda macs: 0.0, minutes=1e-9)
    assert found.ran_out
    assert border == [0.5]


def test_data_are_needed(folder):
    text = "\n".join(line for line in RECIPE.splitlines() if not line.startswith("data"))
    (folder / "without.yaml").write_text(text)
    store = Store(folder / "store")
    with pytest.raises(RecipeError, match="needs data"):
        Study(Candidate(folder / "without.yaml", {}), store, Here(store))
