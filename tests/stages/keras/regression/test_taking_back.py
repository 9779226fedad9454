import math

import numpy as np
import pytest

from stages.keras.regression.output_error import OutputError
from stages.keras.regression.refit import LayerFit
from stages.keras.regression.running import Network
from stages.keras.regression.samples import Samples
from stages.keras.regression.taking_back import values_of, without_harm


def fit(name, kept=True):
    return LayerFit(layer=name, unknowns=1, rows=1, error_before=1.0, error_after=0.5, kept=kept)


FITS = [fit("stem"), fit("separable"), fit("conv"), fit("head", kept=False)]


@pytest.fixture
def error(small, images, tmp_path):
    samples = Samples(np.arange(len(images)), 16, lambda places: [images[places]])
    return OutputError.against(small.source, samples, tmp_path)


def damage(layer, by):
    for weight in layer.weights[:2]:
        weight.assign(weight + by * np.random.default_rng(0).standard_normal(weight.shape))


def test_what_does_no_harm_stays(small, error):
    before, limit = values_of(small.pruned), error.of(small.pruned)
    fits, reached = without_harm(Network.of(small.pruned), before, FITS, error, limit)
    assert (fits, reached) == (FITS, limit)


def test_the_layer_that_harms_is_taken_back_with_its_offset(small, error):
    before, limit = values_of(small.pruned), error.of(small.pruned)
    damage(small.pruned.get_layer("stem"), 99.0)
    small.pruned.get_layer("norm").beta.assign_add([5.0] * 4)  # where the offset of `stem` goes
    wanted = small.pruned.get_layer("conv").kernel.numpy()
    fits, reached = without_harm(Network.of(small.pruned), before, FITS, error, limit)
    assert reached <= limit
    assert [f.layer for f in fits if f.taken_back] == ["stem"]
    assert [f.layer for f in fits] == [f.layer for f in FITS]
    for weight in (*small.pruned.get_layer("stem").weights, small.pruned.get_layer("norm").beta):
        np.testing.assert_array_equal(weight, before[id(weight)])
    np.testing.assert_array_equal(small.pruned.get_layer("conv").kernel, wanted)


def test_the_worst_goes_first_until_it_is_no_worse(small, error):
    before, limit = values_of(small.pruned), error.of(small.pruned)
    damage(small.pruned.get_layer("conv"), 1e-3)
    damage(small.pruned.get_layer("separable"), 99.0)
    fits, reached = without_harm(Network.of(small.pruned), before, FITS, error, limit)
    assert reached <= limit
    assert "separable" in [f.layer for f in fits if f.taken_back]
    again, _ = without_harm(Network.of(small.pruned), before, FITS, error, limit * 2)
    assert not any(f.taken_back for f in again)


def test_values_that_are_not_finite_count_as_harm(small, error):
    before, limit = values_of(small.pruned), error.of(small.pruned)
    small.pruned.get_layer("conv").bias.assign([math.nan] * 4)
    fits, reached = without_harm(Network.of(small.pruned), before, FITS, error, limit)
    assert reached <= limit
    assert [f.layer for f in fits if f.taken_back] == ["conv"]


def test_in_the_end_everything_is_as_it_was(small, error):
    """What no layer brings back: here normalizations that have other values than before."""
    before, limit = values_of(small.pruned), error.of(small.pruned)
    small.pruned.get_layer("norm").gamma.assign([999.0] * 4)
    fits, reached = without_harm(Network.of(small.pruned), before, FITS, error, limit)
    assert reached == limit
    assert [f.layer for f in fits if f.taken_back] == ["stem", "separable", "conv"]
    for weight in small.pruned.weights:
        np.testing.assert_array_equal(weight, before[id(weight)])


def test_copies_of_values_stay_as_they_were(small):
    before = values_of(small.pruned)
    weight = small.pruned.get_layer("conv").kernel
    wanted = weight.numpy().copy()
    weight.assign(weight * 2)
    np.testing.assert_array_equal(before[id(weight)], wanted)
    assert before.keys() == {id(weight) for weight in small.pruned.weights}
