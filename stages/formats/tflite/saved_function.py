"""Share one SavedModel between all schemes that a model is converted in, so that it is traced and saved once."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import partial
from pathlib import Path

from stages.formats.tflite.convert import save_function
from stages.formats.tflite.recurrent import Form, recurrent_layers
from stages.keras.serving import Shapes
from stages.keras.types import KerasModel

Key = tuple[str, str, str]  # the model's digest, its shapes, the form of its recurrent layers


class SavedFunction:
    """Hold the folder of the function that was saved last; it goes with this object, at the latest at exit."""

    def __init__(self) -> None:
        self._saved: tuple[Key, Path] | None = None
        self._remove = weakref.finalize(self, lambda: None)

    def of(self, model: KerasModel, digest: str, shapes: Shapes | None, form: Form = "loop") -> str:
        """Return the folder that `save_function` filled for the model with this `digest`."""
        key = (digest, repr(shapes), form if recurrent_layers(model) else "")
        if self._saved is None or self._saved[0] != key or not self._saved[1].is_dir():
            # The last one only: a SavedModel holds all weights, and schemes of one model follow one another.
            self._remove()
            self._saved, folder = None, Path(tempfile.mkdtemp(prefix="secateur-"))
            self._remove = weakref.finalize(self, partial(shutil.rmtree, folder, ignore_errors=True))
            try:
                save_function(model, str(folder), shapes, form)
            except BaseException:
                self._remove()
                raise
            self._saved = (key, folder)
        return str(self._saved[1])
