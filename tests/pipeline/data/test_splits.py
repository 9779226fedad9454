import numpy as np

from pipeline.data import stratified_part


def test_inputs_are_preprocessed_in_float32(npz_source):
    split = npz_source().split("test")
    assert split.x.dtype == np.uint8
    batch, labels = next(split.batches(8))
    assert batch.dtype == np.float32
    assert np.array_equal(batch, split.x[:8].astype(np.float32) * 0.5 - 1)
    assert np.array_equal(labels, split.y[:8])
    assert sum(len(labels) for _, labels in split.batches(8)) == 30


def test_every_class_keeps_one_sample_however_small_the_fraction():
    labels = np.repeat(np.arange(5), 3)
    assert np.bincount(labels[stratified_part(labels, 0.01, 0)]).tolist() == [1] * 5
    assert np.bincount(labels[stratified_part(labels, 0.99, 0)]).tolist() == [2] * 5
    assert stratified_part(np.array([0, 0, 1]), 0.5, 0).tolist() in ([0], [1])


def test_each_output_sees_its_own_targets(npz_source, heads):
    split = npz_source(members=heads()).split("test")
    assert (split.of_output("level").task, split.of_output("level").y.shape) == ("regression", (30, 1))
    other = split.of_output("none")
    assert (other.task, other.labelled, len(other)) == ("unlabelled", False, 30)
    alone = npz_source().split("test")
    assert alone.of_output("any") is alone


def test_inputs_that_are_no_numbers_are_found_at_their_place_among_what_is_stored(npz_source, arrays):
    members = arrays()
    members["x_train"] = members["x_train"].astype(np.float32)
    members["x_train"][[40, 77], 3, 3, 0] = np.nan, np.inf
    data = npz_source(members=members)
    found = {}
    for name in ("train", "validation"):
        split = data.split(name)
        place = split.first_not_finite()
        if place is not None:
            found[int(split.rows[place[0]])] = split.x[place[0]]
    assert found
    assert set(found) <= {40, 77}
    assert all(not np.isfinite(sample).all() for sample in found.values())
    assert npz_source().split("train").first_not_finite() is None
