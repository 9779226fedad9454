"""Choose weights of integer files: made files hold the very codes, biases keep means, held-out samples decide."""

import re

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.records.schemes import Quantization
from stages.formats import rounding
from stages.formats.conversion import job_of
from stages.formats.onnx import export as onnx_export
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.overrides import RANGE
from stages.formats.onnx.tensors import onnx_constants, onnx_graph
from stages.formats.rounding import round_model, rounded
from stages.formats.tflite import export as tflite_export
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.ranges import LEVELS
from stages.formats.tflite.tensors import tflite_constants
from stages.keras.layer_kinds import kind_of
from stages.keras.precision import shared_in_float32
from stages.keras.regression import refit, system
from stages.keras.regression.grids import Grid
from stages.keras.tensorflow import import_keras

ADAPTIVE = Quantization(scheme="int8", rounding="adaptive")
BIASES = Quantization(scheme="int8", bias_correction=True)


def kinds():
    """Return a network of each kind of layer: folded, shared, grouped, depthwise, separable, transposed, dense."""
    keras = import_keras()
    layers = keras.layers
    image = keras.Input((6, 6, 4), name="image")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(6, 3, padding="same", groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.SeparableConv2D(6, 3, name="separable", activation="relu")(x)
    shared = layers.Conv2D(6, 1, name="shared", activation="relu")
    x = layers.Conv2DTranspose(5, 3, strides=2, name="transposed")(shared(shared(x)))
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    return keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x))


@pytest.fixture(scope="module")
def network():
    """Return the network with statistics of normalizations like trained ones, and samples."""
    import_keras().utils.set_random_seed(1)
    model, rng = kinds(), np.random.default_rng(0)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 2, 6), rng.normal(size=6), rng.normal(size=6), rng.uniform(0.5, 2, 6)])
    samples = rng.standard_normal((60, 6, 6, 4)).astype(np.float32)
    return model, samples + 2 * samples.mean(axis=-1, keepdims=True) + 0.3


def codes_in_keras_order(values, layer, kernel, form):
    """Return a file's codes (channels first) in the order of the Keras kernel."""
    depthwise, transposed = len(kernel.outputs) == 2, "Transpose" in type(layer).__name__
    if type(layer).__name__ == "Dense":
        return values.T
    if form == "tflite":  # (O, H, W, I), of a depthwise kernel (O, 1, H, W)
        values = values[:, 0][..., None] if depthwise else values
        inner = np.moveaxis(values, 0, -2 if transposed else -1)
    else:  # (O, I, H, W)
        inner = np.moveaxis(values, (0, 1), (-2, -1) if transposed else (-1, -2))
    shape = tuple(getattr(layer, kernel.weight).shape)
    return inner.reshape(shape) if depthwise else inner


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_the_file_holds_the_very_codes(network, tmp_path, form):
    model, samples = network
    limit = LEVELS if form == "tflite" else RANGE
    found = round_model(model, ADAPTIVE, [samples], Grid(limit), tmp_path)
    if form == "tflite":
        constants = [c for _, c in tflite_constants(convert_tflite(found.model, found.how, calibration=samples))]
    else:
        data = convert_onnx(found.model, found.how, calibration=samples)
        constants = [c for _, c in onnx_constants(onnx_graph(data))]
    assert found.rounded_again(constants) == []
    with_zeros = [np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 2)]) for values in constants]
    assert found.rounded_again(with_zeros) == []
    assert found.rounded_again([*constants[:-1], constants[-1] + 1]) != []
    for view in found.layers:
        for kernel in kind_of(view.layer).kernels:
            values = getattr(view.layer, kernel.weight).numpy().astype(np.float64)
            axes = kernel.outputs if kernel.inputs != -1 else (-2,)
            others = tuple(axis for axis in range(values.ndim) if axis - values.ndim not in axes)
            codes = np.rint(values / np.abs(values).max(axis=others, keepdims=True) * limit)
            there = [c for c in constants if c.size == codes.size and same(codes, c, view.layer, kernel, form)]
            assert there, (view.layer.name, kernel.weight)


def same(codes, constant, layer, kernel, form):
    try:
        return np.array_equal(codes_in_keras_order(constant, layer, kernel, form), codes)
    except (ValueError, IndexError, np.exceptions.AxisError):  # another layer's constant of equal size
        return False


