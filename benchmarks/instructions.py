"""Count instructions on emulated Cortex cores: do counts repeat, and do outputs match this machine's?

The four trained models of MLPerf Tiny, in float32 and int8, in LiteRT (int8: the vendor's own file) and ONNX Runtime,
on three cores, each counted in `--repeats` fresh processes. A loaded machine does not matter, since nothing is timed.
Exit status 1 unless counts spread by at most 1e-6 in LiteRT (above 10 M instructions) and 1e-4 in ONNX Runtime, int8
outputs equal this machine's bit for bit in LiteRT and within one step in ONNX Runtime, and float32's lie within 1e-6 of
the largest output. Results are kept as they come: a killed run resumes.

    secateur target setup cortex-a53; secateur target setup cortex-a72; secateur target setup cortex-a76
    python benchmarks/instructions.py --data DIR [--models image_classification …] [--repeats 10] [--work DIR]
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, get_args

from public_models import TinyModel, tiny_model_file
from resumable import DEFAULT_WORK, Results

from pipeline.records.schemes import Scheme

CORES = ("cortex-a53", "cortex-a72", "cortex-a76")
FILES: tuple[tuple[str, Scheme], ...] = (
    ("litert", "float32"),
    ("litert", "int8"),
    ("onnxruntime", "float32"),
    ("onnxruntime", "int8"),
)
LARGE = 10_000_000  # instructions from which on a share is meaningful
SPREAD_LIMIT = {"litert": 1e-6, "onnxruntime": 1e-4}
FLOAT_LIMIT, CALIBRATION_SAMPLES, STEPS = 1e-6, 32, 255


@cache
def model_file(data: Path, folder: Path, name: TinyModel, runtime: str, scheme: Scheme) -> Path:
    """Return the file of a trained model for a runtime in a scheme; random inputs replace calibration data."""
    path = folder / f"{name}-{runtime}-{scheme}"
    if (runtime, scheme) == ("litert", "int8"):
        path.write_bytes(tiny_model_file(data, name, "tflite"))
        return path
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.normal_form import random_inputs
    from stages.load import load_model

    source = folder / f"{name}.h5"
    source.write_bytes(tiny_model_file(data, name, "h5"))
    model = load_model(source).model
    calibration = random_inputs(model, samples=CALIBRATION_SAMPLES, seed=0) if scheme == "int8" else None
    convert = convert_tflite if runtime == "litert" else convert_onnx
    path.write_bytes(convert(model, scheme, calibration=calibration))
    return path


def require_cores() -> None:
    """Raise SystemExit with what to do if a core is not set up."""
    from pipeline.errors import DeviceError
    from stages.devices.target import device_fingerprint

    for core in CORES:
        try:
            device_fingerprint(core)
        except DeviceError as error:
            raise SystemExit(f"{error.what}: {error.hint}") from error


def counted(core: str, path: Path) -> dict[str, Any]:
    """Run one process on an emulated core: return instructions and the first output, as hexadecimal bytes of
    its dtype.
    """
    from stages.devices.kinds.qemu.check import NOTHING_KNOWN
    from stages.devices.kinds.qemu.emulation import count_once
    from stages.devices.target import find_target

    counts = count_once(find_target(core), path, path.name, NOTHING_KNOWN, with_outputs=True)
    return {"metrics": counts.metrics, "outputs": [output.model_dump(mode="json") for output in counts.outputs]}


def on_this_machine(path: Path) -> list[Any]:
    """Return this machine's outputs on the same seeded inputs."""
    from stages.devices.runner_file import runner_file
    from stages.devices.target import run_command

    options = ["--seconds", "0", "--min-iterations", "1", "--outputs"]
    return [
        array_of(o.model_dump())
        for o in run_command([sys.executable, str(runner_file()), str(path), *options], path.name, 600.0).outputs
    ]


def array_of(output: dict[str, Any]) -> Any:
    import numpy as np

    return np.frombuffer(base64.b64decode(output["base64"]), output["dtype"])


def difference(here: list[Any], there: list[Any], scheme: str) -> tuple[float, bool]:
    """Return the largest difference, relative to the largest output (float32) or in steps (int8); whether all bits
    agree.
    """
    import numpy as np

    equal = all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
    worst = 0.0
    for a, b in zip(here, there, strict=True):
        apart = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
        unit = 1.0 if a.dtype.kind == "i" else max(float(np.abs(a).max()), 1e-30) / (STEPS if scheme == "int8" else 1)
        worst = max(worst, apart / unit)
    return worst, equal


def verdict(runtime: str, scheme: str, least: float, spread: float, worst: float, equal: bool) -> str:
    """Return an empty string if all requirements are met, else what is not."""
    faults = []
    if spread > SPREAD_LIMIT[runtime] and (runtime != "litert" or least > LARGE):
        faults.append(f"spread above {SPREAD_LIMIT[runtime]:g}")
    if scheme == "float32" and worst > FLOAT_LIMIT:
        faults.append(f"outputs differ by more than {FLOAT_LIMIT:g}")
    if scheme == "int8" and (worst > 1 if runtime == "onnxruntime" else not equal):
        faults.append("outputs differ")
    return ", ".join(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(get_args(TinyModel)), choices=get_args(TinyModel))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    require_cores()
    results, failed = Results(options.work, Path(__file__)), 0
    print(f"{'model':<22}{'runtime':<13}{'scheme':<9}{'core':<12}{'M instr.':>10}{'spread':>10}  outputs")
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            for runtime, scheme in FILES:
                path = model_file(options.data, Path(scratch), name, runtime, scheme)
                here = on_this_machine(path)
                for core in CORES:
                    found = []
                    for repeat in range(options.repeats):
                        case = {"model": name, "runtime": runtime, "scheme": scheme, "core": core, "repeat": repeat}
                        one = results.get(case)
                        if one is None:
                            one = counted(core, path)
                            results.add(case, one)
                        found.append(one)
                    numbers = [one["metrics"]["instructions"] for one in found]
                    spread = (max(numbers) - min(numbers)) / min(numbers)
                    apart = [difference(here, [array_of(o) for o in one["outputs"]], scheme) for one in found]
                    worst, equal = max(w for w, _ in apart), all(e for _, e in apart)
                    fault = verdict(runtime, scheme, min(numbers), spread, worst, equal)
                    failed += bool(fault)
                    words = "equal" if equal else f"{worst:.1e}" + (" steps" if scheme == "int8" else "")
                    print(
                        f"{name:<22}{runtime:<13}{scheme:<9}{core:<12}{min(numbers) / 1e6:>10.3f}{spread:>10.1e}"
                        f"  {words}{'   FAULT: ' + fault if fault else ''}",
                        flush=True,
                    )
    print(f"{failed} faults" if failed else "all within their limits")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
