"""Decode samples to arrays with TensorFlow, for the engine's entry points `secateur.decoders`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.system.quiet import quiet

if TYPE_CHECKING:
    from pipeline.data.images import ImageForm
    from pipeline.data.tfrecord import Feature

GRAPH_TALK = ("Graph execution error", "Detected at node", "<stack traces", "[[{{node", "File ", "Node:")


def decode_images(
    encoded: Sequence[bytes], form: ImageForm, threads: int, *, silent: bool = False
) -> tuple[Any, dict[int, str]]:
    """Decode images to float32 (n, height, width, channels); also return failures by place, with the reason.

    `silent` suppresses the codecs' messages about broken ones, for callers in the main thread.

    Supports JPEG, PNG, BMP, and the first picture of a GIF, with the requested channels. The methods are those of
    `tf.image.resize` without antialiasing, as in `tf_keras.utils.image_dataset_from_directory`; `crop` first takes the
    largest center part of the right proportions, `pad` adds black around; both are bilinear.
    """
    import numpy as np

    from stages.keras.tensorflow import prepared_tensorflow

    tf = prepared_tensorflow(threads)
    decode = _image_decoder(form)
    images = np.zeros((len(encoded), *form.size, form.channels), np.float32)
    failures = {}

    def decode_one(index: int) -> None:
        try:
            images[index] = decode(tf.constant(encoded[index])).numpy()
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            failures[index] = _said(error)

    # One by one: images differ in size before they are resized, so there is no batch yet.
    with quiet() if silent else nullcontext(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(decode_one, range(len(encoded))))
    return images, dict(sorted(failures.items()))


@cache
def _image_decoder(form: ImageForm) -> Callable[[Any], Any]:
    from stages.keras.tensorflow import import_tensorflow

    tf = import_tensorflow()

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])  # type: ignore[untyped-decorator, unused-ignore]
    def decode(data: Any) -> Any:
        # With animations expanded, a GIF would come with an axis of frames.
        image = tf.io.decode_image(data, channels=form.channels, expand_animations=False)
        # `decode_image` does not know its rank before it has read, and resizing needs it.
        image.set_shape((None, None, form.channels))
        return tf.ensure_shape(_resized(tf, image, form), (*form.size, form.channels))

    return decode  # type: ignore[no-any-return, unused-ignore]


def _resized(tf: Any, image: Any, form: ImageForm) -> Any:
    image = tf.cast(image, tf.float32)
    if form.resize == "pad":
        return tf.image.resize_with_pad(image, *form.size)
    if form.resize != "crop":
        return tf.image.resize(image, form.size, form.resize)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    cut_height = tf.minimum(height, width * form.size[0] // form.size[1])
    cut_width = tf.minimum(width, height * form.size[1] // form.size[0])
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    cut = tf.image.crop_to_bounding_box(image, top, left, tf.maximum(cut_height, 1), tf.maximum(cut_width, 1))
    return tf.image.resize(cut, form.size, "bilinear")


def read_records(path: Path, threads: int) -> Iterator[bytes]:
    """Yield the records of a TFRecord file, their checksums verified; DataError if one does not match."""
    from stages.keras.tensorflow import prepared_tensorflow

    tf = prepared_tensorflow(threads)
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            yield record.numpy()
    except tf.errors.DataLossError as error:
        raise DataError(f"the file is damaged: {_said(error)}", where=str(path), hint="write it again") from error


def parse_examples(records: Sequence[bytes], features: Mapping[str, Feature], threads: int) -> dict[str, Any]:
    """Parse features of serialized `tf.train.Example`s by name: (n, *shape), bytes as objects (n,).

    ValueError, in TensorFlow's words, if a record is not an example or lacks a feature of that type and size.
    """
    from stages.keras.tensorflow import prepared_tensorflow

    tf = prepared_tensorflow(threads)
    dtypes = {"float32": tf.float32, "int64": tf.int64}
    schema = {
        name: tf.io.FixedLenFeature(
            feature.shape if feature.type in dtypes else (), dtypes.get(feature.type, tf.string)
        )
        for name, feature in features.items()
    }
    try:
        parsed = tf.io.parse_example(tf.constant(list(records), tf.string), schema)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(_said(error)) from error
    return {name: tensor.numpy() for name, tensor in parsed.items()}


def _said(error: Exception) -> str:
    """Return what TensorFlow found, without the location in its graph."""
    lines = str(getattr(error, "message", error)).splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.strip().startswith(GRAPH_TALK)]
    text = kept[-1] if kept else type(error).__name__
    return re.sub(r"^\{\{.*?\}\} | \[Op:.*$", "", text)[:160]
