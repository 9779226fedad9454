"""Make the networks of a unit, saved as a user would save them: one process of `oracle.py`.

A unit is one of
* `tests:2`, `tests:3`: every network that the tests under `tests/stages` build, by the Keras of that version. Tests run
  under pytest until they first call the product; the models that their code made by then are saved. With Keras 3, tests
  get that instead of tf_keras, and those that depend on tf_keras make nothing.
* `loaders:NETWORK:VERSION`: the files of `loaders.py`.
* `application:NAME`: one of `tf_keras.applications`, at the smallest input it takes, open-ended.

Random weights make networks constant or chaotic. Here statistics are measured on the inputs used later, as training
would leave them, so that signals neither grow nor vanish.

`index.json` in the folder lists them: id, Keras' version, a recipe's `model:`, free sizes, and the range of the inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fresh import ROOT

IMAGES = (0.0, 255.0)  # what applications take
ENOUGH_TESTS = (
    "stages.keras.tensorflow",
    "stages.keras.normal_form",
    "stages.load.keras3",
    "pipeline.system.quiet",
    "stages.prune.surgery.random_weights",
)
FREE_SIZES = (8, 24, 96)  # tried in this order
PATIENCE_S = 3.0  # of processor time, for a test that reaches the product in an unknown way
FOLDERS = (
    "formats",
    "keras",
    "export",
    "load",
    "prune",
    "quantize",
    "strip",
    "verify",
    "recalibrate",
    "finetune",
    "commands",
)
MOST_PARAMS = 5_000_000  # of a test's network


class EnoughError(BaseException):
    """Raised when a test reaches the product: its networks are made."""


class Harvest:
    """Stop each test at the product (a pytest plugin), and save the models that the test's own code has made."""

    def __init__(self, version: int, folder: Path) -> None:
        self.version, self.folder = version, folder
        self.made: list[Any] = []
        self.index: dict[str, dict[str, Any]] = {}
        self.keras = keras_of(version)
        self._listen()

    def _listen(self) -> None:
        """Record each functional or sequential model that code under tests/ makes."""
        root = "tf_keras.src.engine" if self.version == 2 else "keras.src.models"
        for module, name in (("functional", "Functional"), ("sequential", "Sequential")):
            kind = getattr(sys.modules[f"{root}.{module}"], name)
            kind.__init__ = self._heard(kind.__init__)

    def _heard(self, original: Any) -> Any:
        def init(model: Any, *args: Any, **kwargs: Any) -> None:
            original(model, *args, **kwargs)
            if "/tests/" in calling_file() and not any(model is known for known in self.made):
                self.made.append(model)

        return init

    def pytest_runtest_setup(self, item: Any) -> None:
        random = getattr(item.function, "is_hypothesis_test", False)
        for name, value in list(vars(item.module).items()):
            home = str(getattr(value, "__module__", ""))
            stops = isinstance(value, types.FunctionType) or name.endswith("Stage")
            if stops and home.startswith(("stages.", "pipeline.")) and not home.startswith(ENOUGH_TESTS):
                setattr(item.module, name, stopper(random=random))
            if self.version == 3 and name == "import_keras":
                setattr(item.module, name, lambda: self.keras)

        signal.signal(signal.SIGVTALRM, stopper(random=False))
        signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_S)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.when != "call":
            return
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        made, self.made = self.made, []
        for model in made:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # in tests warnings are errors
                    self._save(model, item)
            except Exception as error:  # noqa: BLE001 - models that Keras can't save are no user's files
                print(f"{item.name}: {error!r}"[:200], file=sys.stderr)

    def _save(self, model: Any, item: Any) -> None:
        if not getattr(model, "built", False) or not model.inputs or model.count_params() > MOST_PARAMS:
            return
        text = json.dumps(plain_config(json.loads(model.to_json())), sort_keys=True)
        name = f"{item.path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        if name in self.index:
            return
        file = self.folder / f"{name}.keras"
        model.save(file)
        self.index[name] = {
            "id": f"tests:{self.version}:{name}",
            "keras": self.version,
            "model": {"path": str(file), "trust": True},
            "shapes": free_sizes(model),
            "range": None,
        }


