"""Share one SavedModel between all schemes that a model is converted in, so that it is traced and saved once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from stages.formats.tflite.convert import save_function
from stages.formats.tflite.recurrent import Form, recurrent_layers
from stages.keras.serving import Shapes
from stages.keras.types import KerasModel


class SavedFunction:
    """Hold the folder of the function that was saved last."""

    def __init__(self) -> None:
        self._key: tuple[str, str, str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def of(self, model: KerasModel, digest: str, shapes: Shapes | None, form: Form = "loop") -> str:
        """Return the folder that `save_function` filled for the model with this `digest`."""
        key = (digest, repr(shapes), form if recurrent_layers(model) else "")
        if self._folder is None or key != self._key or not Path(self._folder.name).is_dir():
            if self._folder is not None:
                self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory(prefix="secateur-", ignore_cleanup_errors=True)
            self._key = None  # until it is filled
            save_function(model, self._folder.name, shapes, form)
            self._key = key
        return self._folder.name
