"""Make C source for microcontrollers from the TFLite file of the same model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contracts.stage import StageResult
from pipeline.errors import ModelError, PostconditionError
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import QuantizedFacts
from pipeline.reports.command_lines import install_optional
from pipeline.system.processes import ending, last_lines, run_process
from stages.formats.c import tflm
from stages.formats.c.facts import CSourceFacts
from stages.formats.c.settings import CSettings
from stages.formats.c.source import Port, SourceText, bytes_in_source, c_source
from stages.formats.conversion import Context, export_in
from stages.formats.format import Arrays
from stages.formats.tflite import TFLite
from stages.formats.tflite.facts import TFLiteFacts
from stages.formats.tflite.micro_limits import allowed_difference, wrong_in_micro

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BYTES = 64 << 20  # no microcontroller has more flash
COMPILED_BYTES = 4 << 20  # a compiler takes seconds for an array of this size
MEDIA_TYPE = "text/x-c"
STATE = ("LSTMs keep their state from one Invoke() to the next:", "call Reset() before each new sample.")
COMPARE = """
#include <stdio.h>
#include "{symbol}_data.h"
int main(void) {{ return fwrite({symbol}_data, 1, {capital}_DATA_BYTES, stdout) != {capital}_DATA_BYTES; }}
"""


def source_of(context: Context, quantized: QuantizedFacts) -> StageResult:
    """Write the C source, with the arena that TensorFlow Lite for Microcontrollers needs, if TFLM is installed."""
    from stages.formats.apart.runtimes import load_apart

    record = export_in(context, TFLite.name)
    made_of, metrics = record.outputs[0], dict(record.metrics)
    facts, data = made_of.facts, context.read_made(made_of, made_of.names[0]).read_bytes()
    assert isinstance(facts, TFLiteFacts)
    if len(data) > MOST_BYTES:
        raise ModelError(
            f"the model has {len(data) >> 20} MiB, and C source is made of {MOST_BYTES >> 20} MiB at most",
            where=context.axis,
            hint="no microcontroller holds more: prune it, or take int8",
        )
    arena = None
    if tflm.micro_is_installed():
        arrays = _samples(context, facts)
        run = tflm.run_micro(data, arrays, f"{context.axis} model")
        arena = run.arena_bytes
        # Against LiteRT and not Keras: what quantization loses is in both, so that only the runtimes differ.
        expected = load_apart("tflite-model", data, 1, f"making {context.axis}", context.events).run(arrays)
        metrics |= {"arena_bytes": float(arena), "micro_difference": _difference(expected, run)}
        allowed = allowed_difference(data)
        # Written with `not`: NaN compares false and must fail.
        if not metrics["micro_difference"] <= allowed:
            what = f"{tflm.RUNTIME} gives other outputs than LiteRT: {metrics['micro_difference']:.1e} (relative)"
            why = wrong_in_micro(data) or "please report the model: no reason is known"
            raise PostconditionError(what, where=context.axis, hint=f"{allowed:.0e} is allowed; {why}")
    else:
        context.events.warned(f"the arena's size is not known without its runtime: {install_optional(tflm.PACKAGE)}")
    symbol = context.config.of(CSettings).symbol
    about = f"{quantized.scheme} of the Keras model {quantized.model_digest}, by tensorflow.lite"
    notes = STATE if facts.keeps_state else ()
    source = c_source(data, symbol, facts.operators, arena, about, _ports(data), notes)
    _check_source(context, source, data)
    files = tuple(
        context.write(f"{symbol}_data.{suffix}", text, MEDIA_TYPE)
        for suffix, text in (("c", source.array), ("h", source.header))
    )
    made = CSourceFacts(
        scheme=facts.scheme,
        inputs=facts.inputs,
        outputs=facts.outputs,
        operators=facts.operators,
        array_bytes=len(data),
        arena_bytes=arena,
        keeps_state=facts.keeps_state,
    )
    return StageResult((Artifact(files=files, facts=made),), {**metrics, "size_bytes": float(len(data))})


def _ports(data: bytes) -> tuple[list[Port], list[Port]]:
    """Return the inputs and outputs of a TFLite file in file order, which may not be the names' or Keras' order."""
    from stages.formats.tflite.session import signature_of

    inputs, outputs = (
        [
            Port(name, tuple(int(size) for size in detail["shape"]), detail["dtype"].__name__, *_steps(detail))
            for name, (_, detail) in sorted(ports.items(), key=lambda item: item[1][0])
        ]
        for ports in signature_of(data)
    )
    return inputs, outputs


def _steps(detail: Mapping[str, Any]) -> tuple[float, int]:
    """Return scale and zero point of an input or output; 1 and 0 if the stored value is the number itself."""
    scale, zero_point = detail["quantization"]
    return (float(scale), int(zero_point)) if scale else (1.0, 0)


def _samples(context: Context, facts: TFLiteFacts) -> dict[str, NDArray[Any]]:
    """Return one calibration sample, or a random one, by input name."""
    import numpy as np

    from stages.samples.calibration import calibration_files, decode_samples

    rng = np.random.default_rng(0)
    held = {file.name for file in context.inputs["model"].files}
    samples = {}
    for spec, name in zip(facts.inputs, calibration_files(len(facts.inputs)), strict=True):
        shape = [size or 1 for size in spec.shape]
        known = decode_samples(context.read("model", name))[:1] if len(facts.inputs) == 1 and name in held else None
        samples[spec.name] = rng.standard_normal(shape).astype(np.float32) if known is None else known
    return samples


def _difference(expected: Arrays, run: tflm.MicroRun) -> float:
    from stages.keras.normal_form import relative_difference

    names = list(expected)
    return relative_difference([expected[name] for name in names], [run.outputs[name] for name in names])


def _check_source(context: Context, source: SourceText, data: bytes) -> None:
    """Check that the text holds the file, and if there is a compiler, that the compiled array does too."""
    if bytes_in_source(source.array) != data:
        raise PostconditionError("the C source does not hold the TFLite file", where=context.axis)
    compiler = shutil.which("cc")
    if compiler is None or len(data) > COMPILED_BYTES:
        return
    symbol = context.config.of(CSettings).symbol
    with tempfile.TemporaryDirectory(prefix="secateur-") as name:
        folder = Path(name)
        (folder / f"{symbol}_data.c").write_bytes(source.array)
        (folder / f"{symbol}_data.h").write_bytes(source.header)
        (folder / "compare.c").write_text(COMPARE.format(symbol=symbol, capital=symbol.upper()))
        files = [str(folder / file) for file in (f"{symbol}_data.c", "compare.c")]
        flags = ["-std=c99", "-Wall", "-Werror", "-o", str(folder / "compare")]
        built = run_process([compiler, *flags, *files], f"{context.axis} source", 120, program="cc")
        # The text is checked above; this also finds a missing include and a wrong macro.
        if built.returncode:
            what = f"the C source does not compile: cc {ending(built.returncode)}"
            raise PostconditionError(what, where=context.axis, hint=last_lines(built.stderr))
        if (
            run_process([str(folder / "compare")], f"{context.axis} source", 60, program="the compiled source").stdout
            != data
        ):
            raise PostconditionError("the compiled C source does not hold the TFLite file", where=context.axis)
