"""Check that networks with open sizes, of both Keras versions, use the data's size from `load` to the files."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras
from stages.load.keras3 import import_keras3

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
RECIPE = """\
name: {name}
seed: 3
model: {model}
data: {{source: npz, path: data.npz, task: unlabelled, test: test, calibration: {{take: 8}}}}
stages:
  - load
  - prune: {{ratio: 0.3, criterion: l2}}
  - strip
  - quantize: {{schemes: [float32, int8]}}
  - export: {{formats: [tflite, onnx], shapes: {{{shapes}}}}}
  - verify
"""


def u_net(keras):
    """Build a network that halves twice and doubles twice: it runs only at multiples of 4."""
    layers = keras.layers
    x = image = keras.Input((None, None, 3), name="image")
    x = first = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(x)
    x = second = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(layers.MaxPooling2D(2)(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="third")(layers.MaxPooling2D(2)(x))
    x = layers.Conv2DTranspose(8, 2, 2, name="up")(x)
    x = layers.UpSampling2D(2)(layers.Concatenate()([x, second]))
    return keras.Model(image, layers.Conv2D(1, 1, name="last")(layers.Concatenate()([x, first])))


def u_net_macs(height, width):
    full, half, quarter = height * width, height * width // 4, height * width // 16
    return full * 9 * 3 * 6 + half * 9 * 6 * 8 + quarter * (9 * 8 * 8 + 4 * 8 * 8) + full * 22


def unpadded(keras):
    """Build a classifier of convolutions without padding: it needs at least 97 pixels."""
    layers = keras.layers
    x = image = keras.Input((None, None, 1), name="image")
    x = layers.Conv2D(6, 9, strides=8, activation="relu", name="first")(x)
    x = layers.Conv2D(8, 12, activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x))


def unpadded_macs(height, width):
    rows, columns = (height - 9) // 8 + 1, (width - 9) // 8 + 1
    return rows * columns * 81 * 6 + (rows - 11) * (columns - 11) * 144 * 6 * 8 + 8 * 3


def sequence(keras):
    layers = keras.layers
    x = steps = keras.Input((None, 5), name="steps")
    x = layers.LSTM(6, name="lstm")(layers.Conv1D(8, 3, activation="relu", name="first")(x))
    return keras.Model(steps, layers.Dense(2, activation="softmax", name="head")(x))


def sequence_macs(length):
    return (length - 2) * (3 * 5 * 8 + 4 * 6 * (8 + 6)) + 6 * 2


NETWORKS = {
    "u_net": (u_net, u_net_macs, (20, 12, 3)),
    "unpadded": (unpadded, unpadded_macs, (105, 121, 1)),
    "sequence": (sequence, sequence_macs, (11, 5)),
}


@pytest.fixture
def prepared(tmp_path):
    """Write model, data and recipe of a network; return the recipe's path."""

    def write(name, keras, model="model.keras", shape=None):
        make, _, own = NETWORKS[name]
        shape = shape or own
        keras.utils.set_random_seed(1)
        network = make(keras)
        network.save(tmp_path / "model.keras")
        samples = np.random.default_rng(1).uniform(-1, 1, (16, *shape)).astype(np.float32)
        np.savez(tmp_path / "data.npz", x_train=samples, x_test=samples[:8])
        shapes = f"{'steps' if name == 'sequence' else 'image'}: {list(shape)}"
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, model=model, shapes=shapes))
        return path

    return write


def facts_of(manifest, kind):
    outputs = [output for entry in manifest["stages"] for output in entry["outputs"]]
    return [output["facts"] for output in outputs if output["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("keras", ["tf_keras", "keras 3"])
def test_a_run_stands_at_the_size_of_its_data(prepared, secateur_here, tmp_path, name, keras):
    _, macs, shape = NETWORKS[name]
    recipe = prepared(name, import_keras() if keras == "tf_keras" else import_keras3())
    code, manifest, err = secateur_here("run", recipe, "--store", tmp_path / "store", "--json")
    assert code == 0, err
    models = facts_of(manifest, "keras-model")
    (entry,) = models[0]["macs_size"]
    assert [model["macs_size"] for model in models] == [{entry: list(shape)}] * 3  # loaded, pruned, stripped
    assert models[0]["macs"] == macs(*shape[:-1])
    assert models[1]["macs"] == models[2]["macs"] < models[0]["macs"]
    for kind in ("tflite-model", "onnx-model"):
        assert [facts["inputs"][0]["shape"][1:] for facts in facts_of(manifest, kind)] == [list(shape)] * 2
    code, again, err = secateur_here("run", recipe, "--store", tmp_path / "store", "--json")
    assert {found["status"] for found in again["stages"]} == {"hit"}
    code, text, _ = secateur_here("inspect", recipe)
    assert f"MACs are counted at {entry} {'×'.join(map(str, shape))}: " in text


def test_another_size_is_another_key_and_of_fixed_models_it_is_none(prepared, secateur_here, tmp_path):
    keras = import_keras()

    def key(recipe):
        code, plan, err = secateur_here("plan", recipe, "--store", tmp_path / "store", "--json")
        assert code == 0, err
        return plan["actions"][0]["key"]

    def store_samples(*shape):
        np.savez(tmp_path / "data.npz", x_train=np.zeros((9, *shape)), x_test=np.zeros((9, *shape)))

    recipe = prepared("u_net", keras)
    of_data = key(recipe)
    store_samples(20, 12, 3)  # other samples of the same size
    assert key(recipe) == of_data
    said = recipe.read_text().replace("model.keras", "{path: model.keras, sizes: [20, 12]}")
    (tmp_path / "said.yaml").write_text(said)
    assert key(tmp_path / "said.yaml") != of_data
    store_samples(24, 12, 3)
    assert key(recipe) != of_data
    keras.Sequential([keras.Input((20, 12, 3)), keras.layers.Conv2D(2, 3)]).save(tmp_path / "model.keras")
    fixed = key(recipe)
    store_samples(20, 12, 3)
    assert key(recipe) == fixed


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        ("model.keras", (22, 12, 3), "error: the network can't run at image 22×12×3: in layer "),
        ("{path: model.keras, sizes: 8}", None, "error: model.sizes says image 8×8×3, and samples of the data are "),
        ("{path: model.keras, sizes: [8, 8, 8]}", None, "gives 3 sizes, and input image ?×?×3 leaves 2 open"),
    ],
)
def test_a_wrong_size_ends_the_run_with_its_place(prepared, secateur_here, tmp_path, model, shape, said):
    recipe = prepared("u_net", import_keras(), model=model, shape=shape)
    code, _, err = secateur_here("run", recipe, "--store", tmp_path / "store")
    assert code == 4
    assert said in err
    assert f"{recipe.name}:{'3:28' if 'sizes' in model else '4:1'}" in err
    assert "Traceback" not in err


def test_a_size_that_can_not_be_one_is_told_before_anything_runs(prepared, secateur_here, tmp_path):
    recipe = prepared("u_net", import_keras(), model="{path: model.keras, sizes: 0}")
    code, _, err = secateur_here("plan", recipe, "--store", tmp_path / "store")
    assert code == 2
    assert "model.sizes: 0: input should be greater than or equal to 1" in err
