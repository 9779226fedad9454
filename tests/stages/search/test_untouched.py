from __future__ import annotations

from stages.search.candidates import Candidate
from stages.search.untouched import untouched


def test_what_changes_weights_is_left_out(searched):
    recipe = searched("{}")
    made = Candidate(recipe.source.file, untouched(recipe)).recipe()
    assert [step.stage for step in made.steps] == ["load", "strip", "quantize", "export", "verify", "benchmark"]
    assert (made.control, made.gates) == (False, ())
    assert made.data == recipe.data
