"""Measure scoring: APoZ of every convolution of Xception on 256 images, in one pass and by kerassurgeon per layer.

Each side is a fresh process with the same model (299×299, random weights) and images; only scoring is timed.
kerassurgeon runs all data through the network once per layer, which takes an hour: it is timed on `--layers` layers
spaced evenly over the depth, with all images, and the total is extrapolated (printed as such). Values must be equal,
except for activations that are zero in one graph and within rounding of zero in the other (TensorFlow fuses layers
depending on the requested outputs): where values differ, those are checked one by one. Then the peak memory of one pass
over 64, 256 and 1024 images, in fresh processes.

    python benchmarks/scoring.py [--layers 6] [--images 256]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

from fresh import in_fresh_process

BOUND, MEMORY_BOUND, TOLERANCE = 20.0, 1.1, 1e-6
ROUNDING = 1e-6  # of a layer's largest activation: float32 can't distinguish it from zero after this many layers
SIZE = 299
BATCH = 32  # as in kerassurgeon: rounding in convolutions depends on the batch, and decides whether a value is zero
MEMORY_IMAGES = (64, 256, 1024)


def xception() -> tuple[Any, list[str]]:
    """Return the model with seeded weights, and its convolutions by name."""
    from stages.keras.tensorflow import import_keras
    from stages.prune.surgery.random_weights import randomize_weights

    keras = import_keras()
    model = randomize_weights(keras.applications.Xception(weights=None, input_shape=(SIZE, SIZE, 3)))
    kinds = (keras.layers.Conv2D, keras.layers.SeparableConv2D)
    return model, [layer.name for layer in model.layers if isinstance(layer, kinds)]


def images(count: int) -> Any:
    """Return `count` images (N, 299, 299, 3), float32; a view of few, so that the data itself takes no memory."""
    import numpy as np

    few = np.random.default_rng(0).standard_normal((8, SIZE, SIZE, 3), dtype=np.float32)
    return few[np.arange(count) % len(few)] if count <= len(few) else Repeated(few, count)


class Repeated:
    """Act as an array of `count` images that repeats `few`; slices are real arrays."""

    def __init__(self, few: Any, count: int) -> None:
        self._few, self.shape = few, (count, *few.shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> Any:
        import numpy as np

        return self._few[np.arange(*part.indices(len(self))) % len(self._few)]


def ours(count: int) -> dict[str, Any]:
    """Score all convolutions in one pass."""
    from stages.prune.ranking.criteria.activations import zero_shares
    from stages.samples.model_samples import samples_of

    model, names = xception()
    data = samples_of(model, images(count))
    began = time.perf_counter()
    shares = zero_shares(model, names, data, batch=BATCH)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "apoz": {name: shares[name].tolist() for name in names}}


def plain(count: int, layers: int) -> dict[str, Any]:
    """Run kerassurgeon's get_apoz on some layers, spaced over the depth, each over all images."""
    import numpy as np

    from stages.keras.tensorflow import import_keras

    import_keras()
    from kerassurgeon import utils
    from kerassurgeon.identify import get_apoz

    utils.single_element = lambda x: x[0] if isinstance(x, list | tuple) and len(x) == 1 else x
    model, names = xception()
    data = np.asarray(images(count)[0:count])
    chosen = [names[round(place)] for place in np.linspace(0, len(names) - 1, layers)]
    seconds, found = [], {}
    for name in chosen:
        began = time.perf_counter()
        found[name] = np.asarray(get_apoz(model, name, data), np.float64).tolist()
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "apoz": found, "all_layers": len(names)}


