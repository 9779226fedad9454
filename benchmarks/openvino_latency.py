"""Are our OpenVINO files as fast as what OpenVINO's own converter makes of the same Keras models?

Three networks in float32 (random weights, one seed, statistics shaken; the demo's as it is): as an `openvino` export
makes them, by way of ONNX, and as `openvino.convert_model` makes them of a SavedModel. Both are compiled in the same
way for one sample, on one thread, each in a process of its own; rounds of inferences take turns. `ratio` is ours to
theirs by the medians of the rounds, with an interval of 95 %; `differ` is the largest difference of outputs relative to
the largest output.

Exit status 1 where the whole interval of a network is above 1.05, or outputs differ by more than 1e-4.

    python benchmarks/openvino_latency.py [--rounds 20] [--seconds 0.15] [--models MobileNetV2 …]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fresh import ROOT

SIDES = {"mini Xception": 0, "MobileNetV2": 96, "ResNet50": 64}
DEMO = ROOT / "configs" / "assets" / "mini_xception.keras"
SLOWER, NEAR, WARMUP, SEED = 1.05, 1e-4, 20, 1
WAYS = ("secateur", "openvino")


def build(name: str) -> Any:
    from applications import shake

    from stages.keras.tensorflow import import_keras
    from stages.load import load_model

    if not SIDES[name]:
        return load_model(DEMO).model
    keras, side = import_keras(), SIDES[name]
    keras.utils.set_random_seed(SEED)
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classifier_activation=None)
    shake(model)
    return model


def make_files(connection: Connection, name: str, folder: str) -> None:
    """Both models and their inputs, in a process that has TensorFlow."""
    import numpy as np

    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.openvino.convert import write_openvino
    from stages.formats.openvino.session import import_openvino
    from stages.keras.tensorflow import import_tensorflow

    model, here = build(name), Path(folder)
    shape = [1, *model.inputs[0].shape[1:]]
    np.save(here / "inputs.npy", np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))
    (here / "model.onnx").write_bytes(convert_onnx(model, "float32"))
    write_openvino(here / "model.onnx", here / "secateur.xml", "float32", {})
    import_tensorflow().saved_model.save(model, str(here / "saved"))
    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(str(here / "saved")), str(here / "openvino.xml"), compress_to_fp16=False)
    connection.send("made")


def serve(connection: Connection, path: str, inputs: str) -> None:
    """Outputs and the number of operators first, then a list of times (ns) for each length (s) that comes."""
    import numpy as np

    from stages.formats.openvino.opener import DEVICE, compile_options
    from stages.formats.openvino.session import import_openvino

    core, given = import_openvino().Core(), np.load(inputs)
    model = core.read_model(path)
    model.reshape(list(given.shape))
    request = core.compile_model(model, DEVICE, compile_options(1)).create_infer_request()
    request.get_input_tensor(0).data[...] = given
    for _ in range(WARMUP):
        request.infer(share_outputs=True)
    count = sum(node.get_type_name() not in ("Constant", "Parameter", "Result") for node in model.get_ops())
    connection.send((np.array(request.get_output_tensor(0).data), count))
    while (seconds := connection.recv()) is not None:
        connection.send(_times(request, seconds))


def _times(request: Any, seconds: float) -> list[int]:
    found: list[int] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not found:
        began = time.perf_counter_ns()
        request.infer(share_outputs=True)
        found.append(time.perf_counter_ns() - began)
    return found


def begin(function: Any, *arguments: str) -> tuple[Any, Connection]:
    """A fresh process and what it says."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def compare(name: str, rounds: int, seconds: float) -> bool:
    """Measure one network and print its line; whether it is as fast, and computes the same."""
    import numpy as np

    from stages.devices.statistics import latency_ratio

    with tempfile.TemporaryDirectory() as folder:
        maker, said = begin(make_files, name, folder)
        said.recv()
        maker.join()
        inputs = str(Path(folder) / "inputs.npy")
        running = {way: begin(serve, str(Path(folder) / f"{way}.xml"), inputs) for way in WAYS}
        opened = {way: connection.recv() for way, (_, connection) in running.items()}
        medians: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(rounds):
            for way in WAYS if turn % 2 else WAYS[::-1]:
                running[way][1].send(seconds)
                medians[way].append(float(np.median(running[way][1].recv())))
        for process, connection in running.values():
            connection.send(None)
            process.join()
    outputs = {way: output for way, (output, _) in opened.items()}
    differ = float(np.abs(outputs["secateur"] - outputs["openvino"]).max() / np.abs(outputs["openvino"]).max())
    ratio = latency_ratio(medians["secateur"], medians["openvino"])
    ours, theirs = (float(np.median(medians[way])) / 1e6 for way in WAYS)
    counts = f"{opened['openvino'][1]} → {opened['secateur'][1]}"
    interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    print(
        f"{name:<16}{theirs:>8.3f} → {ours:>6.3f}{ratio.point:>8.3f}{interval:>18}{counts:>12}{differ:>9.0e}",
        flush=True,
    )
    return ratio.low <= SLOWER and differ <= NEAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.15)
    parser.add_argument("--models", nargs="+", choices=SIDES, default=list(SIDES))
    options = parser.parse_args()
    print(f"{'float32':<16}{'ms':>17}{'ratio':>8}{'95 %':>18}{'operators':>12}{'differ':>9}")
    good = [compare(name, options.rounds, options.seconds) for name in options.models]
    print(f"{'ok' if all(good) else 'NOT ok'}: at most {SLOWER}× of openvino.convert_model, outputs within {NEAR:g}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
