import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ModelError
from stages.keras.channels.groups import ChannelGroup
from stages.prune.config import RankingConfig
from stages.prune.ranking.report import RankingReport

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def group(name, size):
    return ChannelGroup(name, np.arange(size), (name,), (), (), (), ())


def written(scores, criterion="apoz"):
    groups = [group(f"g{index}", 0 if own is None else len(own)) for index, own in enumerate(scores)]
    arrays = [None if own is None else np.array(own, np.float64) for own in scores]
    return groups, RankingReport.of(RankingConfig(criterion=criterion), 8, groups, arrays)


@given(scores=st.lists(st.lists(FINITE, min_size=1, max_size=4), min_size=1, max_size=3))
def test_scores_are_read_back_to_the_last_bit(scores):
    groups, report = written(scores)
    again = RankingReport.model_validate_json(report.to_json())
    assert again == report
    assert again.to_json() == report.to_json()
    for own, found in zip(scores, again.scores_of(groups), strict=True):
        assert found.tolist() == own


def test_a_group_that_is_not_ranked_stays_so():
    groups, report = written([[1.0, 2.0], None])
    ranked, unranked = RankingReport.model_validate_json(report.to_json()).scores_of(groups)
    assert ranked.tolist() == [1.0, 2.0]
    assert unranked is None


def test_criteria_that_are_a_loss_predict_it_for_each_number_of_channels_removed():
    _, report = written([[3.0, 1.0, 2.0]], "obs")
    assert json.loads(report.to_json())["groups"][0]["losses"] == [0, 1, 3, 6]
    _, report = written([[3.0, 1.0, 2.0]], "apoz")
    assert report.groups[0].losses is None


def test_groups_that_were_not_ranked_or_have_other_sizes_are_told():
    _, report = written([[1.0, 2.0]])
    for other in (group("g0", 3), group("g1", 2)):
        with pytest.raises(ModelError, match="another network"):
            report.scores_of([other])
