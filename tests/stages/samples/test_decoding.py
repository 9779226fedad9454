"""Check that pictures become what the recipe says, and that other files are recognized."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.data.images import ImageForm
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.samples.decoding import decode_images

WIDE = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 30, 4, axis=0).repeat(3, axis=2)  # 4×8, columns differ


def encoded(pixels: Any, kind: str = "png") -> bytes:
    return bytes(getattr(import_tensorflow().io, f"encode_{kind}")(pixels).numpy())


def decoded(data: bytes, resize: Any, size: tuple[int, int], channels: int = 3) -> Any:
    images, failures = decode_images([data], ImageForm(size, resize, channels), threads=0)
    assert failures == {}
    assert images.dtype == np.float32
    return images[0]


@pytest.mark.parametrize("resize", ["bilinear", "nearest", "area", "bicubic", "crop", "pad"])
def test_a_picture_of_the_right_size_stays_as_it_is(resize: str) -> None:
    np.testing.assert_allclose(decoded(encoded(WIDE), resize, (4, 8)), WIDE, atol=1e-4)


def test_stretching_is_what_keras_does_for_folders(tmp_path: Any) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(encoded(WIDE))
    keras = import_keras()
    for resize in ("bilinear", "nearest", "area", "bicubic"):
        options = {"image_size": (3, 5), "interpolation": resize, "labels": None}
        theirs = next(iter(keras.utils.image_dataset_from_directory(tmp_path, **options)))
        np.testing.assert_array_equal(decoded(encoded(WIDE), resize, (3, 5)), theirs[0])


def test_crop_takes_the_middle_and_pad_adds_black() -> None:
    np.testing.assert_array_equal(decoded(encoded(WIDE), "crop", (4, 4)), WIDE[:, 2:6])
    tall = decoded(encoded(WIDE.transpose(1, 0, 2)), "crop", (4, 4))
    np.testing.assert_array_equal(tall, WIDE.transpose(1, 0, 2)[2:6])
    padded = decoded(encoded(WIDE), "pad", (8, 8))
    np.testing.assert_array_equal(padded[2:6], WIDE)
    assert not padded[[0, 1, 6, 7]].any()


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_channels_are_those_asked_for(kind: str) -> None:
    even = np.full((8, 8, 3), 90, np.uint8)
    for channels in (1, 3):
        assert np.abs(decoded(encoded(even, kind), "bilinear", (4, 4), channels) - 90).max() <= 1
    assert decoded(encoded(even), "bilinear", (4, 4), 4)[..., 3].min() == 255


def test_what_is_no_picture_is_told_apart_by_place() -> None:
    good = encoded(WIDE)
    jpeg = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "jpeg")
    data = [good, b"", b"GIF87a", good[:40], jpeg[: len(jpeg) // 2], jpeg[:60]]
    images, failures = decode_images(data, ImageForm((4, 8), "bilinear", 3), threads=0)
    assert sorted(failures) == [1, 2, 3, 4, 5]
    assert failures[1] == "Input is empty."
    assert "Invalid PNG" in failures[3]
    assert "JPEG" in failures[4]
    np.testing.assert_array_equal(images[0], WIDE)
