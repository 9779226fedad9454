import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.channels.left import channels_left
from stages.keras.regression import refit as refit_module
from stages.keras.regression import system as system_module
from stages.keras.regression.refit import Settings, refit
from stages.keras.regression.samples import Samples
from stages.keras.regression.targets import Positions
from stages.keras.tensorflow import import_keras, import_tensorflow

COUNT = 60


def branches():
    """Return residual, concatenation, depthwise, separable, transposed, grouped, shared, flattened; two inputs."""
    keras = import_keras()
    layers = keras.layers
    image, vector = keras.Input((6, 6, 2), name="image"), keras.Input((3,), name="vector")
    stem = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(image)
    stem = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(stem))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise", activation="relu")(stem)
    x = layers.Conv2D(6, 1, name="project", use_bias=False)(x)
    x = layers.Add()([stem, layers.BatchNormalization(name="project_norm")(x)])
    y = layers.SeparableConv2D(4, 3, padding="same", name="separable", activation="relu")(x)
    x = layers.Concatenate()([x, y, layers.Conv2D(4, 3, padding="same", groups=2, name="grouped")(x)])
    x = layers.MaxPooling2D()(x)
    shared = layers.Conv2D(6, 3, padding="same", name="shared", activation="relu")
    x = layers.Conv2D(6, 1, name="narrow")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="transposed")(shared(shared(x)))
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    x = layers.Concatenate()([x, layers.Dense(4, activation="relu", name="side")(vector)])
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model([image, vector], layers.Dense(3, activation="softmax", name="head")(x))


def sampled(model, count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]


class Case:
    """Hold a pruned network with its source, and fit it."""

    def __init__(self, cut, make=branches, seed=3, count=COUNT):
        result = cut(make(), seed)
        self.source, self.pruned = result.model, result.pruned
        self.kept = channels_left(result.model, result.graph, result.keep)
        self.inputs = sampled(self.source, count)
        self.count = count
        self.first = self.pruned.get_weights()

    def fit(self, folder, heard=lambda *_: None, positions=100, size=16):
        self.pruned.set_weights(self.first)
        samples = Samples(np.arange(self.count), size, lambda places: [array[places] for array in self.inputs])
        settings = Settings(Positions(positions, 1), 1e-3, folder)
        return refit(self.pruned, self.source, self.kept, samples, settings, heard)

    def error(self):
        """Return how far outputs are from the source's on held-out samples."""
        held_out = [array[4::5] for array in self.inputs]
        arrays = held_out if len(held_out) > 1 else held_out[0]
        return float(np.square(self.source(arrays) - self.pruned(arrays)).mean())


@pytest.fixture
def case(cut):
    return Case(cut)


def test_each_layer_and_the_whole_network_come_nearer_to_the_source(case, tmp_path):
    before, source = case.error(), case.source.get_weights()
    fits = {fit.layer: fit for fit in case.fit(tmp_path)}
    assert fits.keys() == {layer.name for layer in case.pruned.layers if layer.weights and "norm" not in layer.name}
    assert all(fit.error_after < fit.error_before for fit in fits.values() if fit.kept)
    assert all(fit.error_after == fit.error_before for fit in fits.values() if not fit.kept)
    assert sum(fit.kept for fit in fits.values()) >= 5
    assert case.error() < 0.5 * before
    for now, then in zip(case.source.get_weights(), source, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not list(tmp_path.glob("front-*"))


def bound(keras):
    """Return a network in which most layers may not have any weights."""
    layers, image = keras.layers, keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="free")(image)
    x = layers.Conv2D(8, 3, activation="relu", kernel_constraint="non_neg", bias_constraint="non_neg", name="conv")(x)
    x = layers.SeparableConv2D(6, 2, depthwise_constraint="non_neg", pointwise_constraint="unit_norm", name="both")(x)
    x = layers.Dense(3, kernel_constraint="max_norm", activation="softmax", name="head")(layers.Flatten()(x))
    model = keras.Model(image, x)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.constraint is not None:
                weight.assign(weight.constraint(weight))
    return model


