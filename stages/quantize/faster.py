"""Find the layers that int8 makes slower on a target, and keep as many of them in float as make the file fastest.

Each operator of the int8 file is measured alone, in 8 bits and in float32; those that lose are candidates. Conversions
around them cost too, so that files with the 1, 2, 4, … worst candidates in float are measured whole, and one counts as
faster from 1 % on. Every try is a chain of actions of its own, cached as any other: of the scheme without what changes
values alone, which takes longer than to measure.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts.stage import StageContext
from pipeline.records.artifacts import Artifact
from pipeline.records.schemes import Quantization
from stages.devices.advice import LEAST_SHARE, advise
from stages.devices.target import find_target
from stages.quantize.budget import ROUNDS, doubling, kept_in
from stages.quantize.config import FASTER_FORMAT, QuantizeConfig
from stages.quantize.tries import Tries

VALUES = ("calibration", "percentile", "rounding", "bias_correction", "qat")  # settings that don't change the cost


def kept_where_slower(context: StageContext[QuantizeConfig], how: Quantization, known: Sequence[str]) -> Quantization:
    """Return `how` with the layers in float that make its file fastest on `how.faster_on`, in the order of `known`.

    `known` are the model's layers. Those that `how` keeps anyway stay.
    """
    assert how.faster_on is not None
    plain, timed = how.model_copy(update={"faster_on": None}), only_timed(how)
    tries = Tries(context, FASTER_FORMAT, "quantize.schemes.faster_on", only_cost=True)
    made = tries.make(timed.scheme, timed)
    best, slowest = tries.cost(made, how.faster_on, ROUNDS)[1], list[str]()
    tried = [f"none: {best:.3f}"]
    candidates = _candidates(context, made.export, how.faster_on, known)
    for count in doubling(len(candidates)):
        context.events.advanced(count, len(candidates), "layers in float", f"{count} slowest")
        attempt = _kept(timed, candidates[:count], known)
        ratio = tries.cost(tries.make(attempt.scheme, attempt), how.faster_on, ROUNDS)[1]
        tried.append(f"{', '.join(candidates[:count])}: {ratio:.3f}")
        if ratio < (1 - LEAST_SHARE) * best:
            best, slowest = ratio, candidates[:count]
    found = _kept(plain, slowest, known)
    kept = ", ".join(found.keep_float) or "no layer"
    context.events.warned(
        f"faster_on {how.faster_on}: {kept} in float, {best:.3f} of float32's cost (tried {'; '.join(tried)})"
    )
    return found


def only_timed(how: Quantization) -> Quantization:
    """Return a scheme whose file costs as much as that of `how`, without the settings that change values alone.

    Training for int8 leaves out equalizing, which can change the network: so that is left out here too.
    """
    return how.model_copy(update={**dict.fromkeys(VALUES), "faster_on": None, "equalize": how.equalized})


def _kept(how: Quantization, layers: Sequence[str], known: Sequence[str]) -> Quantization:
    return kept_in(how, dict.fromkeys(layers, "float32"), known)


def _candidates(
    context: StageContext[QuantizeConfig], export: Artifact, target: str, known: Sequence[str]
) -> list[str]:
    """Return the layers whose operators cost more than in float32, those that lose most first."""
    file = context.read_made(export, export.names[0])
    found = advise(find_target(target, context.folder), file, FASTER_FORMAT)
    lost = dict[str, float]()
    for advice in found.advice:
        # A fused operator belongs to its first layer that the model has: the others went into it.
        layer = next((name for name in advice.layers if name in known), None)
        if layer is not None:
            lost[layer] = lost.get(layer, 0.0) + advice.lost
    return sorted(lost, key=lambda name: -lost[name])
