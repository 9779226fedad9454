"""Find the layers that int8 makes slower on a target, and keep as many of them in float as make the file fastest.

Each operator of the int8 file is measured alone, in 8 bits and in float32; those that lose are candidates. Conversions
around them cost too, so that files with the 1, 2, 4, … worst candidates in float are measured whole, and one counts as
faster from 1 % on. Every try is a chain of actions of its own, cached as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts.stage import StageContext
from pipeline.errors import PreconditionError
from pipeline.records.artifacts import Artifact
from pipeline.records.schemes import Quantization
from stages.devices.advice import LEAST_SHARE, advise
from stages.devices.target import find_target
from stages.formats.registry import format_of
from stages.quantize.config import QuantizeConfig
from stages.quantize.ladder import doubling, speed_ratios

FORMAT = "tflite"
ROUNDS = 5  # of each try, where times are measured: which of two files is faster, not by how much


def kept_where_slower(context: StageContext[QuantizeConfig], how: Quantization, known: Sequence[str]) -> Quantization:
    """Return `how` with the layers in float that make its file fastest on `how.faster_on`, in the order of `known`.

    `known` are the model's layers. Those that `how` keeps anyway stay.
    """
    assert how.faster_on is not None
    plain = how.model_copy(update={"faster_on": None})
    base = _exported(context, Quantization(scheme="float32"))
    export, ratio = _measured(context, plain, how.faster_on, base)
    best, tried = (ratio, plain), [f"none: {ratio:.3f}"]
    candidates = _candidates(context, export, how.faster_on, known)
    for count in doubling(len(candidates)):
        context.events.advanced(count, len(candidates), "layers in float", f"{count} slowest")
        wanted = {*how.keep_float, *candidates[:count]}
        attempt = plain.model_copy(update={"keep_float": tuple(name for name in known if name in wanted)})
        _, ratio = _measured(context, attempt, how.faster_on, base)
        tried.append(f"{', '.join(candidates[:count])}: {ratio:.3f}")
        if ratio < (1 - LEAST_SHARE) * best[0]:
            best = ratio, attempt
    kept = ", ".join(best[1].keep_float) or "no layer"
    tries = "; ".join(tried)
    context.events.warned(
        f"faster_on {how.faster_on}: {kept} in float, {best[0]:.3f} of float32's cost (tried {tries})"
    )
    return best[1]


def _candidates(
    context: StageContext[QuantizeConfig], export: Artifact, target: str, known: Sequence[str]
) -> list[str]:
    """Return the layers whose operators cost more than in float32, those that lose most first."""
    file = context.read_made(export, export.names[0])
    found = advise(find_target(target, context.folder), file, FORMAT)
    lost = dict[str, float]()
    for advice in found.advice:
        # A fused operator belongs to its first layer that the model has: the others went into it.
        layer = next((name for name in advice.layers if name in known), None)
        if layer is not None:
            lost[layer] = lost.get(layer, 0.0) + advice.lost
    return sorted(lost, key=lambda name: -lost[name])


def _exported(context: StageContext[QuantizeConfig], how: Quantization) -> Artifact:
    settings = {"schemes": ({how.scheme: how.model_dump()},), "io": context.config.io}
    record = context.call("quantize", settings, {"model": context.inputs["model"]})
    inputs = {"model": record.output("quantized-model")}
    return context.call("export", {"formats": (FORMAT,)}, inputs).output(format_of(FORMAT).kind)


def _measured(
    context: StageContext[QuantizeConfig], how: Quantization, target: str, base: Artifact
) -> tuple[Artifact, float]:
    """Return the file of a scheme, and its cost on the target relative to float32's."""
    export = _exported(context, how)
    settings = {"targets": (target,), "rounds": ROUNDS}
    metrics = context.call("benchmark", settings, {"export": export, "baseline": base}).metrics
    ratio = next((metrics[name] for name in speed_ratios() if name in metrics), None)
    if ratio is None:
        what = f"{target} measures nothing that tells which of two files is faster"
        raise PreconditionError(what, where="quantize.schemes.faster_on", hint=f"it takes {', '.join(speed_ratios())}")
    return export, float(ratio)
