"""Define what a recipe says of samples wherever they come from: the task of targets, how inputs are preprocessed."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from pipeline.records.values import Value

Task = Literal["classes", "multilabel", "regression", "unlabelled"]


class Preprocess(Value):
    """Preprocess stored inputs for the model: `x * scale + offset`, or one of Keras' named modes, in float32."""

    scale: float = 1.0
    offset: float = 0.0
    mode: Literal["tf", "caffe", "torch"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.mode is not None and (self.scale, self.offset) != (1.0, 0.0):
            raise ValueError("give either mode or scale and offset")
        return self

    def __call__(self, x: Any) -> Any:
        """Preprocess to float32; the modes are those of `keras.applications.imagenet_utils`, on RGB 0…255."""
        import numpy as np

        x = np.asarray(x, dtype=np.float32)
        if self.mode == "tf":
            return x / np.float32(127.5) - np.float32(1)
        if self.mode == "torch":
            mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
            return (x / np.float32(255) - mean) / deviation
        if self.mode == "caffe":
            return x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
        return x * np.float32(self.scale) + np.float32(self.offset)
