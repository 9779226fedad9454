import pytest


@pytest.fixture(autouse=True)
def _same_weights(keras):
    """Draw the same weights whichever tests ran before."""
    keras.utils.set_random_seed(0)
