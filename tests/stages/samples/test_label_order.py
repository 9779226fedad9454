import numpy as np

from pipeline.data import Preprocess
from stages.samples.label_order import reordered
from stages.samples.preprocess_trial import Tried

SCALED = Preprocess(scale=1 / 255)
ORDER = (2, 0, 3, 1)  # the model's number of each class of the data
LABELS = np.arange(200) % 4


def tried(name, predicted, labels=LABELS, preprocess=None):
    return Tried(name, preprocess or Preprocess(), np.asarray(predicted), np.asarray(labels))


def test_the_order_in_which_predictions_are_right_is_found_with_its_trial():
    noise = np.random.default_rng(0).integers(0, 4, 200)
    mostly = np.where(np.arange(200) < 180, np.array(ORDER)[LABELS], noise)
    best, order = reordered([tried("as now", noise), tried("0…1", mostly, preprocess=SCALED)], 4)
    assert (best.name, best.preprocess, order) == ("0…1", SCALED, ORDER)
    assert best.correct == (np.array(ORDER)[LABELS] == mostly).sum()


def test_a_class_without_samples_keeps_a_number_of_its_own():
    labels = LABELS % 3  # none of class 3
    best, order = reordered([tried("as now", (labels + 1) % 3, labels)], 4)
    assert (order, best.accuracy) == ((1, 2, 0, 3), 1.0)


def test_few_samples_tell_nothing():
    assert reordered([tried("as now", LABELS[:39], LABELS[:39])], 4) is None
