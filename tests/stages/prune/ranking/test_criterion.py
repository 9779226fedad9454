import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from pydantic import ValidationError

from pipeline.errors import PreconditionError, SecateurError
from stages.prune.config import PruneConfig, RankingConfig, ScanConfig
from stages.prune.ranking import criterion
from stages.prune.ranking.criterion import criteria, declared, package_of
from stages.prune.ranking.scoring import group_scores
from stages.prune.stage import PruneStage

NEEDS = {"apoz": "samples", "hessian": "samples", "obs": "samples", "taylor": "labels"}
SPLITS = {"apoz": "calibration", "hessian": "calibration", "obs": "calibration", "taylor": "train"}
LOSSES = {"hessian", "obs", "taylor"}
COMPARABLE = LOSSES | {"lamp", "random"}
SPARSE = {"l1": "magnitude", "l2": "magnitude", "magnitude": "magnitude", "random": "random"}
OURS = ("apoz", "bn_scale", "fpgm", "hessian", "l1", "l2", "lamp", "magnitude", "obs", "random", "taylor")


def test_which_there_are_and_what_they_declare():
    assert tuple(criteria()) == OURS
    for name in OURS:
        one = declared(name)
        expected = (NEEDS.get(name, "weights"), name in COMPARABLE, name in LOSSES, SPARSE.get(name))
        assert (one.needs, one.comparable, one.loss, one.sparse) == expected
        assert (one.split, package_of(name)) == (SPLITS.get(name), ())
        assert (one.score is None) == (name == "magnitude")
        assert one.score is None or "Choose it" in one.score.__doc__


@pytest.mark.parametrize("name", [name for name in OURS if name != "magnitude"])
def test_settings_and_stage_go_by_the_declaration(name):
    config, stage = PruneConfig.model_validate({"criterion": name}), PruneStage()
    assert config.normalisation_of_criterion == ("none" if name in COMPARABLE else "mean")
    assert stage.splits(config) == ((SPLITS[name],) if name in SPLITS else ())
    assert bool(stage.labels_for(config)) == (name == "taylor")
    assert stage.packages_of(config) == ()


def test_declarations_bring_in_nothing_heavy():
    code = (
        "import sys; from stages.prune.ranking.criterion import criteria, declared\n"
        "found = [declared(name) for name in criteria()]\n"
        "print(len(found), {'numpy', 'tensorflow', 'tf_keras', 'kerassurgeon'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split(maxsplit=1) == [str(len(OURS)), "set()\n"]


@pytest.mark.parametrize("kind", [ScanConfig, PruneConfig])
def test_a_criterion_of_single_weights_ranks_no_channels(kind):
    with pytest.raises(ValidationError, match="channels are ranked alike by l1 and l2"):
        kind.model_validate({"criterion": "magnitude"})
    with pytest.raises(PreconditionError, match="magnitude ranks single weights"):
        group_scores(None, (), RankingConfig(criterion="magnitude"), 0)


def test_an_unknown_name_is_told_with_all_names():
    with pytest.raises(ValidationError, match=r"Input should be 'apoz', 'bn_scale', .* or 'taylor'") as told:
        PruneConfig.model_validate({"criterion": "tailor"})
    assert told.value.errors()[0]["type"] == "literal_error"
    assert tuple(PruneConfig.model_json_schema()["properties"]["criterion"]["enum"]) == OURS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:one", "the criterion broken can't be loaded: No module named 'no_such_package'"),
        ("json:no_such_name", "the criterion broken can't be loaded: module 'json'"),
        ("json:dumps", "broken is not declared as a criterion"),
    ],
)
def test_a_broken_one_is_told_with_its_entry_point(monkeypatch, value, message):
    point = EntryPoint("broken", value, criterion.CRITERIA_GROUP)
    monkeypatch.setattr(criterion, "criteria", lambda: {"broken": point})
    with pytest.raises(SecateurError, match=message) as told:
        declared("broken")
    assert told.value.where == value
