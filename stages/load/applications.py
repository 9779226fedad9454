"""Build models of `tf_keras.applications`, by name, with trained, random or the user's own weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import ModelError, RecipeError
from pipeline.recipe.errors import nearest
from pipeline.recipe.model_spec import Application
from pipeline.system.quiet import quiet
from stages.keras.normal_form import renew_constants
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasModel
from stages.load.keras3 import Carried, carry_over, import_keras3
from stages.load.keras3_layers import Objects
from stages.load.stored import put_stored_weights


def build_application(spec: Application, weights: Path | None = None) -> Carried:
    """Return the model, and the output difference from Keras 3's if its weights had to be converted by that.

    Raises:
        RecipeError: no application has that name.
        ModelError: it can't be built this way, or the weights don't fit.
    """
    keras = import_keras()
    # Without named weights, which would be downloaded only to be overwritten.
    model = _built(keras, spec, None if weights else spec.weights)
    carried = Carried(model)
    if weights:
        try:
            put_stored_weights(model, weights)
        except ModelError as refusal:
            carried = _by_way_of_keras3(spec, weights, refusal)
            model = carried.model
        renew_constants(model)
    if spec.head:
        features = keras.layers.GlobalAveragePooling2D(name="head_pool")(model.output)
        outputs = keras.layers.Dense(spec.head.classes, activation="softmax", name="head")(features)
        model = keras.Model(model.input, outputs, name=model.name)
    return replace(carried, model=model)


def _built(keras: ModuleType, spec: Application, weights: str | Path | None) -> KerasModel:
    """Build the application in either Keras."""
    known = [n for n in dir(keras.applications) if n[0].isupper() and callable(getattr(keras.applications, n))]
    if spec.application not in known:
        hint = nearest(spec.application, known)
        raise RecipeError(f"no application is called {spec.application!r}", where="model.application", hint=hint)
    arguments: dict[str, Any] = {"weights": weights, "include_top": spec.include_top}
    if spec.input_shape:
        arguments["input_shape"] = spec.input_shape
    try:
        return getattr(keras.applications, spec.application)(**arguments)
    except Exception as error:
        hint = "check input_shape and weights; named weights are downloaded, so they need a network: `weights: null`"
        raise ModelError(f"{spec.application} can't be built: {error}", where="model", hint=hint) from error


def _by_way_of_keras3(spec: Application, weights: Path, refusal: ModelError) -> Carried:
    """Load weights that Keras 3 wrote through its own application; if even that fails, raise tf_keras' error."""
    keras3 = import_keras3()
    if not hasattr(keras3.applications, spec.application):
        raise refusal
    with quiet():  # Keras 3 warns by itself with newer releases of numpy
        original = _built(keras3, spec, None)
        try:
            put_stored_weights(original, weights)
        except ModelError:
            raise refusal from None
        renew_constants(original)
        return carry_over(original, Objects({}, {}))