def flips(layers: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each layer, over the distinct images: activations that are zero in only one of the two graphs, the
    largest of them in the other graph, and the layer's largest activation.
    """
    import numpy as np

    from stages.keras.tensorflow import import_keras
    from stages.prune.ranking.criteria.activations import activations_after

    keras = import_keras()
    model, names = xception()
    data = np.asarray(images(BATCH)[0:BATCH])
    after = [activations_after(model, model.get_layer(name))[0][0] for name in names]
    in_one_pass = keras.Model(model.inputs, after).predict(data, batch_size=BATCH, verbose=0)
    together = dict(zip(names, in_one_pass, strict=True))
    found = []
    for name in layers:
        alone = keras.Model(model.inputs, after[names.index(name)]).predict(data, batch_size=BATCH, verbose=0)
        other = together[name]
        flipped = (alone == 0) != (other == 0)
        largest = float(np.maximum(np.abs(alone), np.abs(other))[flipped].max(initial=0.0))
        scale = float(np.abs(alone).max())
        found.append({"layer": name, "flipped": int(flipped.sum()), "largest": largest, "scale": scale})
    return found


def equal_but_for_rounding(theirs: dict[str, Any], first: dict[str, Any]) -> bool:
    """Return whether all values are equal, or differ by activations that rounding decides; prints which."""
    differences = {
        name: max(abs(a - b) for a, b in zip(values, first["apoz"][name], strict=True))
        for name, values in theirs["apoz"].items()
    }
    apart = [name for name, difference in differences.items() if difference > TOLERANCE]
    print(f"  largest difference {max(differences.values()):.1e}, bound {TOLERANCE:.0e}")
    if not apart:
        return True
    found = in_fresh_process(__file__, "--one", "flips", "--names", *apart)
    for one in found:
        print(
            f"    {one['layer']}: {one['flipped']} of {BATCH} images' activations are zero in one graph alone, at most "
            f"{one['largest']:.1e} in the other, where the layer's largest is {one['scale']:.1e}"
        )
    return all(one["flipped"] and one["largest"] <= ROUNDING * one["scale"] for one in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6, help="layers that kerassurgeon is timed on")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--one", choices=("ours", "plain", "flips"), help="one side, as JSON")
    parser.add_argument("--names", nargs="*", default=(), help="the layers whose activations are compared")
    options = parser.parse_args()
    if options.one:
        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda: ours(options.images),
            "plain": lambda: plain(options.images, options.layers),
            "flips": lambda: flips(options.names),
        }
        print(json.dumps(sides[options.one]()))
        return 0
    count = str(options.images)
    first = in_fresh_process(__file__, "--one", "ours", "--images", count)
    theirs = in_fresh_process(__file__, "--one", "plain", "--images", count, "--layers", str(options.layers))
    again = in_fresh_process(__file__, "--one", "ours", "--images", count)
    own = (first["seconds"] + again["seconds"]) / 2
    whole = sum(theirs["seconds"]) / len(theirs["seconds"]) * theirs["all_layers"]
    each = ", ".join(f"{seconds:.1f}" for seconds in theirs["seconds"])
    fast = whole / own >= BOUND
    print(f"APoZ of {theirs['all_layers']} convolutions of Xception on {count} images of {SIZE}×{SIZE}")
    print(f"  ours, all in one pass      {own:8.1f} s  ({first['seconds']:.1f}, {again['seconds']:.1f})")
    print(f"  kerassurgeon, each of {len(theirs['seconds'])}  {each} s; for all {whole:.0f} s by their mean")
    print(f"  {whole / own:.1f} times faster, bound {BOUND:.0f} {'ok' if fast else 'MISSED'}")
    equal = equal_but_for_rounding(theirs, first)
    print(f"  {'ok' if equal else 'MISSED'}: equal values, or what differs is within rounding of zero")
    peaks = [in_fresh_process(__file__, "--one", "ours", "--images", str(n))["peak_mb"] for n in MEMORY_IMAGES]
    flat = max(peaks) / min(peaks) <= MEMORY_BOUND
    told = ", ".join(f"{peak:.0f} MB for {n}" for n, peak in zip(MEMORY_IMAGES, peaks, strict=True))
    print(f"  peak memory {told} images, bound {MEMORY_BOUND}× {'ok' if flat else 'MISSED'}")
    return 0 if fast and equal and flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