def test_weights_stay_within_their_constraints(cut, tmp_path):
    case = Case(cut, lambda: bound(import_keras()))
    for weight in case.pruned.weights:
        if weight.constraint is not None:
            weight.assign(weight.constraint(weight))
    case.first = case.pruned.get_weights()
    fits = {fit.layer: fit for fit in case.fit(tmp_path)}
    assert sum(fits[name].kept for name in ("conv", "both", "head")) >= 2
    assert all(fit.error_after < fit.error_before for fit in fits.values() if fit.kept)
    assert fits["head"].divergence_after is None
    for weight in case.pruned.weights:
        if weight.constraint is not None:
            np.testing.assert_allclose(weight.constraint(weight), weight, atol=1e-5, err_msg=weight.name)


def test_layers_that_read_what_they_read_before_keep_their_weights(case, tmp_path):
    fits = {fit.layer: fit for fit in case.fit(tmp_path)}
    before = dict(zip([weight.name for weight in case.pruned.weights], case.first, strict=True))
    for name in ("stem", "depthwise", "side"):
        assert not fits[name].kept
        assert fits[name].error_before < 1e-12
    for weight in case.pruned.weights:
        if weight.name.split("/")[0] in ("stem", "stem_norm", "depthwise", "side"):
            np.testing.assert_array_equal(weight, before[weight.name])


def test_two_runs_give_equal_bytes(case, tmp_path):
    fits = case.fit(tmp_path / "one")
    weights = [weight.tobytes() for weight in case.pruned.get_weights()]
    assert case.fit(tmp_path / "other") == fits
    assert [weight.tobytes() for weight in case.pruned.get_weights()] == weights


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [2, 9])
def test_a_killed_run_resumes_after_the_last_finished_step(case, tmp_path, monkeypatch, after):
    fits = case.fit(tmp_path / "whole")
    weights = [weight.tobytes() for weight in case.pruned.get_weights()]

    def killing(done, total, what):
        if done >= after:
            raise KilledError

    with pytest.raises(KilledError):
        case.fit(tmp_path / "killed", killing)
    finished = len(list((tmp_path / "killed").glob("step-*.json")))
    assert bool(finished) == (after > 4)
    fitted, real = [], refit_module._Fitter.fit
    monkeypatch.setattr(refit_module._Fitter, "fit", lambda self, step: fitted.append(step) or real(self, step))
    assert case.fit(tmp_path / "killed") == fits
    assert [weight.tobytes() for weight in case.pruned.get_weights()] == weights
    assert len(fitted) == len(list((tmp_path / "whole").glob("step-*.json"))) - finished
    assert case.fit(tmp_path / "killed") == fits  # all of it from the folder
    assert len(fitted) == len(list((tmp_path / "whole").glob("step-*.json"))) - finished


def test_progress_by_layer(case, tmp_path):
    heard = []
    fits = case.fit(tmp_path, lambda *said: heard.append(said))
    assert heard[:4] == [(batch, 4 + len(fits), "source") for batch in (1, 2, 3, 4)]
    assert [done for done, _, _ in heard] == sorted({done for done, _, _ in heard})
    assert heard[-1] == (4 + len(fits), 4 + len(fits), "head")


def chain():
    layers, image = import_keras().layers, import_keras().Input((6, 6, 2))
    x = image
    for number in range(3):
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name=f"conv{number}")(x)
    return import_keras().Model(image, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x)))


def test_block_by_block_comes_near_to_all_at_once(cut, tmp_path, monkeypatch):
    case = Case(cut, chain, count=100)
    whole = {fit.layer: fit for fit in case.fit(tmp_path / "whole")}
    monkeypatch.setattr(system_module, "BLOCK", 10)
    blocks = {fit.layer: fit for fit in case.fit(tmp_path / "blocks")}
    assert blocks.keys() == whole.keys()
    assert max(fit.unknowns for fit in blocks.values()) > 20  # three blocks
    for name, fit in blocks.items():
        assert fit.error_after <= 0.1 * fit.error_before + 1.5 * whole[name].error_after


