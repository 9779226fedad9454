"""Call the user's function `module:function` in a module next to the recipe for a split's arrays.

The function gets the name of a stored split and returns inputs, or (inputs, targets); inputs are an array, or a dict of
arrays by the model's input names. It is called in every run, since only its arrays show whether they changed: their
content is in the key, the code is not. Memory-mapped arrays stay mapped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pipeline.data.declaration import Opening, Source, SourceSettings
from pipeline.data.table import Shapes, Table
from pipeline.errors import DataError, RecipeError, SecateurError
from pipeline.recipe.user_code import FUNCTION, load_function, told
from pipeline.records.keys import digest_of

ROWS_AT_A_TIME = 1024


class FunctionSettings(SourceSettings):
    """Name the function."""

    places: ClassVar[frozenset[str]] = frozenset({"function"})
    function: str = Field(pattern=f"^{FUNCTION}$", description="python: module:function")


class PythonFunction:
    """Keep the arrays that a function made for the duration of the run."""

    def __init__(self, opening: Opening[FunctionSettings]) -> None:
        self._folder, self._reference = opening.path, opening.settings.function
        self._made: dict[str, tuple[Any, Any]] = {}
        self._known: dict[str, dict[str, Any]] = {}

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        # With `anew` the same arrays are digested again: those that are mapped change with their file.
        if anew or stored not in self._known:
            inputs, targets = self._arrays(stored)
            arrays = inputs if isinstance(inputs, dict) else {"": inputs}
            digests = {"x": digest_of("inputs", {name: _digest(array) for name, array in arrays.items()})}
            self._known[stored] = digests if targets is None else {**digests, "y": _digest_of_targets(targets)}
        return self._known[stored]

    def shapes(self, stored: str) -> Shapes | None:
        try:
            inputs, _ = self._arrays(stored)
        except DataError:  # not every split has to be there; whoever reads it reports that
            return None
        named = inputs if isinstance(inputs, dict) else {"": inputs}
        return {name: tuple(array.shape[1:]) for name, array in named.items()}

    def read(self, stored: str) -> Table:
        return Table(*self._arrays(stored))

    def _arrays(self, stored: str) -> tuple[Any, Any]:
        if stored not in self._made:
            self._made[stored] = self._checked(stored)
        return self._made[stored]

    def _checked(self, stored: str) -> tuple[Any, Any]:
        import numpy as np

        _, function = load_function(self._folder, self._reference)
        call = f"{self._reference}({stored!r})"
        try:
            made = function(stored)
        except SecateurError:
            raise
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise DataError(f"{call} failed: {told(error)}", where=self._where) from error
        inputs, targets = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        named = inputs if isinstance(inputs, dict) else {"": inputs}
        labels = targets if isinstance(targets, dict) else {} if targets is None else {"": targets}
        every = [*named.items(), *((f"targets {name}".strip(), array) for name, array in labels.items())]
        counts = {name: len(array) if isinstance(array, np.ndarray) and array.ndim else -1 for name, array in every}
        if not named:
            raise self._error(f"{call} gave no inputs")
        wrong = [(name, array) for name, array in every if counts[name] < 0]
        for name, array in wrong:
            actual = "an array without rows" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
            raise self._error(
                f"{call} gave {name or 'inputs'} as {actual}: numpy arrays with a row a sample are needed"
            )
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{name or 'inputs'} {count}" for name, count in counts.items())
            raise self._error(f"{call} gave arrays of different numbers of samples: {shown}")
        for name, array in named.items():
            if array.dtype.kind not in "biuf":
                raise self._error(f"{call} gave {name or 'inputs'} that are not numbers: {array.dtype}")
        return inputs, targets

    @property
    def _where(self) -> str:
        return str(self._folder / f"{self._reference.partition(':')[0]}.py")

    def _error(self, what: str) -> DataError:
        hint = "it is to return inputs, or (inputs, targets): numpy arrays, or dicts of them by input or output name"
        return DataError(what, where=self._where, hint=hint)


def _digest_of_targets(targets: Any) -> str:
    if not isinstance(targets, dict):
        return _digest(targets)
    return digest_of("targets", {name: _digest(array) for name, array in targets.items()})


def _digest(array: Any) -> str:
    """Digest type, shape and values, whatever the layout in memory."""
    import numpy as np

    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\0".encode())
    # In parts, because a contiguous copy is in memory also where the array is mapped.
    for start in range(0, len(array), ROWS_AT_A_TIME):
        digest.update(np.ascontiguousarray(array[start : start + ROWS_AT_A_TIME]).tobytes())
    return digest.hexdigest()


def _find(settings: FunctionSettings, folder: Path) -> Path:
    module = folder / f"{settings.function.partition(':')[0]}.py"
    if not module.is_file():
        hint = "the module is a file next to the recipe"
        raise RecipeError(f"data.function: {module} is not there", where="data.function", hint=hint)
    return folder


SOURCE = Source(FunctionSettings, PythonFunction, find=_find)
