"""Define the recipe's `model`: a path, files that a path alone cannot specify, or an application of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from pipeline.records.values import Value


class Head(Value):
    """Configure the classifier put onto an application without its top."""

    classes: int = Field(ge=2)


Preprocessing = Annotated[
    Literal["keep", "extract"],
    Field(description="Preprocessing layers at the model's front stay, or are split off and written down."),
]
CustomObject = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


Size = Annotated[int, Field(ge=1, le=2**20)]
FreeSizes = Size | Annotated[tuple[Size, ...], Field(min_length=1)] | dict[str, Size | tuple[Size, ...]]


def _is_none(value: object) -> bool:
    return value is None


SIZES_FIELD: Any = Field(
    default=None,
    exclude_if=_is_none,  # not in the key of `load` then: recipes from before this setting keep their keys
    description="What stands for sizes that the model's inputs leave open: one number, one for each, or by input name.",
)


class Application(Value):
    """Name a model of `tf_keras.applications`; `weights` may be a file of such weights."""

    application: str
    weights: Annotated[Literal["imagenet"] | Path | None, Field(union_mode="left_to_right")] = "imagenet"
    include_top: bool = True
    input_shape: tuple[int, int, int] | None = None
    head: Head | None = None
    preprocess: Preprocessing = "keep"
    sizes: FreeSizes | None = SIZES_FIELD

    @model_validator(mode="after")
    def _one_top(self) -> Self:
        if self.head is not None and self.include_top:
            raise ValueError("head needs include_top: false")
        return self


class ModelFiles(Value):
    """Describe a model in files that a path alone cannot specify."""

    path: Path = Field(description="A model file, a SavedModel folder, or a model's architecture in JSON.")
    weights: Path | None = Field(default=None, description="The weights that belong to an architecture in JSON.")
    custom_objects: tuple[CustomObject, ...] = Field(default=(), description="Layers of one's own: `module:Name`.")
    preprocess: Preprocessing = "keep"
    trust: bool = Field(default=False, description="Whether code inside the file (Lambda layers) may run.")
    sizes: FreeSizes | None = SIZES_FIELD


def _form_of(model: object) -> str:
    """Return which of the forms of `model` is meant, so that mistakes are reported about that one alone."""
    if isinstance(model, dict):
        return "of an application" if "application" in model else "in files"
    return "named alone"


ModelSource = Annotated[
    Annotated[Path, Tag("named alone")]
    | Annotated[ModelFiles, Tag("in files")]
    | Annotated[Application, Tag("of an application")],
    Discriminator(_form_of),
]

Model = Path | ModelFiles | Application
