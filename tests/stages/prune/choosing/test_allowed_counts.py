import numpy as np

from stages.prune.choosing.allowed_counts import allowed_counts
from stages.prune.config import PruneConfig


def test_steps_are_what_may_be_kept():
    class Group:
        channels = np.arange(32)
        producers = ()

    config = PruneConfig.model_validate({"round_to": "auto", "min_channels": 9, "measure_on": {"target": "cpu"}})
    assert allowed_counts(Group, config, np.array([8, 16, 24, 32])).tolist() == [16, 24, 32]
    assert allowed_counts(Group, config).tolist() == list(range(9, 33))  # no layer of it could be measured
