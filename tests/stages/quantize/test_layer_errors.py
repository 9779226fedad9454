from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.formats.format import FileTensor
from stages.quantize.layer_errors import layer_errors


def test_noise_counts_where_it_comes_in(lopsided: Any) -> None:
    """Tensors that are right except for noise from `wide` on: later layers add no noise."""
    from stages.keras.layer_calls import record_layers

    x = np.random.default_rng(7).standard_normal((2, 12)).astype(np.float32)

    def noisy(kind: str, data: bytes, sample: Any) -> list[FileTensor]:
        narrow, wide, head = (call.outputs[0] for call in record_layers(lopsided, sample))
        wrong = [narrow, wide * np.float32(1.1), head * np.float32(1.1)]
        return [FileTensor(f"t{place}", values) for place, values in enumerate(wrong)]

    errors = {error.layer: error for error in layer_errors(lopsided, "tflite-model", b"", {"x": x}, noisy)}
    assert errors["wide"].added_noise == pytest.approx(0.01, rel=1e-3)
    assert errors["head"].added_noise == pytest.approx(0, abs=1e-4)
    assert errors["wide"].sqnr_db == pytest.approx(20, abs=0.01)
    assert next(iter(errors)) == "wide"
