"""Check what becomes of one action, by a stage of a few lines."""

import dataclasses

import pytest

from pipeline.contracts.stage import StageConfig, StageResult
from pipeline.errors import PLEASE_REPORT, BlobError, PostconditionError, StageError
from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import CalibrationFacts
from pipeline.records.manifest import Action
from pipeline.running import run_action
from pipeline.running.run_action import Context, Job, RunScope, perform
from pipeline.store import Store


class Writing:
    """Write one file; `before` is called first."""

    outputs = ("calibration-set",)

    def __init__(self, before=lambda context: None):
        self.before = before

    def requires(self, config, inputs):
        pass

    def run(self, context):
        self.before(context)
        file = context.write("samples.npy", b"samples", "application/x-npy")
        return StageResult((Artifact(files=(file,), facts=CalibrationFacts(samples=1)),), {"samples": 1.0})

    def ensures(self, context, result):
        pass


ACTION = Action(
    stage="writing", version=1, axis=None, config={}, inputs={}, packages={}, seed=None, threads=None, device=None
)
JOB = Job("writing", ACTION, StageConfig(), {})


@pytest.fixture
def scope(recipe_file, store):
    return RunScope(Recipe.load(recipe_file()), store, None, {}, lambda event: None, "0000abcd")


@pytest.fixture
def staged(monkeypatch):
    """Let the stage `writing` be this one."""
    return lambda stage: monkeypatch.setattr(run_action, "stages", lambda: {"writing": stage})


def test_an_action_runs_once_unless_it_is_forced(scope, staged):
    staged(Writing())
    first, second = perform(JOB, scope), perform(JOB, scope)
    assert (first.status, second.status) == ("ran", "hit")
    assert second.record == first.record == scope.store.records.get(ACTION.key)
    assert perform(JOB, scope, force=True).status == "ran"
    assert (first.record.metrics, first.record.provenance.run_id) == ({"samples": 1.0}, "0000abcd")


def test_what_nobody_foresaw_is_an_error_of_ours_and_nothing_is_recorded(scope, staged):
    staged(Writing(lambda context: 1 / 0))
    with pytest.raises(StageError, match="writing failed: ZeroDivisionError: division by zero") as caught:
        perform(JOB, scope)
    assert (caught.value.where, caught.value.hint) == ("writing", PLEASE_REPORT)
    assert scope.store.records.get(ACTION.key) is None


def test_a_kind_that_a_stage_does_not_declare_is_refused(scope, staged):
    stage = Writing()
    stage.outputs = ("keras-model",)
    staged(stage)
    with pytest.raises(PostconditionError, match="writing made calibration-set, which it does not declare"):
        perform(JOB, scope)
    assert scope.store.records.get(ACTION.key) is None


def test_scratch_stays_for_a_stage_that_was_stopped_and_goes_with_its_success(scope, staged):
    seen = []

    def stopped(context):
        seen.append(sorted(path.name for path in context.work_dir.iterdir()))
        (context.work_dir / "step").write_text("1")
        if len(seen) == 1:
            raise KeyboardInterrupt

    staged(Writing(stopped))
    with pytest.raises(KeyboardInterrupt):
        perform(JOB, scope)
    perform(JOB, scope)
    assert seen == [[], ["step"]]
    assert not scope.store.can_resume(ACTION.key)


@pytest.mark.parametrize("place", ["open", "rename"])
def test_a_folder_in_place_of_a_file_of_the_scratch_fails_one_run_and_no_more(scope, staged, place):
    def saving(context):
        step = context.work_dir / "step"
        partial = context.work_dir / "step.partial" if place == "rename" else step
        partial.write_text("1")
        partial.replace(step)

    staged(Writing(saving))
    (scope.store.create_work_dir(ACTION.key) / "step").mkdir()
    with pytest.raises(BlobError, match="the action's scratch is damaged") as caught:
        perform(JOB, scope)
    assert caught.value.where.endswith(f"{ACTION.key}/step")
    assert [path.name.partition(".")[0] for path in (scope.store.root / "quarantine").iterdir()] == ["step"]
    assert perform(JOB, scope).status == "ran"


def test_a_folder_elsewhere_is_left_alone(scope, staged, tmp_path):
    staged(Writing(lambda context: tmp_path.write_text("x")))
    with pytest.raises(StageError, match="writing failed: IsADirectoryError"):
        perform(JOB, scope)
    assert tmp_path.is_dir()


def test_a_damaged_input_is_never_read(scope, staged):
    staged(Writing())
    artifact = perform(JOB, scope).record.outputs[0]
    job = Job("next", ACTION, StageConfig(), {"samples": artifact})
    path = Context(job, scope, scope.store.root).read("samples", "samples.npy")
    assert path.read_bytes() == b"samples"
    path.unlink()
    another_process = dataclasses.replace(scope, store=Store(scope.store.root))
    with pytest.raises(BlobError, match="a blob is missing") as caught:
        Context(job, another_process, scope.store.root).read("samples", "samples.npy")
    assert caught.value.where == "next: samples/samples.npy"