def test_each_layer_and_the_network_come_nearer_to_the_float_one(network, tmp_path):
    model, samples = network
    weights = model.get_weights()
    found = round_model(model, ADAPTIVE, [samples], Grid(15), tmp_path)
    fits = {fit.layer: fit for fit in found.fits}
    assert fits.keys() == {"stem", "grouped", "depthwise", "separable", "shared", "transposed", "head"}
    assert all(fit.kept and fit.error_after < fit.error_before for fit in fits.values())
    assert found.error_after < 0.5 * found.error_before
    for now, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, before)


def test_layers_of_many_unknowns_are_rounded_block_by_block(network, tmp_path, monkeypatch):
    for module in (system, refit):
        monkeypatch.setattr(module, "BLOCK", 10)
    model, samples = network
    found = round_model(model, ADAPTIVE, [samples], Grid(15), tmp_path)
    assert found.error_after < 0.5 * found.error_before
    for view in found.layers:
        assert np.abs(view.codes).max(axis=1).tolist() == [15] * len(view.codes)
        np.testing.assert_allclose(view.codes * view.steps, view.matrices.swapaxes(1, 2).reshape(view.codes.shape))


def plain():
    """Return a network whose convolutions end before their activations, on small maps: all positions are read."""
    keras = import_keras()
    layers = keras.layers
    image = keras.Input((4, 4, 3), name="image")
    x = layers.ReLU(name="relu")(layers.Conv2D(4, 3, padding="same", name="first")(image))
    x = layers.ReLU()(layers.Conv2D(5, 3, name="second")(x))
    return keras.Model(image, layers.Dense(3, name="head")(layers.Flatten()(x)))


