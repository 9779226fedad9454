"""Kinds are open: facts are read by the class that their kind's entry point names, unknown ones as plain data."""

from pipeline.contracts.discovery import stages
from pipeline.records.kinds import facts_class, kinds


def test_every_kind_that_stages_take_or_give_is_known_by_its_name():
    used = {kind for stage in stages().values() for wanted in stage.inputs.values() for kind in wanted.kinds}
    used |= {kind for stage in stages().values() for kind in stage.outputs}
    assert used <= set(kinds())
    for kind in kinds():
        assert facts_class(kind).model_fields["kind"].default == kind
