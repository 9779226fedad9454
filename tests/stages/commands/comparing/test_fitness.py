from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import RecipeError
from stages.commands.comparing.fitness import require_fit
from stages.devices.target import Sampling, find_target


def test_shapes_are_refused_where_the_target_takes_none(onnx_file, operand):
    shaped, model = Sampling(shapes=("1,4096",)), operand(onnx_file).models[0]
    with pytest.raises(RecipeError, match="tflm takes files whose inputs have fixed sizes, and no --shape"):
        require_fit(find_target("tflm"), [replace(model, kind="tflite-model")], shaped)
    require_fit(find_target("cortex-a72"), [model], shaped)
    require_fit(find_target("cpu"), [model], shaped)
