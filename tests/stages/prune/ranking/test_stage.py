import numpy as np
import pytest

from pipeline.contracts.events import Advanced
from pipeline.errors import DataError, PostconditionError
from stages.keras.channels.groups import channel_groups
from stages.keras.normal_form import encode_model
from stages.prune.config import RankingConfig
from stages.prune.ranking.report import RankingReport
from stages.prune.ranking.scoring import group_scores
from stages.prune.ranking.stage import REPORT_FILE, RankingStage
from stages.samples.model_samples import samples_of


@pytest.fixture
def data(make_split):
    rng = np.random.default_rng(0)
    return make_split("any", rng.standard_normal((12, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 12))


@pytest.fixture
def model(keras, randomize, with_relus):
    return randomize(with_relus(keras))


def ranked(made, model, split, data):
    made.splits, made.inputs = {split: data}, {"model": made.write_model(model)}
    stage = RankingStage()
    stage.requires(made.config, made.inputs)
    result = stage.run(made)
    stage.ensures(made, result)
    return result


@pytest.mark.parametrize(("criterion", "split"), [("obs", "calibration"), ("taylor", "train"), ("apoz", "calibration")])
def test_the_artifact_holds_the_scores_that_the_criterion_gives(model, make_context, data, criterion, split):
    config = RankingConfig(criterion=criterion, samples=10)
    assert RankingStage().splits(config) == (split,)
    made, before = make_context(config, seed=3), encode_model(model)
    result = ranked(made, model, split, data)
    made.inputs = {"report": result.outputs[0]}
    report = RankingReport.model_validate_json(made.read("report", REPORT_FILE).read_bytes())
    groups = channel_groups(model).prunable
    expected = group_scores(model, groups, config, 3, samples_of(model, data))
    for own, found in zip(expected, report.scores_of(groups), strict=True):
        assert (own is None and found is None) or np.array_equal(own, found)
    facts = result.outputs[0].facts
    assert (facts.groups, facts.samples, report.samples) == (len(groups), 10, 10)
    assert facts.unranked_groups == sum(scores is None for scores in expected)
    told = [event for event in made.heard if isinstance(event, Advanced)]
    assert told[-1].done == told[-1].total
    assert f"{criterion} 10/10" in str(told[-1])
    assert encode_model(model) == before


def test_equal_inputs_give_equal_bytes_and_another_seed_others(model, make_context, data):
    first, again, other = (
        ranked(make_context(RankingConfig(criterion="obs"), seed=seed), model, "calibration", data).outputs[0].digest
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_missing_labels_and_empty_rankings_are_told(model, make_context, data, make_split):
    made = make_context(RankingConfig(criterion="taylor"))
    with pytest.raises(DataError, match="labels"):
        ranked(made, model, "train", make_split("any", data.x, None))
    made = make_context(RankingConfig(criterion="obs"))
    result = ranked(made, model, "calibration", data)
    facts = result.outputs[0].facts.model_copy(update={"groups": 0})
    broken = result.outputs[0].model_copy(update={"facts": facts})
    with pytest.raises(PostconditionError, match="no group"):
        RankingStage().ensures(made, type(result)((broken,), {}))
