"""Name what Keras' own classes are to this project: TensorFlow is not imported where a module only mentions them."""

from __future__ import annotations

from typing import Any, TypeAlias

KerasModel: TypeAlias = Any  # a model of tf_keras, or of Keras 3 while it is loaded
KerasLayer: TypeAlias = Any  # a layer of either
