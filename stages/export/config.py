"""Define the settings of the export stage: formats, common settings, and those that each installed format owns.

A format's settings are fields next to the others (`opset: 15`), and may also be given under its name (`onnx: {opset:
15}`). The action of a format holds, and its key depends on, only its own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_serializer, model_validator

from pipeline.contracts.stage import StageConfig
from pipeline.data.samples import Preprocess
from stages.formats.format import Own
from stages.formats.registry import formats

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

NAMES = tuple(formats())
OWNED: Mapping[str, frozenset[str]] = {
    name: frozenset(file_format.settings.model_fields) for name, file_format in formats().items()
}
NESTED = tuple(name for name in NAMES if name not in OWNED[name])  # `vela` is a setting as well


class CommonConfig(StageConfig):
    """Set which files to make from each quantized model.

    `tflite`, `onnx` and `openvino` run on anything with an operating system. `c` is the TFLite file as C source for
    TensorFlow Lite for Microcontrollers, `vela` the same compiled for an Ethos-U NPU. `unsupported` says what happens
    to a pair of format and scheme that does not exist.

    `labels` and `preprocess` go into the files; by default they come from the data.
    """

    formats: tuple[str, ...] = Field(min_length=1)
    shapes: dict[str, tuple[Annotated[int, Field(ge=1)], ...]] | None = Field(
        None, description="of inputs by name, without the batch: for sizes that the model leaves free"
    )
    labels: tuple[str, ...] | None = Field(None, min_length=1, description="names of the classes, in their order")
    preprocess: Preprocess | dict[str, Preprocess] | None = Field(None, description="what was done to the inputs")
    unsupported: Literal["refuse", "skip"] = "refuse"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError("each format can be named once")
        return self

    @model_validator(mode="after")
    def _each_setting_once(self) -> Self:
        for name in NESTED:
            twice = self.model_fields_set & self._given_under(name).keys()
            if twice:
                raise ValueError(f"{min(twice)} is set twice, once of them under {name}")
        return self

    def _given_under(self, name: str) -> dict[str, Any]:
        """Return the settings that are written under a format's name."""
        own = getattr(self, name) if name in NESTED else None
        return {} if own is None else {key: getattr(own, key) for key in own.model_fields_set}

    @model_serializer(mode="wrap")
    def _own_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the settings of formats that are not named."""
        owned = frozenset[str]().union(*(OWNED[name] for name in self.formats))
        others = frozenset[str]().union(NESTED, *OWNED.values()) - owned
        return {key: value for key, value in handler(self).items() if key not in others}

    def by_element(self) -> Mapping[str, Self]:
        """Return these settings for each format separately, merged with those under its name.

        `unsupported` keeps its default: it decides about the run and changes no file.
        """
        alone = {"unsupported": "refuse"}
        return {
            name: self.model_copy(update={"formats": (name,), **alone, **self._given_under(name)})
            for name in self.formats
        }

    def of(self, settings: type[Own]) -> Own:
        """Return the settings that a format owns."""
        return settings(**{name: getattr(self, name) for name in settings.model_fields})

    def for_format(self, name: str) -> Mapping[str, object]:
        """Return the same settings for another format, for one that is made from its files."""
        return self.model_copy(update={"formats": (name,), "unsupported": "refuse"}).model_dump()


def _fields_of_formats() -> dict[str, Any]:
    """Return all formats' settings by name; formats that share a setting get it from one class."""
    flat = {
        name: (field.annotation, field)
        for file_format in formats().values()
        for name, field in file_format.settings.model_fields.items()
    }
    return {**flat, **{name: (formats()[name].settings | None, None) for name in NESTED}}


def _described() -> str:
    own = [file_format.settings.__doc__ or "" for file_format in formats().values()]
    return "\n\n".join(dict.fromkeys([CommonConfig.__doc__ or "", *own]))


# Made when this is imported, since the installed formats decide which fields there are.
ExportConfig = create_model(
    "ExportConfig",
    __base__=CommonConfig,
    __doc__=_described(),
    __module__=__name__,
    formats=(tuple[Literal[NAMES], ...], Field(min_length=1)),  # type: ignore[valid-type]
    **_fields_of_formats(),
)
