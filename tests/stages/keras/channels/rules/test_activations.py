import numpy as np
import pytest

from stages.keras.channels.labels import CannotFollowError, Labels
from stages.keras.channels.rules.activations import check_elementwise

LAST, SECOND = Labels(3, np.arange(4)), Labels(1, np.arange(4))


@pytest.mark.parametrize("name", ["relu", "gelu", "sigmoid", "swish"])
def test_what_treats_each_channel_alone_passes(keras, name):
    function = getattr(keras.activations, name)
    check_elementwise(function, LAST, 4)
    check_elementwise(None, LAST, 4)
    with pytest.raises(CannotFollowError, match="unknown activation"):
        check_elementwise(lambda x: function(x) - x[..., :1], LAST, 4)


def test_softmax_passes_on_channels_only_beside_its_axis(keras):
    check_elementwise(keras.activations.softmax, SECOND, 4)
    with pytest.raises(CannotFollowError, match="softmax across channels"):
        check_elementwise(keras.activations.softmax, LAST, 4)


def test_a_name_alone_vouches_for_nothing():
    def relu(x):
        return x - x[..., :1]

    with pytest.raises(CannotFollowError, match="unknown activation relu"):
        check_elementwise(relu, LAST, 4)
