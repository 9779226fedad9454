from pipeline import Recipe, run
from pipeline.running.run import _let_go


def test_all_of_a_run_is_there_the_second_time_and_what_is_forced_runs(finished):
    recipe, store, manifest = finished
    assert {entry.status for entry in manifest.stages} == {"ran"}
    again = run(Recipe.load(recipe), store, force_from="quantize")
    statuses = {entry.id: entry.status for entry in again.stages}
    assert statuses == {"load": "hit", "strip": "hit", "quantize:float32": "ran", "export:tflite/float32": "ran"}
    assert (again.metrics, again.verdict) == (manifest.metrics, "pass")


def test_an_error_that_is_its_own_cause_is_let_go():
    error = ValueError("of outside software")
    error.__cause__ = error
    _let_go(error)
    assert error.__traceback__ is None
