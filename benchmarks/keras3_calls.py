"""Build a small network for each operation of Keras 3 whose inputs are not a single tensor of normal numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras3_networks import Make


def _of(kind: str, *names: str) -> dict[str, tuple[str, Make]]:
    return {name: (kind, lambda ops, *x, name=name: getattr(ops, name)(*x)) for name in names}


def _within(*names: str) -> dict[str, tuple[str, Make]]:
    """Use numbers between 0 and 1."""
    return {name: ("float", lambda ops, x, name=name: getattr(ops, name)(ops.sigmoid(x))) for name in names}


def _definite(*names: str) -> dict[str, tuple[str, Make]]:
    """Use positive definite matrices."""

    def call(ops: Any, x: Any, name: str) -> Any:
        return getattr(ops, name)(ops.matmul(x, ops.transpose(x, (0, 2, 1))) + 4 * np.eye(4, dtype="float32"))

    return {name: ("square", lambda ops, x, name=name: call(ops, x, name)) for name in names}


def _lists(kind: str, *names: str) -> dict[str, tuple[str, Make]]:
    return {name: (kind, lambda ops, *x, name=name: getattr(ops, name)(list(x))) for name in names}


def _kernel(*shape: int) -> Any:
    return np.random.default_rng(7).normal(size=shape).astype("float32")


OPERATIONS: Mapping[str, tuple[str, Make]] = {
    **_of("float float", "add", "arctan2", "allclose", "divide", "divide_no_nan", "equal", "fmax", "fmin", "fmod"),
    **_of("float float", "floor_divide", "greater", "greater_equal", "heaviside", "hypot", "isclose", "less"),
    **_of("float float", "less_equal", "logaddexp", "logaddexp2", "maximum", "minimum", "mod", "multiply", "nextafter"),
    **_of("float float", "not_equal", "subtract", "true_divide", "vdot", "inner", "polar"),
    "kron": ("vector", lambda ops, x: ops.kron(x, _kernel(2, 2))),
    **_within("arccos", "arcsin", "arctanh", "erfinv", "log", "log10", "log1p", "log2", "rsqrt", "sqrt", "i0"),
    **_within("cbrt", "logit"),
    "arccosh": ("float", lambda ops, x: ops.arccosh(1 + ops.exp(x))),
    "reciprocal": ("float", lambda ops, x: ops.reciprocal(1 + ops.exp(x))),
    **_of("int int", "bitwise_and", "bitwise_or", "bitwise_xor"),
    **_of("count count", "bitwise_left_shift", "bitwise_right_shift", "left_shift", "right_shift", "gcd", "lcm"),
    **_of("int", "bitwise_invert", "bitwise_not"),
    **_of("bool bool", "logical_and", "logical_or", "logical_xor"),
    **_of("bool", "logical_not"),
    **_of("holed", "isnan", "nan_to_num", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean"),
    **_of("holed", "nanmedian", "nanmin", "nanprod", "nanstd", "nansum", "nanvar", "isfinite"),
    "lu_factor": ("square", lambda ops, x: ops.lu_factor(x[0])),
    **_of("square", "det", "inv", "pinv", "slogdet", "eig", "matrix_rank", "qr", "svd"),
    **_definite("cholesky", "eigh", "logdet"),
    "cholesky_inverse": ("square", lambda ops, x: ops.cholesky_inverse(ops.tril(x) + 4 * np.eye(4, dtype="float32"))),
    **_of("square square", "solve", "matmul"),
    **_lists("float float", "concatenate", "dstack", "hstack", "stack", "vstack"),
    **_of("image image", "cdist"),
    "adaptive_average_pool": ("image", lambda ops, x: ops.adaptive_average_pool(x, (3, 3))),
    "adaptive_max_pool": ("image", lambda ops, x: ops.adaptive_max_pool(x, (3, 3))),
    "append": ("float float", lambda ops, x, y: ops.append(x, y, axis=1)),
    "argmax": ("float", lambda ops, x: ops.argmax(x, axis=-1)),
    "argmin": ("float", lambda ops, x: ops.argmin(x, axis=1, keepdims=True)),
    "argpartition": ("float", lambda ops, x: ops.argpartition(x, 2)),
    "array_split": ("float", lambda ops, x: ops.array_split(x, 4, axis=2)),
    "average": ("float", lambda ops, x: ops.average(x, axis=1, weights=abs(_kernel(4)))),
    "average_pool": ("image", lambda ops, x: ops.average_pool(x, 2)),
    "batch_normalization": ("image", lambda ops, x: ops.batch_normalization(x, _kernel(4), abs(_kernel(4)), -1)),
    "binary_crossentropy": ("share float", lambda ops, x, y: ops.binary_crossentropy(x, ops.sigmoid(y))),
    "bincount": ("tokens", lambda ops, x: ops.bincount(x, minlength=8)),
    "broadcast_to": ("float", lambda ops, x: ops.broadcast_to(x, (4, 4, 6))),
    "cast": ("float", lambda ops, x: ops.cast(x, "float16")),
    "categorical_crossentropy": ("one_hot float", lambda ops, x, y: ops.categorical_crossentropy(x, ops.softmax(y))),
    "clip": ("float", lambda ops, x: ops.clip(x, -0.5, 0.5)),
    "conv": ("image", lambda ops, x: ops.conv(x, _kernel(3, 3, 4, 2), padding="same")),
    "conv_transpose": (
        "image",
        lambda ops, x: ops.conv_transpose(x, _kernel(3, 3, 2, 4), 2, "same", data_format="channels_last"),
    ),
    "correlate": ("float", lambda ops, x: ops.correlate(ops.reshape(x[0], (-1,)), ops.reshape(x[1], (-1,)))),
    "cross": ("three three", lambda ops, x, y: ops.cross(x, y)),
    "ctc_decode": ("float", lambda ops, x: ops.ctc_decode(x, np.array([4, 3, 4, 2], "int32"))),
    "ctc_loss": (
        "count float classes",
        lambda ops, x, y, z: ops.ctc_loss(x[:, 0, :2], y, 0 * z + 2, 0 * z + 4),
    ),
    "cumprod": ("float", lambda ops, x: ops.cumprod(x, axis=1)),
    "cumsum": ("float", lambda ops, x: ops.cumsum(x, axis=1)),
    "depth_to_space": ("image", lambda ops, x: ops.depth_to_space(x, 2)),
    "depthwise_conv": ("image", lambda ops, x: ops.depthwise_conv(x, _kernel(3, 3, 4, 2))),
    "corrcoef": ("vector", lambda ops, x: ops.corrcoef(x)),
    "diag": ("vector", lambda ops, x: ops.diag(x[0])),
    "diagflat": ("vector", lambda ops, x: ops.diagflat(x[0])),
    "diagonal": ("square", lambda ops, x: ops.diagonal(x, axis1=1, axis2=2)),
    "digitize": ("float", lambda ops, x: ops.digitize(x, np.array([-1.0, 0, 1]))),
    "dot": ("float", lambda ops, x: ops.dot(x, _kernel(6, 2))),
    "dot_product_attention": ("image image", lambda ops, x, y: ops.dot_product_attention(x, y, y)),
    "dsplit": ("image", lambda ops, x: ops.dsplit(x, 2)),
    "einsum": ("row row", lambda ops, x, y: ops.einsum("bij,bkj->bik", x, y)),
    "expand_dims": ("float", lambda ops, x: ops.expand_dims(x, 1)),
    "extract_sequences": ("wave", lambda ops, x: ops.extract_sequences(x, 32, 16)),
    "fft": ("float float", lambda ops, x, y: ops.fft((x, y))),
    "fft2": ("float float", lambda ops, x, y: ops.fft2((x, y))),
    "ifft2": ("float float", lambda ops, x, y: ops.ifft2((x, y))),
    "flip": ("float", lambda ops, x: ops.flip(x, axis=1)),
    "fold": ("float", lambda ops, x: ops.fold(ops.transpose(ops.reshape(x, (-1, 4, 6)), (0, 1, 2)), (3, 4), 2)),
    "full_like": ("float", lambda ops, x: ops.full_like(x, 2.5)),
    "get_item": ("float", lambda ops, x: ops.get_item(x, (slice(None), 1))),
    "gelu": ("float", lambda ops, x: ops.gelu(x, approximate=False)),
    "histogram": ("float", lambda ops, x: ops.histogram(ops.ravel(x), bins=4, range=(-2, 2))),
    "hsplit": ("float", lambda ops, x: ops.hsplit(x, 2)),
    "imag": ("float float", lambda ops, x, y: ops.imag(ops.polar(x, y))),
    "real": ("float float", lambda ops, x, y: ops.real(ops.polar(x, y))),
    "conj": ("float float", lambda ops, x, y: ops.conj(ops.polar(x, y))),
    "view_as_complex": ("float float", lambda ops, x, y: ops.view_as_complex(ops.stack([x, y], -1))),
    "view_as_real": ("float float", lambda ops, x, y: ops.view_as_real(ops.polar(x, y))),
    "in_top_k": ("classes vector", lambda ops, x, y: ops.in_top_k(x, y, 2)),
    "irfft": ("float float", lambda ops, x, y: ops.irfft((x, y))),
    "isin": ("int", lambda ops, x: ops.isin(x, [1, 3])),
    "istft": (
        "wave",
        lambda ops, x: ops.istft(ops.stft(x, 32, 16, 32), 32, 16, 32),
    ),
    "layer_normalization": ("float", lambda ops, x: ops.layer_normalization(x, _kernel(6), _kernel(6))),
    "ldexp": ("float int", lambda ops, x, y: ops.ldexp(x, y)),
    "leaky_relu": ("float", lambda ops, x: ops.leaky_relu(x, 0.3)),
    "lstsq": ("square square", lambda ops, x, y: ops.lstsq(x[0], y[0])),
    "max_pool": ("image", lambda ops, x: ops.max_pool(x, 3, 2, padding="same")),
    "meshgrid": ("vector", lambda ops, x: ops.meshgrid(x[0], x[1])),
    "moments": ("image", lambda ops, x: ops.moments(x, [1, 2])),
    "moveaxis": ("image", lambda ops, x: ops.moveaxis(x, 3, 1)),
    "multi_hot": ("tokens", lambda ops, x: ops.multi_hot(x, 8)),
    "nanpercentile": ("holed", lambda ops, x: ops.nanpercentile(x, 30, axis=1)),
    "nanquantile": ("holed", lambda ops, x: ops.nanquantile(x, 0.3, axis=1)),
    "norm": ("float", lambda ops, x: ops.norm(x, axis=-1)),
    "normalize": ("float", lambda ops, x: ops.normalize(x)),
    "one_hot": ("tokens", lambda ops, x: ops.one_hot(x, 8)),
    "outer": ("vector", lambda ops, x: ops.outer(x[0], x[1])),
    "pad": ("image", lambda ops, x: ops.pad(x, ((0, 0), (1, 2), (2, 1), (0, 0)))),
    "percentile": ("float", lambda ops, x: ops.percentile(x, 30, axis=1)),
    "power": ("float float", lambda ops, x, y: ops.power(ops.exp(x), y)),
    "psnr": ("share share", lambda ops, x, y: ops.psnr(x, y, 1.0)),
    "quantile": ("float", lambda ops, x: ops.quantile(x, [0.2, 0.7], axis=2)),
    "rearrange": ("image", lambda ops, x: ops.rearrange(x, "b h w c -> b c h w")),
    "repeat": ("float", lambda ops, x: ops.repeat(x, 2, axis=1)),
    "reshape": ("float", lambda ops, x: ops.reshape(x, (-1, 8, 3))),
    "rms_normalization": ("float", lambda ops, x: ops.rms_normalization(x, _kernel(6))),
    "roll": ("float", lambda ops, x: ops.roll(x, 2, axis=1)),
    "rot90": ("image", lambda ops, x: ops.rot90(x, axes=(1, 2))),
    "round": ("float", lambda ops, x: ops.round(x, 1)),
    "saturate_cast": ("rgb", lambda ops, x: ops.saturate_cast(x * 3, "uint8")),
    "scatter": ("vector", lambda ops, x: ops.scatter(np.array([[1], [3], [0], [4]], "int32"), x, (5, 6))),
    "scatter_update": (
        "vector",
        lambda ops, x: ops.scatter_update(x, np.array([[1, 2], [0, 3]]), np.array([1.0, 2.0], "float32")),
    ),
    "searchsorted": ("vector", lambda ops, x: ops.searchsorted(np.array([-1.0, 0, 1], "float32"), ops.ravel(x))),
    **{
        name: (
            "float",
            lambda ops, x, name=name: getattr(ops, name)(x, np.array([0, 1, 1, 0], "int32"), num_segments=2),
        )
        for name in ("segment_max", "segment_min", "segment_prod", "segment_sum")
    },
    "select": ("float", lambda ops, x: ops.select([x > 0.5, x > 0], [x, x * 2], 0.1)),
    "separable_conv": ("image", lambda ops, x: ops.separable_conv(x, _kernel(3, 3, 4, 2), _kernel(1, 1, 8, 3))),
    "slice": ("float", lambda ops, x: ops.slice(x, (0, 1, 2), (3, 2, 3))),
    "slice_update": ("float", lambda ops, x: ops.slice_update(x, (0, 1, 2), _kernel(1, 2, 2))),
    "solve_triangular": ("square square", lambda ops, x, y: ops.solve_triangular(x, y, lower=True)),
    "space_to_depth": ("image", lambda ops, x: ops.space_to_depth(x, 2)),
    "sparse_categorical_crossentropy": (
        "classes vector",
        lambda ops, x, y: ops.sparse_categorical_crossentropy(x, y, from_logits=True),
    ),
    "split": ("float", lambda ops, x: ops.split(x, [2, 3], axis=2)),
    "squeeze": ("float", lambda ops, x: ops.squeeze(ops.expand_dims(x, 1), 1)),
    "stft": ("wave", lambda ops, x: ops.stft(x, 32, 16, 32)),
    "swapaxes": ("image", lambda ops, x: ops.swapaxes(x, 1, 3)),
    "take": ("float", lambda ops, x: ops.take(x, [2, 0, 1], axis=1)),
    "take_along_axis": ("float places", lambda ops, x, y: ops.take_along_axis(x, y, axis=1)),
    "tensordot": ("float", lambda ops, x: ops.tensordot(x, _kernel(6, 2), axes=1)),
    "threshold": ("float", lambda ops, x: ops.threshold(x, 0.2, 0.0)),
    "tile": ("float", lambda ops, x: ops.tile(x, (1, 2, 1))),
    "top_k": ("float", lambda ops, x: ops.top_k(x, 2)),
    "trace": ("square", lambda ops, x: ops.trace(x, axis1=1, axis2=2)),
    "transpose": ("image", lambda ops, x: ops.transpose(x, (0, 3, 1, 2))),
    "unfold": ("image", lambda ops, x: ops.unfold(ops.transpose(x, (0, 3, 1, 2)), 2)),
    "unique": ("tokens", lambda ops, x: ops.unique(x, size=6)),
    "unravel_index": ("tokens", lambda ops, x: ops.unravel_index(x, (3, 4))),
    "unstack": ("float", lambda ops, x: ops.unstack(x, axis=1)),
    "vander": ("vector", lambda ops, x: ops.vander(x[0], 3)),
    "view": ("float", lambda ops, x: ops.view(x, "int32")),
    "vsplit": ("float", lambda ops, x: ops.vsplit(ops.transpose(x, (1, 0, 2)), 2)),
    "where": ("float", lambda ops, x: ops.where(x > 0, x, 0.1 * x)),
}
