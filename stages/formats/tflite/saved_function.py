"""Share one SavedModel between all schemes that a model is converted in, so that it is traced and saved once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from stages.formats.tflite.convert import save_function
from stages.formats.tflite.recurrent import Form, recurrent_layers
from stages.keras.serving import Shapes

_last: dict[tuple[str, str, str], tempfile.TemporaryDirectory[str]] = {}


def shared_function(model: Any, digest: str, shapes: Shapes | None, form: Form = "loop") -> str:
    """Return the folder that `save_function` filled for the model with this `digest`; the last one stays on disk."""
    key = (digest, repr(shapes), form if recurrent_layers(model) else "")
    if key not in _last or not Path(_last[key].name).is_dir():
        while _last:
            _last.popitem()[1].cleanup()
        folder = tempfile.TemporaryDirectory(prefix="secateur-", ignore_cleanup_errors=True)
        try:
            save_function(model, folder.name, shapes, form)
        except BaseException:
            folder.cleanup()
            raise
        _last[key] = folder
    return _last[key].name
