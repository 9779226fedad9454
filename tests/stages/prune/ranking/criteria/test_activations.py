import numpy as np

from stages.prune.ranking.criteria.activations import zero_shares
from stages.samples.model_samples import samples_of


def test_apoz_counts_zeros_after_the_activation_in_any_number_of_batches(keras, randomize, scores, with_relus):
    model = randomize(with_relus(keras))
    images = np.random.default_rng(0).standard_normal((7, 6, 6, 2)).astype(np.float32)
    reader = keras.Model(model.input, [model.get_layer(name).output for name in ("own", "relu")])
    own, later = (np.mean(out == 0, axis=(0, 1, 2)) for out in reader(images))
    for batch in (2, 7, 100):
        shares = zero_shares(model, ["own", "later", "none"], samples_of(model, images), batch=batch)
        np.testing.assert_allclose(shares["own"], own)
        np.testing.assert_allclose(shares["later"], later)
        np.testing.assert_array_equal(shares["none"], np.zeros(5))
    found = scores(model, "apoz", data=images)
    np.testing.assert_allclose(found["own"], 1 - own)
    np.testing.assert_allclose(found["later"], 1 - later)
