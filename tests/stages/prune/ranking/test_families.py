from itertools import pairwise

import numpy as np

from stages.prune.ranking.families import by_sensitivity


def test_all_groups_give_as_much_as_costs_the_same_accuracy():
    tough, soft = [(0.25, 0.1), (0.5, 0.4)], [(0.25, 0.0), (0.5, 0.1)]
    curve = by_sensitivity([100, 100], [100, 100], [tough, soft])
    for level in np.linspace(0.01, 0.49, 7):
        first, second = curve(level)
        assert first >= second
    levels = [curve(level) for level in np.linspace(0, 1, 50)]
    assert all((later <= earlier).all() for earlier, later in pairwise(levels))
    np.testing.assert_allclose(levels[0], [100, 100], atol=1)
    np.testing.assert_allclose(levels[-1], [0, 0], atol=1)
    at_a_tenth = next(counts for counts in (curve(level) for level in np.linspace(0, 1, 2000)) if counts[0] <= 75)
    np.testing.assert_allclose(at_a_tenth, [75, 50], atol=1)
