import numpy as np

from stages.prune.ranking.predicted_loss import predicted_losses


def test_losses_by_how_many_channels_stay():
    assert predicted_losses(np.array([3.0, 1.0, 2.0])).tolist() == [6.0, 3.0, 1.0, 0.0]
