"""Name what the classes of TensorFlow and Keras are to this project.

Neither has types that a checker could use, and neither is imported where a module only mentions them: to the checker
each of these names is Any, to a reader it says what is passed.
"""

from __future__ import annotations

from typing import Any, TypeAlias

KerasModel: TypeAlias = Any  # a model of tf_keras, or of Keras 3 while it is loaded
KerasLayer: TypeAlias = Any  # a layer of either
KerasTensor: TypeAlias = Any  # a symbolic tensor between the layers of a model, of either
TfTensor: TypeAlias = Any  # a tensor with values, or inside a traced function; TensorFlow takes arrays as such too
TfVariable: TypeAlias = Any  # a variable of TensorFlow, or of either Keras
TfOperation: TypeAlias = Any  # a node of a traced graph: a `tf.Operation`
KerasValue: TypeAlias = Any  # a symbolic tensor, or what stands in its place in a call: an array, a number, a list
TfTensors: TypeAlias = Any  # a tensor, or a list or dict of them, as models take and give them
