"""Packages that make the files of a format, and that run them: their versions are in the keys of that format alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

_TFLITE = ("tensorflow", "tf-keras", "ai-edge-litert", "ai-edge-quantizer", "flatbuffers", "numpy")
MAKING: Mapping[str, tuple[str, ...]] = {
    "tflite": _TFLITE,
    "onnx": ("tensorflow", "tf-keras", "tf2onnx", "onnx", "onnxruntime", "protobuf", "numpy"),
    "c": (*_TFLITE, "tflite-micro"),
    "vela": (*_TFLITE, "ethos-u-vela"),
}
RUNNING: Mapping[str, tuple[str, ...]] = {
    "tflite": ("ai-edge-litert", "numpy"),
    "onnx": ("onnxruntime", "numpy"),
    "c": ("ai-edge-litert", "tflite-micro", "numpy"),
    "vela": ("ethos-u-vela",),
}


def of_axis(table: Mapping[str, tuple[str, ...]], axis: str | None) -> tuple[str, ...]:
    """Those of the format that an axis (`onnx/int8@cpu`) begins with; of all formats where it names none."""
    every = tuple(dict.fromkeys(chain.from_iterable(table.values())))
    return table.get(str(axis).partition("/")[0], every)
