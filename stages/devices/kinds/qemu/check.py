"""Check a `qemu` target at set-up: its outputs against this machine's, and how well its counts repeat.

Two small networks, one per runtime, are each counted in several fresh processes. The largest observed spread is
published, in instructions and as a share; a smaller difference is not significant.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pipeline.errors import DeviceError
from pipeline.system.quiet import quiet
from stages.devices.kinds.qemu.emulation import count_once
from stages.devices.target import Sampling, Say, Target, find_target, measure

PROCESSES = 5
SAFETY = 2.0  # five processes do not show the full spread
# How much real networks vary where the small ones here don't (benchmarks/instructions.py): a share, and instructions.
# Ten processes with ONNX Runtime differed by up to 930 on a model of 2.7 million instructions: its allocator's work, it
# seems.
FLOOR = {"litert": (1e-6, 0.0), "onnxruntime": (1e-4, 2000.0)}
NOTHING_KNOWN = {name: {"absolute": 0.0, "relative": 0.0} for name in ("litert", "onnxruntime")}


def check_target(target: Target, say: Say) -> dict[str, Any]:
    """Return `{"spread": {runtime: {"absolute": instructions, "relative": share}}}`; DeviceError if outputs differ."""
    spread = {}
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        for runtime, write in (("litert", _write_tflite), ("onnxruntime", _write_onnx)):
            model = Path(scratch) / runtime
            with quiet():
                write(model)
            counts = [count_once(target, model, f"{runtime}'s probe", NOTHING_KNOWN) for _ in range(PROCESSES)]
            _compare_outputs(target, model, counts[0].output_digests(), runtime)
            numbers = [count.metrics["instructions"] for count in counts]
            widest = max(numbers) - min(numbers)
            share, instructions = FLOOR[runtime]
            spread[runtime] = {
                "absolute": max(instructions, SAFETY * widest),
                "relative": max(share, SAFETY * widest / min(numbers)),
            }
            say(
                f"{runtime}: {min(numbers) / 1e6:.3f} M instructions, outputs equal to this machine's; "
                f"{PROCESSES} processes within {widest:.0f} ({widest / min(numbers):.1e})"
            )
    return {"spread": spread}


def _compare_outputs(target: Target, model: Path, digests: tuple[str, ...], runtime: str) -> None:
    measured_here = measure(find_target("cpu"), model, Sampling(seconds=0.0, min_iterations=1), f"{runtime}'s probe")
    # Bit for bit, which is why both networks compute in integers: float32 differs by 1e-8 between sound systems.
    if measured_here.output_digests() != digests:
        what = f"{runtime} computes something else on {target.name} than on this machine"
        raise DeviceError(what, hint="the emulated system is damaged: delete it from the cache and set it up again")


def _write_tflite(path: Path) -> None:
    """Write an int8 network of a convolution, a depthwise convolution and a dense layer."""
    import numpy as np

    from stages.keras.tensorflow import import_keras, import_tensorflow

    keras, tf = import_keras(), import_tensorflow()
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(32, 3, activation="relu", name="conv")(image)
    x = keras.layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, keras.layers.Dense(8, name="head")(x)))
    rng = np.random.default_rng(0)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.uniform(-1, 1, (1, 32, 32, 3)).astype("float32")] for _ in range(8)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


def _write_onnx(path: Path) -> None:
    """Write a quantized matrix product in integer arithmetic, whose results are equal on every machine."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    # 7 bits of each weight: x86 without VNNI adds two products of bytes in 16 bits, which 8 bits would saturate. The
    # machine that checks, and not the emulated one, would then compute something else.
    weights = np.random.default_rng(0).integers(-64, 65, (256, 64), np.int8)
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (64, 256))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (64, 64))],
        [numpy_helper.from_array(weights, "w")],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
