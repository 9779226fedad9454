import numpy as np

from stages.keras.regression import samples
from stages.keras.regression.running import Network
from stages.keras.regression.samples import Samples, batched


def test_every_fifth_sample_is_held_out_and_no_other():
    drawn = Samples(np.arange(12)[::-1], 5, lambda places: [places])
    assert drawn.batches == 3
    assert [drawn.read(batch)[0].tolist() for batch in range(3)] == [[11, 10, 9, 8, 7], [6, 5, 4, 3, 2], [1, 0]]
    held_out = [drawn.read(batch)[0][~drawn.fitted(batch)].tolist() for batch in range(3)]
    assert held_out == [[7], [2], []]
    assert drawn.read_held_out(0)[0].tolist() == [7, 2]
    assert (drawn.held_out_batches, drawn.fitted_count) == (1, 10)


def test_batches_follow_the_largest_tensor(network, images, monkeypatch):
    def sizes():
        return batched(Network.of(network()), np.arange(60), lambda places: [images[places]]).size

    assert sizes() == samples.MOST_SAMPLES
    monkeypatch.setattr(samples, "BATCH_BYTES", 6 * 6 * 8 * 4 * 7)  # seven samples of the largest
    assert sizes() == 7
    monkeypatch.setattr(samples, "BATCH_BYTES", 1)
    assert sizes() == 1