def test_few_positions_of_each_map_suffice(cut, tmp_path):
    case = Case(cut, chain, count=100)
    before = case.error()
    fits = {fit.layer: fit for fit in case.fit(tmp_path, positions=5)}
    assert (fits["conv1"].rows, fits["head"].rows) == (400, 80)
    assert case.error() < 0.5 * before


def test_all_rows_without_batches_of_the_same_size(cut, tmp_path):
    case = Case(cut, chain)
    fits = case.fit(tmp_path / "one", size=16)
    other = case.fit(tmp_path / "other", size=60)
    for one, two in zip(fits, other, strict=True):
        assert (one.rows, one.kept) == (two.rows, two.kept)
        assert one.error_after == pytest.approx(two.error_after, rel=1e-3, abs=1e-9)


def test_layers_that_are_not_finite_are_named(cut, tmp_path):
    """Whether a layer's own weights are the reason, or only what it reads."""
    case = Case(cut, chain)
    kernel = case.pruned.get_layer("conv1").kernel
    kernel.assign(np.full(kernel.shape, np.inf))
    case.first = case.pruned.get_weights()
    with pytest.raises(ModelError, match="holds NaN or infinite values in the fitted network") as caught:
        case.fit(tmp_path / "weights")
    assert caught.value.where == "conv1"
    case = Case(cut, chain)
    case.inputs[0][7, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="in the source") as caught:
        case.fit(tmp_path / "data")
    assert caught.value.where == "conv0"


def logarithms():
    tf, keras = import_tensorflow(), import_keras()
    vector = keras.Input((4,))
    x = tf.math.log(keras.layers.Dense(6, activation="relu", name="first")(vector) + 1e-3)
    return keras.Model(vector, keras.layers.Dense(2, name="last")(x))


def test_values_that_are_not_finite_in_the_pruned_network_alone(cut, tmp_path):
    case = Case(cut, logarithms)
    case.pruned.get_layer("first").activation = import_keras().activations.linear
    with pytest.raises(ModelError, match="reads NaN or infinite values in the fitted network") as caught:
        case.fit(tmp_path)
    assert caught.value.where == "last"


def test_the_samples_of_a_batch(keras):
    read = []
    samples = Samples(np.arange(20, 32), 5, lambda places: read.append(places.tolist()) or [places])
    assert samples.batches == 3
    assert [samples.fitted(batch).tolist() for batch in (0, 2)] == [[True] * 4 + [False], [True, True]]
    assert [samples.read(batch)[0].tolist() for batch in (0, 2)] == [[20, 21, 22, 23, 24], [30, 31]]
    assert samples.held_out.tolist() == [24, 29]
    assert (samples.held_out_batches, samples.read_held_out(0)[0].tolist()) == (1, [24, 29])
    many = Samples(np.arange(100, 160), 5, samples.take)
    assert [many.read_held_out(batch)[0].tolist() for batch in range(many.held_out_batches)] == [
        [104, 109, 114, 119, 124],
        [129, 134, 139, 144, 149],
        [154, 159],
    ]


def mixed():
    keras = import_keras()
    policy, layers = keras.mixed_precision.Policy("mixed_float16"), keras.layers
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv", dtype=policy)(image)
    x = layers.Conv2D(6, 3, padding="same", name="other", dtype=policy)(x)
    return keras.Model(image, layers.Dense(3, name="head", dtype="float32")(layers.Flatten()(x)))


def test_a_network_of_mixed_precision(tmp_path):
    keras = import_keras()
    source = mixed()
    pruned = keras.models.clone_model(source)
    pruned.set_weights(source.get_weights())
    kernel = pruned.get_layer("conv").kernel.numpy()
    kernel[..., ::2] = 0  # channels that are as good as removed
    pruned.get_layer("conv").set_weights([kernel, np.zeros(6)])
    case = object.__new__(Case)
    case.source, case.pruned, case.kept, case.count = source, pruned, {}, COUNT
    case.inputs, case.first = sampled(source), pruned.get_weights()
    before = case.error()
    fits = case.fit(tmp_path)
    assert sum(fit.kept for fit in fits) >= 2
    assert case.error() < 0.1 * before
    assert all(weight.dtype == np.float32 for weight in pruned.get_weights())
