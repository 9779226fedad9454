"""Find the operator at which a file crashes its runtime, with files that stop earlier, loaded and run in a child."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.contracts.events import ActionEvents
from pipeline.errors import NativeEndError, SecateurError
from stages.formats.apart.main import Speaker
from stages.formats.apart.process import call_child
from stages.formats.cut import Cut
from stages.formats.layers.owners import stored_owners
from stages.formats.tflite.cuts import cuts


def with_operator(error: NativeEndError, file: Path, model: Path, events: ActionEvents) -> NativeEndError:
    """Add to `error` the operator of a TFLite `file` that crashes; unchanged if there is no file, or it runs.

    `model` is the stored Keras model that the file was made from: its layers have names that the user knows.
    """
    if not file.exists():  # the converter crashed before it wrote one
        return error
    try:
        all_cuts = list(cuts(file.read_bytes(), str(file)))
    except SecateurError:  # loops have no order to cut in
        return error
    index = first_that_ends(all_cuts, lambda cut: _ends(cut, events))
    if index is None:
        return error
    cut = all_cuts[index]
    owner = stored_owners(model).said_of(cut.name)
    what = f"{error.what}, at operator {index + 1} of {len(all_cuts)}: {cut.kind} of {owner}"
    return NativeEndError(what, where=error.where, hint=error.hint)


def first_that_ends(found: Sequence[Cut], ends: Callable[[Cut], bool]) -> int | None:
    """Return the place of the first cut for which `ends`, which is monotonic, holds; None if none does."""
    # The whole file first: if that runs now, the crash was in the conversion or did not depend on the file alone.
    if not found or not ends(found[-1]):
        return None
    low, high = 0, len(found) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if ends(found[middle]) else (middle + 1, high)
    return low


def _ends(cut: Cut, events: ActionEvents) -> bool:
    with tempfile.NamedTemporaryFile(prefix="secateur-") as file:
        file.write(cut.data)
        file.flush()
        try:
            call_child(f"{__name__}:run_here", {"file": file.name}, "looking for the operator", events=events)
        except NativeEndError:
            return True
        except SecateurError:  # an error reported by the runtime is not a crash
            return False
    return False


def run_here(_: Speaker, file: str) -> None:
    """Load a TFLite file in the child and run it once, on zeros."""
    import numpy as np

    from stages.formats.tflite.session import load_tflite

    loaded = load_tflite(Path(file).read_bytes())
    zeros: dict[str, Any] = {
        spec.name: np.zeros([size or 1 for size in spec.shape], np.float32) for spec in loaded.inputs
    }
    loaded.run(zeros)