def test_bias_correction_takes_the_mean_error_of_each_channel(tmp_path, monkeypatch):
    """Compare with a convolution of numpy's own: means of the errors on the fitted samples, before and after."""
    monkeypatch.setattr(rounding, "POSITIONS", 16)  # all of them
    import_keras().utils.set_random_seed(2)
    model, samples = plain(), np.random.default_rng(3).uniform(0, 1, (50, 4, 4, 3)).astype(np.float32)
    grid = Grid(7)
    found = round_model(model, BIASES, [samples], grid, tmp_path)
    fitted = np.random.default_rng(0).permutation(50)[np.arange(50) % 5 != 4]

    def first(of, bias):
        kernel = of.get_layer("first").kernel.numpy().astype(np.float64)
        padded = np.pad(samples[fitted].astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        seen = sliding_window_view(padded, (3, 3), axis=(1, 2))  # (N, 4, 4, C, 3, 3)
        return np.einsum("nxycij,ijco->nxyo", seen, kernel) + bias

    float_bias = model.get_layer("first").bias.numpy()
    wanted, made = first(model, float_bias), first(found.model, float_bias)
    error = (wanted - made).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(found.model.get_layer("first").bias.numpy(), float_bias + error, atol=1e-6)
    assert np.abs(error).max() > 1e-3
    for name in ("first", "second", "head"):
        outputs = [
            import_keras().Model(m.inputs, m.get_layer(name).output)(samples[fitted]).numpy()
            for m in (model, found.model)
        ]
        means = (outputs[0] - outputs[1]).reshape(-1, outputs[0].shape[-1]).mean(axis=0)
        np.testing.assert_allclose(means, 0, atol=1e-5)
        kernel = model.get_layer(name).kernel.numpy()
        steps = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 7
        np.testing.assert_allclose(found.model.get_layer(name).kernel, np.rint(kernel / steps) * steps, atol=1e-6)


def test_without_bias_correction_biases_stay(tmp_path):
    model, samples = plain(), np.random.default_rng(3).uniform(0, 1, (50, 4, 4, 3)).astype(np.float32)
    how = Quantization(scheme="int8", rounding="adaptive", bias_correction=False)
    found = round_model(model, how, [samples], Grid(7), tmp_path)
    assert any(fit.kept for fit in found.fits)
    for name in ("first", "second", "head"):
        np.testing.assert_array_equal(found.model.get_layer(name).bias, model.get_layer(name).bias)


def test_layers_in_float_keep_their_weights_by_their_normalizations_names_too(network, tmp_path):
    model, samples = network
    how = ADAPTIVE.model_copy(update={"keep_float": ("norm", "head")})
    found = round_model(model, how, [samples], Grid(127), tmp_path)
    assert found.how.keep_float == ("head", "stem")
    np.testing.assert_array_equal(found.model.get_layer("head").kernel, model.get_layer("head").kernel)
    assert "stem" not in {view.layer.name for view in found.layers}


@pytest.mark.parametrize(("form", "scheme"), [("tflite", "int8"), ("tflite", "int16x8"), ("onnx", "int8")])
def test_the_export_takes_the_weights_and_says_what_they_gain(exporting, network, form, scheme):
    model, samples = network
    how = Quantization(scheme=scheme, rounding="adaptive")
    context = exporting(form, how, model, samples)
    weights = shared_in_float32(context, "model").get_weights()
    convert = {"tflite": tflite_export, "onnx": onnx_export}[form].convert_here
    made = convert(context)
    assert made["difference"] < 0.05
    (warning,) = context.warnings
    assert warning.startswith("adaptive rounding of 7 layers: mean squared error of the outputs by weights alone ")
    before, after = re.findall(r"\d\S*", warning)[1:3]
    assert float(after) < 0.8 * float(before)
    for now, then in zip(shared_in_float32(context, "model").get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_what_has_too_few_samples_or_no_graph_stays_and_is_told(exporting, network):
    model, samples = network
    for given, words in ((samples[:9], "9 calibration samples are too few, 10 are needed"), (samples, None)):
        context = exporting("tflite", BIASES, model, given)
        found = rounded(context, job_of(context, "none"), BIASES, LEVELS)
        assert (found is None) == (words is not None)
        assert context.warnings == ([f"weights are rounded to the nearest and biases stay: {words}"] if words else [])
    fixed = import_keras().Sequential([import_keras().Input((4,), batch_size=3), import_keras().layers.Dense(2)])
    context = exporting("tflite", BIASES, fixed, np.zeros((12, 4), np.float32))
    assert rounded(context, job_of(context, "none"), BIASES, LEVELS) is None
    assert context.warnings[0].endswith("the model takes batches of 3 only")


def test_recurrent_layers_are_left_alone_and_nested_models_are_not(tmp_path):
    keras = import_keras()
    keras.utils.set_random_seed(3)
    inner = keras.Sequential([keras.Input((6, 3)), keras.layers.Conv1D(4, 3, name="conv")], name="inner")
    image = keras.Input((6, 3))
    x = keras.layers.GRU(5, name="gru", unroll=True)(inner(image))
    model = keras.Model(image, keras.layers.Dense(2, name="head")(x))
    samples = np.random.default_rng(0).standard_normal((40, 6, 3)).astype(np.float32)
    how = ADAPTIVE.model_copy(update={"keep_float": ("head",)})
    found = round_model(model, how, [samples], Grid(127), tmp_path)
    assert [view.layer.name for view in found.layers] == ["conv"]
    for name in ("gru", "head"):
        for now, then in zip(
            found.model.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(now, then)
    np.testing.assert_allclose(found.model(samples), model(samples), atol=0.02)


def test_a_network_without_linear_layers_is_its_copy(tmp_path):
    keras = import_keras()
    sequence = keras.Input((4, 3))
    model = keras.Model(sequence, keras.layers.ReLU()(keras.layers.GRU(2)(sequence)))
    samples = np.random.default_rng(0).standard_normal((20, 4, 3)).astype(np.float32)
    found = round_model(model, ADAPTIVE, [samples], Grid(127), tmp_path)
    assert (found.layers, found.error_before, found.error_after) == ((), 0.0, 0.0)
    assert found.model is not model


def test_one_step_for_all_channels(network, tmp_path):
    model, samples = network
    how = ADAPTIVE.model_copy(update={"granularity": "per_tensor"})
    found = round_model(model, how, [samples], Grid(RANGE, per_channel=False), tmp_path)
    data = convert_onnx(found.model, found.how, calibration=samples)
    assert found.rounded_again([c for _, c in onnx_constants(onnx_graph(data))]) == []
    data = convert_tflite(model, how, calibration=samples)
    assert found.rounded_again([c for _, c in tflite_constants(data)]) != []
