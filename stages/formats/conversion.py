"""Convert a Keras model in the child process: shared by formats that are made from Keras models.

The child converts, loads the file in its runtime and compares its outputs with Keras'; the parent stores the result. A
file carries the digest of its Keras model, the scheme and the converter's name, and nothing that would change between
releases of this project.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.errors import DeviceError, NativeEndError, PostconditionError, PreconditionError, UnsupportedError
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import CountsWeights, ExportFacts, QuantizedFacts
from pipeline.records.manifest import ActionRecord
from pipeline.records.metrics import counted
from pipeline.records.schemes import Scheme
from pipeline.records.weight_types import LEAST_SHARE, NARROW, narrow_share
from stages.formats.format import ExportSettings, LoadedModel
from stages.formats.metadata import metadata_of
from stages.formats.registry import link_file
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.samples.batches import Progress

Context = StageContext[ExportSettings]
Ended = Callable[[NativeEndError, Path], Exception]  # maps an end of the child, and its folder, to an error
# A broken conversion is off by orders of magnitude. verify measures how close it is on real data.
# Integer schemes have no bound: one random sample says too little about what 8 bits may lose.
ALLOWED_DIFFERENCE: Mapping[Scheme, float] = {"float32": 1e-3, "float16": 5e-2}


@dataclass(frozen=True)
class Job:
    """Hold what the child converts: the float32 model, its calibration set by input, one sample by input, metadata."""

    model: KerasModel
    quantized: QuantizedFacts
    calibration: list[NDArray[Any]] | None
    samples: list[NDArray[Any]]
    metadata: Mapping[str, Any]
    progress: Progress
    axis: str | None

    @property
    def by_name(self) -> dict[str, NDArray[Any]]:
        """Return the sample by input name."""
        return dict(zip(self.model.input_names, self.samples, strict=True))


def exported_apart(
    context: Context,
    quantized: QuantizedFacts,
    function: str,
    facts: type[ExportFacts],
    files: Mapping[str, str],
    ended: Ended | None = None,
    given: Mapping[str, Path] = MappingProxyType({}),
) -> StageResult:
    """Return what `module:function` makes of the model in the child: one or more of `files` (name to media type).

    The function returns `made_here`. `ended` maps an end of the child to the error to raise. `given` are files that the
    function finds in its folder, under these names.
    """
    from stages.formats.apart.context import run_apart

    # Inside of `work_dir`, so that what a killed run leaves lies in the store, and `tmp` in front, so that nothing
    # resumes from it.
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=context.work_dir) as name:
        folder = Path(name)
        for file, path in given.items():
            link_file(path, folder / file)
        try:
            made = run_apart(context, function, folder, f"making {context.axis}")
        except NativeEndError as error:
            mapped = ended(error, folder) if ended else error
            if mapped is error:  # an error must not be its own cause: walking the causes would never end
                raise
            raise mapped from error
        child_facts = facts.model_validate_json(made["facts"])
        doubt = doubt_about(child_facts)
        if doubt:
            context.events.warned(doubt)
        artifact = Artifact(files=tuple(_written(context, folder, files)), facts=child_facts)
    metrics = {
        "size_bytes": float(artifact.size_bytes),
        **counted(quantized),
        "export_difference": made["difference"],
    }
    return StageResult(outputs=(artifact,), metrics=metrics)


def made_here(facts: ExportFacts, difference: float) -> dict[str, Any]:
    """Return what the child's function reports: the facts, and how far the outputs are from Keras'."""
    return {"facts": facts.model_dump_json(), "difference": difference}


def doubt_about(facts: ExportFacts) -> str | None:
    """Return a warning about a file that hardly uses its scheme; None for any other."""
    if isinstance(facts, CountsWeights) and (share := narrow_share(facts)) is not None and share < LEAST_SHARE:
        narrow = NARROW[facts.scheme]
        others = ", ".join(name for name in facts.weights if name not in narrow)
        return f"only {share:.0%} of the weights are in {narrow[0]}: the quantizer has left the others in {others}"
    return None


def _written(context: Context, folder: Path, files: Mapping[str, str]) -> Iterator[FileRef]:
    """Yield the files of the artifact. All but the first are memory-mapped, so that weights are never all in memory."""
    first, *others = files
    yield context.write(first, (folder / first).read_bytes(), files[first])
    for name in others:
        if not (folder / name).exists():
            continue
        with (
            (folder / name).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            yield context.write(name, data, files[name])


def job_of(context: Context, converter: str) -> Job:
    """Return, in the child, what to convert; PreconditionError if settings do not fit the model."""
    from stages.keras.normal_form import random_inputs
    from stages.keras.precision import shared_in_float32
    from stages.samples.calibration import calibration_files, decode_samples

    def progress(done: int, total: int) -> None:
        context.events.advanced(done, total, "calibration samples", f"{done}/{total}")

    quantized, config = quantized_facts(context.inputs["model"]), context.config
    # In float32 also if it trains in half precision: that is a way of training, and files compute in float32.
    model = shared_in_float32(context, "model")
    _check_labels(config, model)
    _check_shapes(config, model)
    calibration = None
    if quantized.calibration is not None:
        calibration = [decode_samples(context.read("model", name)) for name in calibration_files(len(model.inputs))]
    samples = random_inputs(model, samples=1, seed=0, shapes=config.shapes)
    if calibration is not None:
        # A calibration sample if there is one: random numbers can lie far outside of the ranges of an int8 file.
        samples = [c[:1].astype(s.dtype) for c, s in zip(calibration, samples, strict=True)]
    metadata = metadata_of(config, quantized.model_digest, quantized.scheme, converter)
    return Job(model, quantized, calibration, samples, metadata, progress, context.axis)


def compared(job: Job, load: Callable[[], LoadedModel]) -> tuple[LoadedModel, float]:
    """Return the file loaded in its runtime, and how far its outputs are from Keras'.

    UnsupportedError if the runtime refuses the file (the pair does not exist for this model), PostconditionError if it
    can't run it; both from the DeviceError.
    """
    from stages.formats.check import runtime_difference

    try:
        loaded = load()
    except DeviceError as error:
        # Refused at loading: this pair of scheme and format does not exist for the model, which `unsupported: skip` may
        # leave out. A file that loads and then fails to run is broken, and nothing may skip that.
        raise UnsupportedError(error.what, where=job.axis, hint=error.hint) from error
    try:
        allowed = ALLOWED_DIFFERENCE.get(job.quantized.scheme, inf)
        return loaded, runtime_difference(job.model, loaded, job.samples, allowed)
    except DeviceError as error:
        raise PostconditionError(error.what, where=job.axis, hint=error.hint) from error


def export_in(context: Context, name: str) -> ActionRecord:
    """Return the record of the same model's export in the format that this one is made from.

    It is a separate action, shared with the recipe's own if it asks for that format too, so nothing is converted twice.
    """
    axis = f"{name}/{str(context.axis).partition('/')[2]}"
    return context.call("export", context.config.for_format(name), context.inputs, axis)


def quantized_facts(artifact: Artifact) -> QuantizedFacts:
    """Return the facts of export's input; PreconditionError for anything else."""
    if not isinstance(artifact.facts, QuantizedFacts):
        raise PreconditionError(f"a quantized-model is wanted, this is a {artifact.kind}")
    return artifact.facts


def _check_labels(config: ExportSettings, model: KerasModel) -> None:
    sizes = {tensor.shape[-1] for tensor in model.outputs}
    if config.labels is not None and len(config.labels) not in sizes:
        what = f"there are {len(config.labels)} labels, and no output of the model has so many numbers"
        raise PreconditionError(what, where="export.labels", hint=f"outputs have {', '.join(map(str, sizes))}")


def _check_shapes(config: ExportSettings, model: KerasModel) -> None:
    for name, sizes in (config.shapes or {}).items():
        known = dict(zip(model.input_names, model.inputs, strict=True))
        if name not in known:
            hint = f"it has {', '.join(known)}"
            raise PreconditionError(f"the model has no input {name!r}", where="export.shapes", hint=hint)
        own = tuple(known[name].shape[1:])
        if len(own) != len(sizes) or any(size not in (None, chosen) for size, chosen in zip(own, sizes, strict=True)):
            what = f"input {name!r} takes {own}, not {tuple(sizes)}"
            raise PreconditionError(what, where="export.shapes", hint="only sizes that are free can be chosen")
