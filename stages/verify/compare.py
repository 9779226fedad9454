"""Run one exported file and its Keras reference on the same inputs: real and synthetic ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contracts.stage import StageContext
from pipeline.data import Split
from pipeline.data.splits import Inputs
from pipeline.errors import DeviceError, PostconditionError, numbered
from pipeline.records.facts import KerasFacts, ParityRow
from stages.formats.format import Arrays, HoldsAnother, Simulated
from stages.formats.registry import format_of_kind, formats, shows_tensors, whole_model
from stages.formats.session import content_of
from stages.keras.inputs import by_input
from stages.keras.layer_calls import first_not_finite
from stages.keras.types import KerasModel
from stages.samples.batches import batches_of, spread_over
from stages.samples.checks import require_finite_inputs
from stages.verify.config import VerifyConfig
from stages.verify.limits import REAL, SIMULATED, is_real

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.formats.format import LoadedModel
    from stages.verify.causes import Cause, Observed

# Of Keras; the file itself runs in its own batch size, which is 1 for most (formats/session.py).
BATCH = 256
SIMULATED_SAMPLES = 8
LOOKED_AT = 4  # samples, besides the worst, on which ranges are examined
COUNTED = 16  # samples on which numbers outside of ranges are counted


class Comparison:
    """Compare by the file's bytes, never by what export says about them."""

    def __init__(self, context: StageContext[VerifyConfig], split: Split, facts: KerasFacts) -> None:
        self._context, self._split, self._facts = context, split, facts
        export = context.inputs["export"]
        self._format = file_format = format_of_kind(export.kind)
        self._tasks = {spec.name: split.of_output(spec.name).task for spec in facts.outputs}
        self._file: bytes | Path
        if isinstance(file_format, HoldsAnother):
            held = context.read("export", export.files[0].name).read_bytes()
            self._kind, self._file = formats()[file_format.holds].kind, file_format.held(held)
        else:
            # `tmp` in front: a killed verification has nothing to resume from.
            read, folder = partial(context.read, "export"), context.work_dir / "tmp-model"
            self._kind, self._file = export.kind, whole_model(export.kind, export.names, read, folder)

    def on_the_split(self) -> dict[str, NDArray[Any]]:
        """Return the file's outputs (N, …) by name over the whole test split."""
        import numpy as np

        parts, done = [], 0
        for inputs, _ in self._split.batches(BATCH):
            parts.append(self._run(self._arrays(inputs)))
            done += len(next(iter(parts[-1].values())))
            advance(self._context, done, len(self._split), format_of_kind(self._kind).name)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def rows(self, reference: Arrays, actual: Arrays) -> list[ParityRow]:
        """Return figures for real inputs, evenly spaced over the split (often sorted by class), and synthetic ones.

        A set on which Keras itself gives no finite numbers is left out, with a warning that names the layer.
        """
        import numpy as np

        from stages.verify.predict import shared_made_up

        picked = self._picked
        self._require_finite(reference, actual, self._real_sample)
        rows = [
            parity_row(REAL, name, reference[name][picked], actual[name][picked], self._classes(name))
            for name in reference
        ]
        rows = [row.model_copy(update={"worst_sample": int(picked[row.worst_sample])}) for row in rows]
        if isinstance(self._format, Simulated):
            rows += self._simulated_rows(self._format, reference)
        made_up = shared_made_up(self._context, "reference", self._split, self._context.config.samples, self._made_up)
        for inputs, arrays in self._made_up.items():
            wanted = made_up[inputs]
            if not all(np.isfinite(values).all() for values in wanted.values()):
                layer = first_not_finite(self._model, arrays)
                self._context.events.warned(f"Keras gives no finite numbers on {inputs} inputs, first in layer {layer}")
                continue
            outputs = self._run(arrays)
            self._require_finite(wanted, outputs, lambda index, arrays=arrays: _one(arrays, index))
            rows += [parity_row(inputs, name, wanted[name], outputs[name], self._classes(name)) for name in wanted]
        return rows

    def _simulated_rows(self, simulated: Simulated, reference: Arrays) -> list[ParityRow]:
        """Return figures for the first of the real inputs, run as the device does; its kernels are slow here."""
        picked = self._picked[:SIMULATED_SAMPLES]
        arrays = self._arrays(self._split.take(picked)[0])
        outputs = simulated.simulate(content_of(self._file), arrays, f"{self._context.axis} model")
        if outputs is None:
            return []
        rows = [
            parity_row(f"{SIMULATED}{simulated.simulator}", name, values[picked], outputs[name], self._classes(name))
            for name, values in reference.items()
        ]
        return [row.model_copy(update={"worst_sample": int(picked[row.worst_sample])}) for row in rows]

    def divergence(self, row: ParityRow, limit_db: float) -> str:
        """Describe where the file diverges from the model on the row's worst sample."""
        if is_real(row.inputs):
            return self._where_they_part(self._real_sample(row.worst_sample), limit_db)
        return self._where_they_part(_one(self._made_up[row.inputs], row.worst_sample), limit_db)

    def is_rounding(self, row: ParityRow, allowed: float) -> bool:
        """Return whether Keras itself moves as far as the file's difference, if only last bits of the inputs change.

        Checked for each sample whose difference exceeds `allowed`.
        """
        import numpy as np

        from stages.keras.rounding import ROOM, rounding_noise
        from stages.keras.tensorflow import tensorflow_action
        from stages.verify.predict import run_keras

        real = self._arrays(self._split.take(self._picked)[0])
        samples = real if is_real(row.inputs) else self._made_up[row.inputs]
        arrays = [samples[name] for name in self._model.input_names]
        output_index = self._model.output_names.index(row.output)
        with tensorflow_action(self._context.seed, self._context.threads):
            run = partial(run_keras, self._model)
            expected = run(arrays)
            # Of the real inputs, since a set like `zeros` has no scale whose last bits could be moved.
            scales = [float(np.abs(real[name]).max()) for name in self._model.input_names]
            noise = rounding_noise(run, arrays, expected, scales)[output_index]
        actual = self._run(dict(zip(self._model.input_names, arrays, strict=True)))[row.output]
        off = np.abs(actual.astype(np.float64) - expected[output_index]).reshape(len(actual), -1).max(axis=1)
        return bool((off <= np.maximum(allowed, ROOM * noise)).all())

    def cause(self, row: ParityRow) -> Cause | None:
        """Return why a quantized file is off, as far as its ranges and constants tell; None if they don't."""
        import numpy as np

        from stages.verify.causes import cause_in_constants, cause_in_inputs, cause_in_ranges

        if not is_real(row.inputs):
            return None  # synthetic inputs are meant to exceed the calibrated ranges
        places = [row.worst_sample, *self._picked[:: max(1, len(self._picked) // LOOKED_AT)]]
        inputs = self._arrays(self._split.take(np.array(places))[0])
        data = content_of(self._file)
        try:
            shown = shows_tensors(self._kind)
            cause = cause_in_inputs(inputs, shown.input_ends(data)) or cause_in_ranges(
                [self._with_inputs(_one(inputs, index)) for index in range(len(places))]
            )
        except DeviceError:
            return None
        return cause or cause_in_constants(shown.small_constants(data))

    def outside(self) -> str | None:
        """Return which layers' numbers a quantized file's ranges cut off on real inputs, and how many; or None.

        Counted in Keras, since what the file itself holds was cut: one sample shows which tensor is which layer's.
        """
        from stages.keras.layer_calls import record_layers
        from stages.verify.causes import input_calls, outside_in_words

        model, step = self._made_from, -(-len(self._picked) // COUNTED)
        inputs = self._arrays(self._split.take(self._picked[::step])[0])
        count = len(next(iter(inputs.values())))
        parts = (
            {name: values[picked] for name, values in inputs.items()}
            for picked in batches_of(count, model.inputs[0].shape[0] or LOOKED_AT)
        )
        try:
            observed = self._with_inputs(_one(inputs, 0))
        except DeviceError:
            return None
        return outside_in_words(observed, ([*input_calls(part), *record_layers(model, part)] for part in parts))

    def _with_inputs(self, sample: Arrays) -> Observed:
        """Return `_observed`, with the inputs among the layers."""
        from stages.verify.causes import input_calls

        calls, tensors = self._observed(sample)
        return [*input_calls(sample), *calls], tensors

    def _observed(self, sample: Arrays) -> Observed:
        """Return what layers output for one sample, and what the file's operators do."""
        import numpy as np

        from stages.formats.apart.runtimes import tensors_apart
        from stages.keras.layer_calls import record_layers

        size = self._loaded.inputs[0].shape[0] or 1
        # A file made for a larger batch takes no single sample.
        arrays = {name: np.repeat(values, size, axis=0) for name, values in sample.items()}
        tensors = tensors_apart(self._kind, self._file, arrays, self._doing, self._context.events)
        return record_layers(self._made_from, arrays), tensors

    def _where_they_part(self, sample: Arrays, limit_db: float) -> str:
        from stages.verify.divergence import describe_divergence

        try:
            return describe_divergence(*self._observed(sample), limit_db, self._recomputed)
        except DeviceError as error:
            return f"which layer differs is not known ({error.what})"

    def _recomputed(self, name: str, inputs: NDArray[Any]) -> NDArray[Any] | None:
        """Return what the reference's layer of this name makes of other inputs; None unless it has one call."""
        import numpy as np
        from tensorflow import errors

        layers = {layer.name: layer for layer in self._made_from._flatten_layers()}  # noqa: SLF001 - nested ones too
        layer = layers.get(name)
        if layer is None or len(layer.inbound_nodes) != 1:
            return None
        try:
            return np.asarray(layer(inputs, training=False))
        except (TypeError, ValueError, errors.OpError):  # it takes more than that
            return None

    def _require_finite(self, reference: Arrays, actual: Arrays, sample_at: Callable[..., Arrays]) -> None:
        import numpy as np

        for name, wanted in reference.items():
            for values, owner in ((wanted, "the reference"), (actual[name], "the exported file")):
                finite = np.isfinite(np.reshape(values, (len(values), -1))).all(axis=1)
                if finite.all():
                    continue
                index = int(finite.argmin())
                sample = sample_at(index)
                if sample_at == self._real_sample:  # synthetic inputs are finite
                    require_finite_inputs(self._split)
                if owner == "the reference":
                    where = f"the first layer with NaN or infinity is {first_not_finite(self._model, sample)!r}"
                else:
                    where = self._where_they_part(sample, 10.0)
                on = numbered(int((~finite).sum()), "sample")
                what = f"outputs of {owner} are not finite on {on}, first on sample {index}"
                raise PostconditionError(f"{what}; {where}", where=self._context.axis)
            if actual[name].shape != wanted.shape:
                what = f"output {name!r} of the file has shape {actual[name].shape}, the reference's {wanted.shape}"
                raise PostconditionError(what, where=self._context.axis)

    def _run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        outputs: dict[str, Any] = self._loaded.run(arrays)
        return {spec.name: outputs[spec.name] for spec in self._facts.outputs}

    def _arrays(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Return a split's inputs by name, in the model's types."""
        specs = self._facts.inputs
        arrays = zip(specs, by_input(inputs, [spec.name for spec in specs]), strict=True)
        return {spec.name: array.astype(spec.dtype, copy=False) for spec, array in arrays}

    def _real_sample(self, index: int) -> dict[str, NDArray[Any]]:
        return self._arrays(self._split.inputs(index, index + 1))

    @property
    def _doing(self) -> str:
        return f"verifying {self._context.axis}"

    @cached_property
    def _loaded(self) -> LoadedModel:
        from stages.formats.apart.runtimes import load_apart

        loaded = load_apart(self._kind, self._file, self._context.threads, self._doing, self._context.events)
        for role, specs, wanted in (
            ("input", loaded.inputs, self._facts.inputs),
            ("output", loaded.outputs, self._facts.outputs),
        ):
            names = [spec.name for spec in specs]
            for spec in wanted:
                if spec.name not in names:
                    text = f"the file has no {role} {spec.name!r}; it has {', '.join(names)}"
                    raise PostconditionError(text, where=self._context.axis)
        return loaded

    @cached_property
    def _model(self) -> KerasModel:
        from stages.keras.precision import reference_in_float32

        return reference_in_float32(self._context, "reference")

    @cached_property
    def _made_from(self) -> KerasModel:
        """Return the model that export took, whose layers the file computes: equal to the reference in its outputs."""
        from stages.keras.precision import reference_in_float32

        return reference_in_float32(self._context, "quantized" if "quantized" in self._context.inputs else "reference")

    @cached_property
    def _made_up(self) -> dict[str, dict[str, NDArray[Any]]]:
        from stages.verify.adversarial import adversarial_inputs

        return adversarial_inputs(self._facts.inputs, self._arrays(self._split.take(self._picked)[0]))

    @cached_property
    def _picked(self) -> NDArray[Any]:
        return spread_over(len(self._split), self._context.config.samples)

    def _classes(self, output: str) -> bool:
        """Return whether the output ranks classes, as far as its targets tell."""
        return self._tasks[output] == "classes"


def advance(context: StageContext[VerifyConfig], done: int, total: int, runtime: str) -> None:
    """Report progress in samples, for a runtime."""
    context.events.advanced(done, total, "verification samples", f"{runtime} {done}/{total}")


def _one(arrays: Arrays, index: int) -> dict[str, NDArray[Any]]:
    return {name: values[index : index + 1] for name, values in arrays.items()}


def parity_row(inputs: str, output: str, reference: NDArray[Any], actual: NDArray[Any], classes: bool) -> ParityRow:
    import numpy as np

    from stages.formats.layers.parity import (
        cosine,
        decided_agreement,
        max_abs_diff,
        mean_abs_diff,
        sqnr_db,
        top_agreement,
        variation_db,
        worst_sample,
    )

    ranked = reference.shape[1] if classes and reference.ndim == 2 else 0
    decided, agreed = decided_agreement(reference, actual) if ranked > 1 else (None, None)
    return ParityRow(
        inputs=inputs,
        output=output,
        samples=len(reference),
        reference_max_abs=float(np.abs(reference).max()),
        worst_sample=worst_sample(reference, actual),
        max_abs_diff=max_abs_diff(reference, actual),
        mean_abs_diff=mean_abs_diff(reference, actual),
        sqnr_db=sqnr_db(reference, actual),
        cosine=cosine(reference, actual),
        top1_agreement=top_agreement(reference, actual) if ranked > 1 else None,
        top5_agreement=top_agreement(reference, actual, 5) if ranked > 5 else None,
        variation_db=variation_db(reference, actual),
        decided=decided,
        decided_agreed=agreed,
    )