def stopper(*, random: bool) -> Any:
    """Return the replacement of the product's functions; a random test continues with its next example."""

    def stop(*args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        if random:
            from hypothesis import reject

            reject()
        raise EnoughError

    return stop


def calling_file() -> str:
    """Return the file of the nearest caller that is not part of Keras, TensorFlow or this one."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "site-packages" not in name and name != __file__:
            return name
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def plain_config(value: Any) -> Any:
    """Return a configuration without names and identities."""
    if isinstance(value, dict):
        return {key: plain_config(v) for key, v in value.items() if key not in ("name", "shared_object_id", "seed")}
    return [plain_config(each) for each in value] if isinstance(value, list) else value


def free_sizes(model: Any) -> dict[str, list[int]]:
    """Return by input name the sizes for free ones: the smallest tried at which the model runs."""
    import numpy as np

    names = [getattr(tensor, "name", "").split(":")[0] for tensor in model.inputs]
    names = list(getattr(model, "input_names", names))
    if not any(None in tuple(tensor.shape[1:]) for tensor in model.inputs):
        return {}
    for size in FREE_SIZES:
        shapes = [[size if each is None else int(each) for each in tensor.shape[1:]] for tensor in model.inputs]
        try:
            model(
                [np.zeros((1, *shape), "float32") for shape in shapes] if len(shapes) > 1 else np.zeros((1, *shapes[0]))
            )
        except Exception:  # noqa: BLE001 - too small for its kernels
            continue
        return dict(zip(names, shapes, strict=True))
    return {}


def keras_of(version: int) -> Any:
    from stages.keras.tensorflow import import_keras
    from stages.load.keras3 import import_keras3

    return import_keras() if version == 2 else import_keras3()


def of_tests(version: int, folder: Path) -> list[dict[str, Any]]:
    """Return the networks of the tests."""
    import pytest

    harvest = Harvest(version, folder)
    home = ROOT / "tests" / "stages"
    places = [*home.glob("test_*.py"), *(file for folder in FOLDERS for file in (home / folder).rglob("test_*.py"))]
    files = [file for file in places if builds(file)]
    plain = ["-q", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    pytest.main([*plain, *map(str, files)], plugins=[harvest])
    return list(harvest.index.values())


def builds(file: Path) -> bool:
    text = file.read_text()
    return "keras" in text and any(word in text for word in ("Model(", "Sequential(", "tiny_"))


def of_loaders(name: str, version: int, folder: Path) -> list[dict[str, Any]]:
    """Save one network in every kind of file, its statistics measured."""
    import loaders

    keras = keras_of(version)
    keras.utils.set_random_seed(1)
    model = loaders.built(keras, name)
    loaders.shake(model)
    settle(model, keras, images(8, (loaders.SIZES[name], loaders.SIZES[name], 3), seed=5))
    found = []
    for number, kind in enumerate(loaders.kinds(name, version)):
        where = folder / str(number)
        where.mkdir()
        how = loaders.saved(model, name, version, kind, where)
        spec = how["source"] if isinstance(how["source"], dict) else {"path": str(how["source"])}
        spec |= {"weights": str(how["weights"])} if "weights" in how else {}
        found.append(
            {
                "id": f"loaders:{name}:{version}:{kind}",
                "keras": version,
                "model": spec,
                "shapes": {},
                "range": IMAGES,
            }
        )
    return found


def of_application(name: str, folder: Path) -> list[dict[str, Any]]:
    """Save one of tf_keras.applications, up to its softmax's input."""
    from applications import SIZES, shake
    from applications_export import NEAR, calm

    keras = keras_of(2)
    keras.utils.set_random_seed(1)
    model = next(applications(getattr(keras.applications, name), SIZES))
    shake(model)
    settle(model, keras, images(8, model.input_shape[1:], seed=5))
    # Signals grow from block to block in some networks: rounding would decide their outputs, and a comparison nothing.
    calm(model, [images(2, model.input_shape[1:], seed=6)], rounding=NEAR / 10, step=0.95)
    file = folder / "model.keras"
    model.save(file)
    entry = {"id": f"application:{name}", "keras": 2, "model": {"path": str(file)}, "shapes": {}, "range": IMAGES}
    return [entry]


def applications(build: Any, sizes: tuple[int, ...]) -> Iterator[Any]:
    """Yield the network at each size that it takes, without its closing activation."""
    refused: Exception | None = None
    for size in sizes:
        try:
            yield build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
        except ValueError as error:
            refused = error
    raise SystemExit(f"no size: {refused}")


def images(count: int, shape: Sequence[int], seed: int) -> Any:
    """Return random images, (count, *shape) float32, in the range of pixels."""
    import numpy as np

    return np.random.default_rng(seed).uniform(*IMAGES, (count, *shape)).astype(np.float32)


def settle(model: Any, keras: Any, batch: Any) -> None:
    """Set the statistics of batch normalizations to those of a batch, in one pass, layer after layer.

    A normalization changes the inputs of later ones: each is measured after those before it are set.
    """
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    before = [(norm.momentum, norm.trainable) for norm in norms]
    for norm in norms:
        norm.momentum, norm.trainable = 0.0, True  # one batch counts whole
    others = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in others]
    for layer in others:
        layer.rate = 0.0
    model(batch, training=True)
    for layer, rate in zip(others, rates, strict=True):
        layer.rate = rate
    for norm, (momentum, trainable) in zip(norms, before, strict=True):
        norm.momentum, norm.trainable = momentum, trainable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unit")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    kind, *rest = options.unit.split(":")
    match kind:
        case "tests":
            found = of_tests(int(rest[0]), options.folder)
        case "loaders":
            found = of_loaders(rest[0], int(rest[1]), options.folder)
        case "application":
            found = of_application(rest[0], options.folder)
        case _:
            raise SystemExit(f"no unit {options.unit}")
    (options.folder / "index.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
