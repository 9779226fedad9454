"""Load any Keras model as one of `tf_keras`: files are identified by content, never by suffix, without running code.

`recognise` says what a file is, `archives` whether it may be opened, `code` whether its configuration may be built;
then Keras builds it. What Keras 3 wrote is translated (`keras3`), and compared with Keras 3's own result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, PostconditionError
from pipeline.recipe.model_spec import Application, ModelFiles
from pipeline.system.quiet import quiet
from stages.keras.free_sizes import DATA, NOTHING, Wanted, leaves_sizes_open, like, settle
from stages.keras.free_sizes import settled as is_settled
from stages.keras.normal_form import objects_in, renew_constants
from stages.keras.sparsity import SparsityPlan
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasModel
from stages.load.applications import build_application
from stages.load.code import by_name_alone, refuse_code
from stages.load.custom_objects import import_custom_objects, of_keras
from stages.load.keras3 import TOLERANCE, Carried, carry_over, import_keras3
from stages.load.keras3_layers import Objects
from stages.load.keras3_quantized import without_quantization
from stages.load.not_finite import blame
from stages.load.notes import notes_on
from stages.load.preprocessing import split_front
from stages.load.recognise import file_kind
from stages.load.saved_model import difference_from_graph, open_saved_model, put_checkpoint
from stages.load.slices import without_ellipses
from stages.load.states import note_on_states, without_state
from stages.load.stored import StoredModel, damage, open_stored, put_stored_weights, read_model
from stages.load.text import note_on, without_text
from stages.load.unwrapping import unwrapped

HALF = {"float16": 5e-3, "bfloat16": 4e-2}  # five steps of the types' own rounding


@dataclass(frozen=True)
class OpenedModel:
    """Hold a functional or Sequential `tf_keras` model, its origin, and notes.

    `translation_difference` is how far its outputs are from the original's if another Keras or runtime had to compute
    those; `preprocessing` lists the layers that were split off its front; `sparsity` is the plan of the zeros that
    tfmot's pruning wrappers had set.
    """

    model: KerasModel
    source: str
    notes: tuple[str, ...] = ()
    translation_difference: float = 0.0
    preprocessing: tuple[dict[str, Any], ...] = ()
    sparsity: SparsityPlan | None = None


def load_model(
    source: str | Path | Mapping[str, Any] | Application | ModelFiles,
    *,
    weights: str | Path | None = None,
    custom_objects: Sequence[str] = (),
    preprocess: str = "keep",
    trust: bool = False,
    wanted: Wanted = NOTHING,
) -> OpenedModel:
    """Load a model from a file or folder of either Keras, or build an application from its description.

    `weights` is the file (or SavedModel folder) of weights for an architecture in JSON or an application.
    `custom_objects` are `module:Name`, `preprocess` is `keep` or `extract`, `trust` lets code in the file run. A
    mapping or spec contains all of this, like a recipe's `model:`. `wanted` gives sizes that the model leaves open.

    Raises:
        RecipeError: the file does not exist, or no application has that name.
        ModelError: the file is damaged, foreign or not safe, holds code, or something that can't be represented.
        PostconditionError: the translated model does not compute what the original does.
    """
    if isinstance(source, Mapping):
        kind = Application if "application" in source else ModelFiles
        source = kind.model_validate_json(json.dumps(dict(source), default=str))
    if isinstance(source, ModelFiles | Application) and source.sizes is not None:
        source, wanted = source.model_copy(update={"sizes": None}), replace(wanted, sizes=source.sizes)
    if isinstance(source, ModelFiles):
        return load_model(
            source.path,
            weights=source.weights,
            custom_objects=source.custom_objects,
            preprocess=source.preprocess,
            trust=source.trust,
            wanted=wanted,
        )
    weights = Path(weights) if weights is not None else None
    if isinstance(source, Application):
        named = source.weights if weights is None and isinstance(source.weights, Path) else weights
        carried = build_application(source, named)
        shown, preprocess = source.application, source.preprocess
    else:
        shown = str(source)
        carried = _from_files(Path(source), weights, custom_objects, wanted, trust=trust)
    # The graph first: without one there are no inputs whose sizes could be settled.
    model, difference = like(_graph(carried.model, shown), carried.model), carried.difference
    if not is_settled(model):
        settle(model, wanted)
    # Before the comparison: NaN differs from everything, and where it comes from is more use than by how much.
    blame(model, difference, shown)
    # Not `>`: NaN has to fail.
    if not difference <= tolerance(model):
        what = f"the translated model's outputs differ from the original's by {difference:.1e} (relative)"
        raise PostconditionError(what, where=shown, hint="please report this; saving it with tf_keras helps meanwhile")
    whole, plain = model, unwrapped(without_ellipses(model))
    model, split_off = split_front(plain.model) if preprocess == "extract" else (plain.model, ())
    if not is_settled(like(model, whole)):  # the inputs differ if layers were split off the front
        settle(model, wanted if leaves_sizes_open(model) else NOTHING)
    notes = (*carried.notes, *plain.notes, *notes_on(model, split_off))
    return OpenedModel(model, shown, notes, difference, (*carried.outside, *split_off), plain.plan)


def tolerance(model: KerasModel) -> float:
    """Return how far a translated model may be from its original: the resolution of the types it computes in."""
    types = {getattr(layer, "compute_dtype", None) for layer in model._flatten_layers()}  # noqa: SLF001
    return max((bound for name, bound in HALF.items() if name in types), default=TOLERANCE)


def _from_files(
    path: Path, weights: Path | None, custom_objects: Sequence[str], wanted: Wanted, *, trust: bool
) -> Carried:
    """Return the model, and its output difference from the original if there is one to compare with."""
    kind, name = file_kind(path), str(path)
    stored = open_saved_model(path) if kind == "saved_model" else open_stored(path, kind)
    if (kind == "json") != (weights is not None):
        what = "an architecture in JSON has no weights" if kind == "json" else "the file holds weights itself"
        raise ModelError(what, where=name, hint="`weights:` goes with an architecture in JSON, and only with that")
    names = frozenset(full.partition(":")[2] for full in custom_objects)
    with damage(path):
        if not trust:
            refuse_code(stored.config, name, names)
        stored = replace(stored, config=by_name_alone(stored.config, names))
    # After the check, so that a refused file has led to no import at all.
    custom = import_custom_objects(custom_objects)
    keras = import_keras()
    ours = objects_in(json.dumps(stored.config)) | of_keras(custom, keras)
    # Neither Keras reads all files of the other: Keras 3 refuses `.h5` with a DepthwiseConv2D of Keras 2, tf_keras
    # whatever has a `batch_shape`.
    if stored.keras3:
        return _of_keras3(stored, weights, Objects(ours, of_keras(custom, import_keras3())), wanted, trust=trust)
    model = read_model(stored, keras, ours, trust=trust)
    about_states = note_on_states(without_state(model))
    if kind == "saved_model":
        put_checkpoint(model, path)
    if weights is not None:
        _put_weights(model, weights)
    renew_constants(model)
    if kind == "saved_model":
        # Now: the graph in the folder is run at these sizes, to compare with.
        settle(model, wanted)
        return Carried(model, difference_from_graph(model, path), notes=about_states)
    model, outside = without_text(model, keras)
    return Carried(model, notes=(*about_states, *note_on(outside)), outside=outside)


def _of_keras3(stored: StoredModel, weights: Path | None, objects: Objects, wanted: Wanted, *, trust: bool) -> Carried:
    with quiet():  # Keras 3 warns by itself with newer releases of numpy
        original = read_model(stored, import_keras3(), objects.keras3, trust=trust)
        if not original.built:
            what = "the model was saved without its input shape"
            raise ModelError(what, where=str(stored.path), hint="add an Input to it")
        about_states = note_on_states(without_state(original))
        if weights is not None:
            _put_weights(original, weights)
        renew_constants(original)
        try:
            original, outside = without_text(original, import_keras3())
            plain, notes = without_quantization(original, objects.keras3, wanted)
            carried = carry_over(plain, objects, wanted)
            return replace(carried, notes=(*about_states, *note_on(outside), *notes, *carried.notes), outside=outside)
        except ModelError as error:
            # Then a setting is at fault and no layer of the file.
            if error.where in (wanted.setting, DATA):
                raise
            raise ModelError(error.what, where=f"{stored.path}: {error.where}", hint=error.hint) from error


def _put_weights(model: KerasModel, weights: Path) -> None:
    if weights.is_dir():
        put_checkpoint(model, weights)
    else:
        put_stored_weights(model, weights)


def _graph(model: KerasModel, source: str) -> KerasModel:
    """Return the model if it is a graph of layers; a Sequential one that was never built has no shapes yet."""
    keras = import_keras()
    functional = isinstance(model, keras.Sequential) or getattr(model, "_is_graph_network", False)
    if not functional:
        hint = "rebuild it with the functional API: keras.Model(inputs, outputs)"
        raise ModelError("a subclassed model has no graph of layers to work on", where=source, hint=hint)
    if not model.built or not model.inputs:
        raise ModelError("the model was saved without its input shape", where=source, hint="add an Input layer to it")
    return _outputs_in_a_list(model)


def _outputs_in_a_list(model: KerasModel) -> KerasModel:
    """Return the model with the outputs that stages expect: one, or a list in Keras' own order (a dict's: by keys)."""
    keras = import_keras()
    if isinstance(model, keras.Sequential):
        return model
    structure = model._nested_outputs  # noqa: SLF001 - Keras has no public way
    if structure is model.outputs or not isinstance(structure, dict | list | tuple):
        return model
    if isinstance(structure, list | tuple) and not any(isinstance(item, dict | list | tuple) for item in structure):
        return model
    return keras.Model(model._nested_inputs, model.outputs, name=model.name)  # noqa: SLF001
