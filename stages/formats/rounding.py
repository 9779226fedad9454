"""Choose weights and biases of integer files on calibration samples, before a converter rounds them.

The converter gets a copy of the model with batch normalizations folded, so that its kernels are what is quantized, and
with each kernel on points that the converter itself takes, so that it changes none. Which points these are, and which
biases go with them, is found layer by layer as in re-fitting: from the network as rounded so far and the outputs of the
float one (see `stages/keras/regression/rounded_layer.py`). Held-out samples decide.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization
from stages.formats.conversion import Context, Job
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.keras.regression.grids import Grid
    from stages.keras.regression.refit import LayerFit
    from stages.keras.regression.rounded_layer import RoundedLayer

POSITIONS = 8  # of each feature map, drawn by seed; 16 take a quarter longer, for outputs that are hardly nearer
RIDGE = 1e-2  # the share of the inputs' variance that GPTQ adds to its sums
DEAD = 1e-6  # of a layer's largest weight: channels without larger ones get other steps from the quantizers


@dataclass(frozen=True, slots=True)
class Rounded:
    """Hold what to convert, and how: `keep_float` and `keep_int16` name layers of this model.

    Errors are those of the network's outputs on held-out samples, relative to the float outputs' variance.
    """

    model: KerasModel
    how: Quantization
    grid: Grid
    layers: tuple[RoundedLayer, ...]
    fits: tuple[LayerFit, ...]
    error_before: float
    error_after: float

    def tell(self, context: Context, constants: Iterable[NDArray[Any]]) -> None:
        """Report what adaptive rounding did, and did not, in the file with these `constants`."""
        if self.how.rounding != "adaptive":
            return
        names = {view.layer.name for view in self.layers}
        others = [layer.name for layer in self.model.layers if layer.weights and layer.name not in names]
        again = self.rounded_again(constants)
        context.events.warned(
            f"adaptive rounding of {len(names)} layers: mean squared error of the outputs by weights alone "
            f"{self.error_before:.2g} → {self.error_after:.2g} of their variance, on held-out samples"
            + (f"; left as they are: {', '.join(others)}" if others else "")
            + (f"; rounded again by the converter: {', '.join(again)}" if again else "")
        )

    def rounded_again(self, constants: Iterable[NDArray[Any]]) -> list[str]:
        """Return the layers whose weights are not among a file's 8-bit `constants`, which have their channels first.

        The order within a channel is each format's own, and a format may add zeros (`few_channels` in TFLite). So a
        channel's weights are compared sorted, with as many zeros.
        """
        there = [self._sorted(values) for values in constants]
        return [view.layer.name for view in self.layers if not any(self._holds(values, view) for values in there)]

    def _holds(self, values: NDArray[Any], view: RoundedLayer) -> bool:
        import numpy as np

        codes, sizes = self._sorted(view.codes), np.abs(view.codes * view.steps)
        alive = self._sorted(sizes).max(axis=1) > DEAD * sizes.max()
        added = values.shape[1] - codes.shape[1]
        if len(values) != len(codes) or added < 0:
            return False
        codes = np.sort(np.pad(codes, ((0, 0), (0, added))), axis=1)
        return bool((values == codes)[alive].all())

    def _sorted(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        return np.sort(values.reshape(len(values) if self.grid.per_channel else 1, -1), axis=1)


def wants_rounding(how: Quantization) -> bool:
    """Return whether weights or biases are chosen here."""
    return how.rounding == "adaptive" or bool(how.bias_correction)


def rounded(context: Context, job: Job, how: Quantization, limit: int) -> Rounded | None:
    """Return the model to convert in the child, its weights on -`limit` to `limit` steps; None: the model as it is.

    A warning says what is left as it is if adaptive rounding was asked for.
    """
    if not wants_rounding(how) or job.calibration is None:
        return None
    obstacle = _obstacle(job.model, len(job.calibration[0]))
    if obstacle:
        context.events.warned(f"weights are rounded to the nearest and biases stay: {obstacle}")
        return None
    from stages.keras.regression.grids import Grid

    with tempfile.TemporaryDirectory(dir=context.work_dir) as name:
        grid = Grid(limit, how.granularity != "per_tensor")
        return round_model(job.model, how, job.calibration, grid, Path(name), context.events.advanced)


def round_model(
    model: KerasModel,
    how: Quantization,
    calibration: Sequence[NDArray[Any]],
    grid: Grid,
    folder: Path,
    advanced: Callable[[float, float, str, str], None] = lambda *_: None,
) -> Rounded:
    """Return a copy of `model` with weights on `grid`; `calibration` are samples (N, …) by input, in order.

    `folder` holds scratch files.
    """
    import numpy as np

    from stages.keras.flatten import flattened
    from stages.keras.normal_form import copy_model
    from stages.keras.regression.linear_layers import is_linear
    from stages.keras.regression.output_error import OutputError
    from stages.keras.regression.refit import Settings, compute_targets, fit_layers
    from stages.keras.regression.rounded_layer import RoundedLayer
    from stages.keras.regression.running import Network
    from stages.keras.regression.samples import batched
    from stages.keras.regression.taking_back import values_of, without_harm
    from stages.keras.regression.targets import Positions
    from stages.keras.stripping.layers import strip_model

    found = flattened(strip_model(model, fold_batch_norm=True).model)
    found = copy_model(model) if found is model else found
    kept = _kept(model, how.keep_float)
    names = [layer.name for layer in found.layers if is_linear(layer) and layer.name not in kept]
    network, order = Network.of(found), np.random.default_rng(0).permutation(len(calibration[0]))
    samples = batched(network, order, lambda places: [values[places] for values in calibration])
    settings = Settings(Positions(POSITIONS, 0), RIDGE, folder, offsets=how.bias_correction is not False)

    def heard(done: int, total: int, at: str) -> None:
        advanced(done, total, "rounding", at)

    # All that is read of the float network, before its weights change.
    error = OutputError.against(found, samples, folder / "outputs")
    compute_targets(found, names, {}, samples, settings, heard)
    adaptive = how.rounding == "adaptive"
    linear = {name: RoundedLayer.of(found.get_layer(name), grid, adaptive=adaptive) for name in names}
    before, error_before = values_of(found), error.of(found)
    fits = fit_layers(found, linear, lambda: None, samples, settings, heard)
    fits, error_after = without_harm(network, before, fits, error, error_before)
    wide = _kept(model, how.keep_int16)
    how = how.model_copy(update={"keep_float": tuple(sorted(kept)), "keep_int16": tuple(sorted(wide))})
    return Rounded(found, how, grid, tuple(linear.values()), tuple(fits), error_before, error_after)


def _kept(model: KerasModel, layers: Sequence[str]) -> set[str]:
    """Return the flat names of these layers; of a normalization, that of what absorbs it."""
    from stages.keras.flatten import layers_by_flat_name
    from stages.keras.stripping.folding import find_folds
    from stages.keras.stripping.usage import usage_of

    flat = layers_by_flat_name(model)
    names, takers = {id(layer): name for name, layer in flat.items()}, {}
    if layers:
        takers = {id(fold.norm): fold.producer for fold in find_folds(usage_of(model))[0]}
    return {names[id(takers.get(id(layer), layer))] for layer in flat.values() if layer.name in layers}


def _obstacle(model: KerasModel, samples: int) -> str | None:
    """Return why weights can't be chosen, or None."""
    from stages.keras.regression.samples import FEWEST_SAMPLES

    if samples < FEWEST_SAMPLES:
        return f"{samples} calibration samples are too few, {FEWEST_SAMPLES} are needed"
    if not getattr(model, "_is_graph_network", False):
        return "the model has no layer graph"
    if model.inputs[0].shape[0] not in (None, 1):
        return f"the model takes batches of {model.inputs[0].shape[0]} only"
    return None
