from __future__ import annotations

import pytest

from pipeline.errors import PreconditionError, RecipeError, StoreError
from pipeline.records.manifest import RunManifest
from stages.search.candidates import Candidate
from stages.search.levels import levels_of
from stages.search.raising import Raising
from stages.search.workers import unheard


class Scripted:
    """End each recipe as it was told, and remember what was run."""

    side_by_side = False

    def __init__(self, *ends):
        self.ends, self.ran = list(ends), []

    def run(self, recipes, until=None, listener=unheard):
        self.ran += [(recipe, until) for recipe in recipes]
        yield from reversed([(index, self.ends.pop(0)) for index, _ in enumerate(recipes)])


def ended(**metrics):
    flat = {name.replace("__", "."): value for name, value in metrics.items()}
    return RunManifest(
        run_id="abcd1234", name="n", recipe_digest="sha256:" + "0" * 64, stages=(), metrics=flat, gates=(),
        verdict="pass",
    )  # fmt: skip


@pytest.fixture
def raising(searched, goal):
    recipe = searched()

    def make(*ends):
        workers = Scripted(*ends)
        base = Candidate(recipe.source.file, {})
        return Raising(base, goal, levels_of(recipe), workers, unheard), workers

    return make


def test_the_yardstick_is_trained_as_candidates_are_and_judged_on_validation_data(raising):
    run = ended(source__accuracy=0.9, control__accuracy=0.92)
    made, workers = raising(run)
    assert made.measure_yardstick({"stages.prune.macs": 0.4}) is run
    assert (made.source, made.control, made.yardstick) == (0.9, 0.92, 0.92)
    ((recipe, until),) = workers.ran
    assert (until, recipe.control, recipe.data.judge_on) == ("finetune", True, "validation")


def test_without_accuracy_there_is_no_search(raising):
    made, _ = raising(ended())
    with pytest.raises(RecipeError, match="accuracy of the source is not measured"):
        made.measure_yardstick({})
    failing, _ = raising(PreconditionError("no"))
    with pytest.raises(PreconditionError):
        failing.measure_yardstick({})


def test_each_candidate_gets_its_own_end_in_whatever_order_they_come(raising, trial):
    metrics = {"source__accuracy": 0.9, "source__macs": 100.0}
    good = ended(**metrics, reconstruct__accuracy=0.8, prune__macs=40.0)
    made, workers = raising(good, PreconditionError("out of reach"))
    made.yardstick = 0.91
    said = []
    first, second = made.to(
        [trial(0, 0.4, "running"), trial(1, 0.1, "running")], made.levels.levels[0], lambda: said.append(made.running)
    )
    (reached,) = first.reached
    assert (reached.level, reached.accuracy, reached.share) == ("fitted", 0.8, 0.4)
    assert reached.drop == pytest.approx(0.11)
    assert (second.ended, second.reason, second.reached) == ("failed", "out of reach", ())
    assert said == [2, 1, 0]
    assert [until for _, until in workers.ran] == ["reconstruct"] * 2


def test_a_file_that_loses_too_much_by_itself_is_not_measured_in(raising):
    known = {"tflite/int8@cpu__latency_p50_ms": 0.7, "onnx/int8@cpu__latency_p50_ms": 0.6, "finetune__accuracy": 0.8}
    one, both = {"onnx/int8__accuracy": 0.769}, {"onnx/int8__accuracy": 0.769, "tflite/int8__accuracy": 0.75}
    made, _ = raising(ended(**known, **one), ended(**known, **both), ended(**known, **{"onnx/int8__accuracy": 0.779}))
    assert made.cheapest_file({}).axis == "tflite/int8"
    fastest = made.cheapest_file({})  # each loses more than three times the goal
    assert (fastest.axis, fastest.drop) == ("onnx/int8", pytest.approx(0.031))
    assert made.cheapest_file({}).axis == "onnx/int8"  # a network that is hardly trained loses more than others


def test_the_unpruned_model_is_a_candidate_with_its_files(raising):
    metrics = {"source__accuracy": 0.9, "onnx/int8@cpu__latency_p50_ms": 0.6, "onnx/int8__accuracy": 0.88}
    made, workers = raising(ended(**metrics), PreconditionError("no"))
    plain = made.unpruned()
    ((recipe, until),) = workers.ran
    assert [step.stage for step in recipe.steps if step.stage in ("prune", "reconstruct", "finetune")] == []
    assert (until, recipe.control, recipe.data.judge_on) == (None, False, "validation")
    (file,) = plain.files
    assert (plain.why, file.axis, file.cost, file.drop) == ("unpruned", "onnx/int8", 0.6, pytest.approx(0.02))
    assert plain.against(0.91).files[0].drop == pytest.approx(0.03)
    assert made.unpruned() is None


def test_the_cheapest_file_is_that_of_a_whole_run_on_validation_data(raising):
    made, workers = raising(
        ended(**{"tflite/int8@cpu__latency_p50_ms": 0.7, "onnx/int8@cpu__latency_p50_ms": 0.6}),
        ended(
            **{
                "tflite/int8@cpu__latency_p50_ms": 0.7,
                "tflite/int8__size_bytes": 5000.0,
                "onnx/int8@cpu__latency_p50_ms": 0.6,
                "onnx/int8__size_bytes": 5001.0,
            }
        ),
        StoreError("full"),
    )
    assert made.cheapest_file({"stages.prune.macs": 0.5}).axis == "onnx/int8"
    assert made.cheapest_file({"stages.prune.macs": 0.5}).axis == "tflite/int8"  # the other is larger than allowed
    recipe, until = workers.ran[0]
    assert (until, recipe.control, recipe.data.judge_on) == (None, False, "validation")
    with pytest.raises(StoreError, match="full"):
        made.cheapest_file({})
