from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fixed_batch_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a file as our export does: microcontrollers take no free sizes."""
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(16, 3, name="conv")(image))
    model = keras.Model(image, keras.layers.Dense(4, name="head")(x), name="tiny")
    path = tmp_path_factory.mktemp("models") / "fixed"
    path.write_bytes(convert_tflite(model, "float32"))
    return path
