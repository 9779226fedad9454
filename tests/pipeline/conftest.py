import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.store import Store

BLOCK = """- repeat:
      times: 3
      schedule: linear
      stages:
        - prune: {ratio: 0.6, round_to: 4}
        - finetune: {epochs: 1}"""

RECIPE = """\
name: small
seed: 3
model: model.keras
data:
  source: npz
  path: data.npz
  test: test
control: true
stages:
  - load
  - prune: {ratio: 0.5}
  - finetune: {epochs: 1}
  - strip
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite, onnx]}
  - verify
  - benchmark
gates:
  - {metric: "tflite/int8.accuracy_drop", max: 0.5}
"""

SHORT = """\
name: short
model: model.keras
stages: [load, strip, {quantize: {schemes: [float32]}}, {export: {formats: [tflite]}}]
gates: [{metric: tflite/float32.size_bytes, max: 100000}]
"""


@pytest.fixture
def recipe_file(tmp_path):
    """Return a writer of a recipe with its files (the model is only bytes: nothing here loads it)."""
    (tmp_path / "model.keras").write_bytes(b"not a model, but bytes that have a digest")
    rng = np.random.default_rng(0)
    members = {f"x_{name}": rng.integers(0, 256, (20, 4, 4, 1), dtype=np.uint8) for name in ("train", "test")}
    members |= {f"y_{name}": np.arange(20) % 4 for name in ("train", "test")}
    np.savez(tmp_path / "data.npz", **members)

    def write(text=RECIPE, replace=()):
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store")
    opened.create()
    return opened


@pytest.fixture
def repeated(recipe_file):
    """Return the recipe with a repeat in place of its prune and finetune."""

    def load(*overrides, old="", new=""):
        text = BLOCK.replace(old, new) if old else BLOCK
        return Recipe.load(recipe_file(replace=[("- prune: {ratio: 0.5}\n  - finetune: {epochs: 1}", text)]), overrides)

    return load


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Run a small recipe without data to its end: return its path, its store, its manifest."""
    from stages.keras.tensorflow import import_keras

    folder, keras = tmp_path_factory.mktemp("finished"), import_keras()
    x = keras.Input((4,), name="x")
    keras.Model(x, keras.layers.Dense(2, name="y")(x)).save(folder / "model.keras")
    (folder / "recipe.yaml").write_text(SHORT)
    return folder / "recipe.yaml", folder / "store", run(Recipe.load(folder / "recipe.yaml"), folder / "store")
