"""Build a small network for each layer and operation of Keras 3: its inputs, and the call. See `keras3_coverage.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

WORDS = ["red", "green", "blue"]
BATCH = 4  # the batch size with which `load` tries a network: an operation may work across samples
Make = Callable[..., Any]
RNG = np.random.default_rng(5)


def _normal(*shape: int) -> Any:
    return RNG.normal(size=(BATCH, *shape)).astype("float32")


def _square() -> Any:
    return (RNG.normal(size=(BATCH, 4, 4)) + 4 * np.eye(4)).astype("float32")


def _holed() -> Any:
    x = _normal(4, 6)
    x[:, 1, 2] = np.nan
    return x


INPUTS: Mapping[str, Callable[[], Any]] = {
    "float": lambda: _normal(4, 6),
    "share": lambda: RNG.uniform(0.05, 0.95, (BATCH, 4, 6)).astype("float32"),
    "above_one": lambda: RNG.uniform(1.1, 3, (BATCH, 4, 6)).astype("float32"),
    "holed": _holed,
    "int": lambda: RNG.integers(0, 6, (BATCH, 4, 6)).astype("int32"),
    "count": lambda: RNG.integers(1, 5, (BATCH, 4, 6)).astype("int32"),
    "bool": lambda: RNG.integers(0, 2, (BATCH, 4, 6)).astype("bool"),
    "vector": lambda: _normal(6),
    "three": lambda: _normal(3),
    "image": lambda: _normal(8, 8, 4),
    "rgb": lambda: RNG.uniform(0, 255, (BATCH, 8, 8, 3)).astype("float32"),
    "unit_rgb": lambda: RNG.uniform(0, 1, (BATCH, 8, 8, 3)).astype("float32"),
    "volume": lambda: _normal(6, 6, 6, 2),
    "row": lambda: _normal(8, 4),
    "video": lambda: _normal(3, 8, 8, 2),
    "strips": lambda: _normal(3, 8, 2),
    "volumes": lambda: _normal(2, 6, 6, 6, 2),
    "wave": lambda: _normal(256),
    "words": lambda: np.array(["red", "blue", "none", "green"]),
    "lines": lambda: np.array(["red green", "blue", "none red blue green", "green"]),
    "tokens": lambda: RNG.integers(0, 7, (BATCH, 6)).astype("int32"),
    "classes": lambda: RNG.integers(0, 6, (BATCH,)).astype("int32"),
    "places": lambda: RNG.integers(0, 4, (BATCH, 4, 6)).astype("int32"),
    "square": _square,
    "one_hot": lambda: np.eye(6, dtype="float32")[RNG.integers(0, 6, (BATCH, 4))],
}


def _simple(*names: str, kind: str, **settings: Any) -> dict[str, tuple[str, Make]]:
    return {name: (kind, lambda room, *x, name=name: getattr(room, name)(**settings)(*x)) for name in names}


def _sized(pattern: str, kinds: tuple[str, str, str], *args: Any, **settings: Any) -> dict[str, tuple[str, Make]]:
    """Return a layer in one, two and three dimensions."""
    return {
        pattern.replace("#", str(n)): (
            kind,
            lambda room, x, n=n: getattr(room, pattern.replace("#", str(n)))(*args, **settings)(x),
        )
        for n, kind in zip((1, 2, 3), kinds, strict=True)
    }


def _merged(*names: str) -> dict[str, tuple[str, Make]]:
    return {name: ("image image", lambda room, x, y, name=name: getattr(room, name)()([x, y])) for name in names}


SPATIAL = ("row", "image", "volume")
RANDOM_RGB = (
    *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomColorDegeneration", "RandomErasing", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomElasticTransform"),
    *("AutoContrast", "Equalization", "Solarization", "ContrastLimitedAdaptiveHistogramEqualization"),
)

LAYERS: Mapping[str, tuple[str, Make]] = {
    **{
        name: made
        for pattern, args, settings in (
            ("AdaptiveAveragePooling#D", (3,), {}),
            ("AdaptiveMaxPooling#D", (3,), {}),
            ("AveragePooling#D", (2,), {"padding": "same"}),
            ("AvgPool#D", (2,), {}),
            ("MaxPool#D", (), {}),
            ("MaxPooling#D", (), {"pool_size": 3, "strides": 2, "padding": "same"}),
            ("Conv#D", (3, 3), {"padding": "same", "activation": "relu"}),
            ("Convolution#D", (3, 2), {"strides": 2}),
            ("Conv#DTranspose", (3, 3), {"strides": 2, "padding": "same"}),
            ("Convolution#DTranspose", (3, 2), {"strides": 2}),
            ("Cropping#D", (1,), {}),
            ("ZeroPadding#D", (1,), {}),
            ("UpSampling#D", (2,), {}),
            ("GlobalAveragePooling#D", (), {}),
            ("GlobalAvgPool#D", (), {"keepdims": True}),
            ("GlobalMaxPool#D", (), {}),
            ("GlobalMaxPooling#D", (), {"keepdims": True}),
            ("SpatialDropout#D", (0.3,), {}),
        )
        for name, made in _sized(pattern, SPATIAL, *args, **settings).items()
    },
    **_sized("ConvLSTM#D", ("strips", "video", "volumes"), 2, 3),
    **_merged("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"),
    **_simple("SeparableConv1D", "SeparableConvolution1D", "DepthwiseConv1D", kind="row", filters=3, kernel_size=3),
    "DepthwiseConv1D": ("row", lambda room, x: room.DepthwiseConv1D(3, depth_multiplier=2)(x)),
    **_simple("SeparableConv2D", "SeparableConvolution2D", kind="image", filters=3, kernel_size=3),
    "DepthwiseConv2D": ("image", lambda room, x: room.DepthwiseConv2D(3, strides=2)(x)),
    **_simple(*RANDOM_RGB, kind="rgb"),
    **_simple(
        "RandomBrightness", "RandomContrast", "RandomHue", "RandomSaturation", "RandomSharpness", kind="rgb", factor=0.3
    ),
    **_simple("RandomRotation", "RandomShear", kind="rgb", factor=0.2),
    "RandomRotation": ("rgb", lambda room, x: room.RandomRotation(0.2)(x)),
    "RandomShear": ("rgb", lambda room, x: room.RandomShear(0.2)(x)),
    "RandomTranslation": ("rgb", lambda room, x: room.RandomTranslation(0.1, 0.2)(x)),
    "RandomZoom": ("rgb", lambda room, x: room.RandomZoom(0.2)(x)),
    "RandomCrop": ("rgb", lambda room, x: room.RandomCrop(6, 5)(x)),
    "RandomColorJitter": ("rgb", lambda room, x: room.RandomColorJitter((0, 255), 0.2, 0.2, 0.2, 0.2)(x)),
    "RandomHue": ("rgb", lambda room, x: room.RandomHue(0.2, value_range=(0, 255))(x)),
    "RandomColorDegeneration": ("rgb", lambda room, x: room.RandomColorDegeneration(0.3)(x)),
    "RandomPosterization": ("rgb", lambda room, x: room.RandomPosterization(4)(x)),
    "Pipeline": ("rgb", lambda room, x: room.Pipeline([room.Rescaling(1 / 255), room.Dense(3)])(x)),
    "Activation": ("float", lambda room, x: room.Activation("hard_sigmoid")(x)),
    "AdditiveAttention": ("row row", lambda room, x, y: room.AdditiveAttention()([x, y])),
    "Attention": ("row row", lambda room, x, y: room.Attention(use_scale=True)([x, y])),
    "AlphaDropout": ("image", lambda room, x: room.AlphaDropout(0.3)(x)),
    "Bidirectional": ("row", lambda room, x: room.Bidirectional(room.LSTM(3, return_sequences=True))(x)),
    "CategoryEncoding": ("tokens", lambda room, x: room.CategoryEncoding(8, output_mode="multi_hot")(x)),
    "CenterCrop": ("image", lambda room, x: room.CenterCrop(5, 6)(x)),
    "Dense": ("row", lambda room, x: room.Dense(3, activation="squareplus")(x)),
    "Discretization": ("float", lambda room, x: room.Discretization([-1.0, 0.0, 0.5])(x)),
    "Dot": ("row row", lambda room, x, y: room.Dot((2, 2))([x, y])),
    "Dropout": ("image", lambda room, x: room.Dropout(0.3)(x)),
    "EinsumDense": ("row", lambda room, x: room.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")(x)),
    "Embedding": ("tokens", lambda room, x: room.LSTM(3)(room.Embedding(7, 5, mask_zero=True)(x))),
    "GRU": ("row", lambda room, x: room.GRU(3, return_sequences=True)(x)),
    "GRUCell": ("row", lambda room, x: room.RNN(room.GRUCell(3))(x)),
    "GaussianDropout": ("image", lambda room, x: room.GaussianDropout(0.3)(x)),
    "GaussianNoise": ("image", lambda room, x: room.GaussianNoise(0.3)(x)),
    "GroupNormalization": ("image", lambda room, x: room.GroupNormalization(2)(x)),
    "GroupQueryAttention": ("row row", lambda room, x, y: room.GroupQueryAttention(3, 4, 2)(x, y)),
    "HashedCrossing": ("classes classes", lambda room, x, y: room.HashedCrossing(5)((x, y))),
    "Hashing": ("tokens", lambda room, x: room.Hashing(5)(x)),
    "InputLayer": ("row", lambda room, x: room.Dense(3)(x)),
    "IntegerLookup": ("tokens", lambda room, x: room.IntegerLookup(vocabulary=[1, 3, 5])(x)),
    "LSTM": ("row", lambda room, x: room.LSTM(3)(x)),
    "LSTMCell": ("row", lambda room, x: room.RNN(room.LSTMCell(3), return_sequences=True)(x)),
    "LayerNormalization": ("image", lambda room, x: room.LayerNormalization(rms_scaling=True)(x)),
    "Masking": ("row", lambda room, x: room.GRU(3)(room.Masking()(x * (x[..., :1] > 0)))),
    "MaxNumBoundingBoxes": ("rgb", lambda room, x: room.MaxNumBoundingBoxes(3)(x)),
    "MelSpectrogram": ("wave", lambda room, x: room.MelSpectrogram(64, 32, sampling_rate=2000, num_mel_bins=8)(x)),
    "MultiHeadAttention": ("row row", lambda room, x, y: room.MultiHeadAttention(2, 3)(x, y)),
    "Normalization": ("rgb", lambda room, x: room.Normalization(mean=[1.0, 2, 3], variance=[1.0, 2, 3])(x)),
    "PReLU": ("image", lambda room, x: room.PReLU(shared_axes=[1, 2])(x)),
    "Permute": ("image", lambda room, x: room.Permute((3, 1, 2))(x)),
    "RNN": ("row", lambda room, x: room.RNN(room.SimpleRNNCell(3))(x)),
    "RepeatVector": ("vector", lambda room, x: room.RepeatVector(3)(x)),
    "Rescaling": ("rgb", lambda room, x: room.Rescaling(1 / 127.5, -1)(x)),
    "Reshape": ("image", lambda room, x: room.Reshape((4, -1))(x)),
    "Resizing": ("rgb", lambda room, x: room.Resizing(5, 6)(x)),
    "ReversibleEmbedding": (
        "tokens",
        lambda room, x: (lambda one: one(room.Dense(5)(one(x)), reverse=True))(room.ReversibleEmbedding(7, 5)),
    ),
    "STFTSpectrogram": ("row", lambda room, x: room.STFTSpectrogram(frame_length=4, frame_step=2, fft_length=8)(x)),
    "SimpleRNN": ("row", lambda room, x: room.SimpleRNN(3)(x)),
    "SimpleRNNCell": ("row", lambda room, x: room.RNN(room.SimpleRNNCell(3))(x)),
    "Softmax": ("image", lambda room, x: room.Softmax(axis=[1, 2])(x)),
    "SpectralNormalization": ("image", lambda room, x: room.SpectralNormalization(room.Conv2D(3, 3))(x)),
    "StackedRNNCells": (
        "row",
        lambda room, x: room.RNN(room.StackedRNNCells([room.LSTMCell(3), room.LSTMCell(2)]))(x),
    ),
    "StringLookup": ("words", lambda room, x: room.Embedding(5, 3)(room.StringLookup(vocabulary=WORDS)(x))),
    "TextVectorization": (
        "lines",
        lambda room, x: room.Embedding(6, 3)(room.TextVectorization(vocabulary=WORDS, output_sequence_length=4)(x)),
    ),
    "TimeDistributed": ("video", lambda room, x: room.TimeDistributed(room.Conv2D(3, 3))(x)),
}

NO_GRAPH: Mapping[str, str] = {
    "layers.FlaxLayer": "holds code of another framework, which the file can't carry",
    "layers.JaxLayer": "holds code of another framework, which the file can't carry",
    "layers.TorchModuleWrapper": "holds a pickled module of another framework",
    "layers.TFSMLayer": "names a SavedModel somewhere on a disk",
    "layers.Lambda": "holds Python code (taken only by the user's word)",
    "layers.InputSpec": "no layer: a description of what a layer takes",
    "layers.Layer": "the class that layers are made from",
    "layers.Wrapper": "the class that wrappers are made from",
    **{f"ops.{name}": "takes Python functions" for name in (
        "associative_scan", "cond", "custom_gradient", "fori_loop", "jvp", "map", "scan", "switch", "vectorize",
        "vectorized_map", "while_loop",
    )},
    **{f"ops.{name}": "tells of a tensor when the graph is built; not in the graph" for name in (
        "convert_to_numpy", "dtype", "is_tensor", "ndim", "shape", "size",
    )},
    "ops.convert_to_tensor": "gives a tensor of the graph back as it is",
}  # fmt: skip

CREATED: Mapping[str, Callable[[Any], Any]] = {
    "arange": lambda ops: ops.arange(6),
    "array": lambda ops: ops.array([1.0, 2, 3, 4, 5, 6]),
    "bartlett": lambda ops: ops.bartlett(6),
    "blackman": lambda ops: ops.blackman(6),
    "empty": lambda ops: ops.empty((6,)),
    "eye": lambda ops: ops.eye(4, 6),
    "full": lambda ops: ops.full((6,), 2.5),
    "geomspace": lambda ops: ops.geomspace(1.0, 8.0, 6),
    "hamming": lambda ops: ops.hamming(6),
    "hanning": lambda ops: ops.hanning(6),
    "identity": lambda ops: ops.identity(6)[:4],
    "kaiser": lambda ops: ops.kaiser(6, 3.0),
    "linspace": lambda ops: ops.linspace(0.0, 1.0, 6),
    "logspace": lambda ops: ops.logspace(0.0, 1.0, 6),
    "ones": lambda ops: ops.ones((6,)),
    "tri": lambda ops: ops.tri(4, 6),
    "zeros": lambda ops: ops.zeros((6,)),
}
