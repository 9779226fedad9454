"""Import TensorFlow once and quietly, with the Keras that kerassurgeon and tfmot need.

`TF_USE_LEGACY_KERAS` must be set before the first import of TensorFlow, thread counts before its first operation: so
every stage gets TensorFlow from here, inside its functions.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pipeline.errors import DeviceError, PreconditionError
from pipeline.system.memory import keep_pages_ready
from pipeline.system.quiet import quiet

ENVIRONMENT = {
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime >= 1.29 looks up hosts, writes under the home directory
    "GRPC_VERBOSITY": "NONE",
    # oneDNN's kernels use their own pool that never shrinks: a training of Xception left 750 MB in it.
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}
# TensorFlow's own kernels; oneDNN's take both layouts, and TensorFlow 2.21 uses them by itself on CPUs with AVX-512 or
# newer instructions for networks.
# `findings/tensorflow_channels_first_needs_onednn.sh` shows it.
NHWC_ONLY = re.compile(r"only supports? (the )?NHWC")

# Keras walks along a network's graph by recursion, a frame or more for each layer on the longest way. ResNetRS270 needs
# nearly all of the 1,000 frames that Python permits, and what calls Keras here needs some as well.
RECURSION_LIMIT = 10_000

_after_import: list[Callable[[], None]] = []


def after_import(call: Callable[[], None]) -> None:
    """Call `call` once, when `import_keras` has imported TensorFlow and no operation has run yet."""
    if call not in _after_import:
        _after_import.append(call)


@cache
def import_keras() -> Any:
    """Return the `tf_keras` module (Keras 2), with TensorFlow's log noise off. Imports TensorFlow on the first call."""
    for name, value in ENVIRONMENT.items():
        # What the user has set stays.
        os.environ.setdefault(name, value)
    keep_pages_ready()
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    with quiet():  # deprecations, and what is logged before any level can be set: oneDNN's greeting on newer CPUs
        import tensorflow as tf
        import tf_keras
    # Half a million objects that live as long as the process: keep later collections from searching them.
    gc.collect()
    gc.freeze()
    # After freezing: pages that no collection visits stay shared with a child that is forked here (Python's
    # `gc.freeze`).
    while _after_import:
        _after_import.pop()()
    tf.get_logger().setLevel(logging.ERROR)
    try:
        from absl import logging as absl_logging
    except ImportError:  # pragma: no cover - absl comes with TensorFlow
        return tf_keras
    absl_logging.set_verbosity(absl_logging.ERROR)
    return tf_keras


def import_tensorflow() -> Any:
    """Return the `tensorflow` module, quiet (see `import_keras`)."""
    import_keras()
    import tensorflow as tf

    return tf


def prepared_tensorflow(threads: int) -> Any:
    """Return the `tensorflow` module with thread counts set (0 leaves them), for work before any action."""
    tf = import_tensorflow()
    if threads:
        _set_threads(tf, threads)
    return tf


def import_tfmot() -> Any:
    """Return the `tensorflow_model_optimization` module, quiet."""
    import_keras()
    with quiet():  # deprecations inside tfmot's own modules
        import tensorflow_model_optimization as tfmot
    return tfmot


@contextmanager
def tensorflow_action(seed: int, threads: int) -> Iterator[Any]:
    """Yield the `tf_keras` module in the state that every action starts from; afterwards its memory is freed.

    That state: names counted from zero, thread counts, op determinism, seeded generators. Thread counts can only be set
    before TensorFlow's first operation: a process that changes them later gets a PreconditionError. DeviceError if
    TensorFlow lacks kernels for channels-first layers here.
    """
    keras, tf = import_keras(), import_tensorflow()
    # Names from zero again: automatic names such as `model_1` would enter the bytes of TFLite files.
    keras.backend.clear_session()
    _set_threads(tf, threads)
    tf.config.experimental.enable_op_determinism()
    # Dropout and augmentation then draw from generators that can be reseeded at each epoch.
    keras.backend.experimental.enable_tf_random_generator()
    keras.utils.set_random_seed(seed)
    _save_as_documented()
    known_gradients = frozenset(_gradients())
    try:
        yield keras
    except tf.errors.OpError as error:
        if not NHWC_ONLY.search(str(error)):
            raise
        raise DeviceError(
            "TensorFlow has no kernels for layers with channels first on this CPU",
            hint="set TF_ENABLE_ONEDNN_OPTS=1 in the environment: oneDNN has them, and is off on older CPUs",
        ) from error
    finally:
        keras.backend.clear_session()
        _forget_gradients(known_gradients)


def _set_threads(tf: Any, threads: int) -> None:
    # Threads share out sums: another count gives other last bits, so it is set for each action.
    config = tf.config.threading
    # 0 means TensorFlow's default: the environment's value, or one thread per processor.
    default = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count() or 1)
    if (config.get_intra_op_parallelism_threads() or default) == threads:
        return
    try:
        config.set_intra_op_parallelism_threads(threads)
        config.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        what = f"TensorFlow runs with other thread counts already, {threads} can't be set any more"
        raise PreconditionError(what, where="threads", hint="use one process for each thread count") from error


def _save_as_documented() -> None:
    """Let `.keras` files be what they are in any thread: Keras 2 enables that only in the thread that imported it.

    In other threads the first save or load turns it off, and the next file would be HDF5 under that name.
    """
    from tf_keras.src.saving import saving_lib

    saving_lib._SAVING_V3_ENABLED.value = True  # noqa: SLF001 - there is no public switch


def _gradients() -> dict[str, Any]:
    """Return TensorFlow's global table of gradient functions; empty if another release keeps it elsewhere."""
    from tensorflow.python.framework import ops

    table = getattr(ops.gradient_registry, "_registry", {})
    return table if isinstance(table, dict) else {}


def _forget_gradients(known: frozenset[str]) -> None:
    """Remove what an action added: each training registers a `CustomGradient-N` that holds its whole graph forever."""
    table = _gradients()
    for name in [name for name in table if name.startswith("CustomGradient-") and name not in known]:
        del table[name]
