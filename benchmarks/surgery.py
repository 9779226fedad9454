"""Time surgery compared with plain kerassurgeon, and its growth with the network.

First the 32 inner convolutions of ResNet-50 (1×1 and 3×3 of each block) at 224×224, half of each one's channels: by
kerassurgeon, with only its two length checks fixed so that it runs at all, and by ours, from the model to the pruned
model, without and with the proof of masked equivalence. Each side is a fresh process that builds the same model, and
only the surgery is timed; they take turns (A B B A). Both results must compute the same.

Then half of all channels of ResNet-50/101/152 and EfficientNet-B0…B7, the networks of a family in turns in one process,
and the exponent of time over the number of layers (least squares on logarithms). Exit status 1 where the ratio is
above 0.5 or an exponent above 1.

    python benchmarks/surgery.py [--pairs 3]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import time
from typing import Any

from fresh import in_fresh_process

BOUND, EXPONENT_BOUND, TOLERANCE = 0.5, 1.0, 1e-4
FAMILIES = {
    "ResNet": ("ResNet50", "ResNet101", "ResNet152"),
    "EfficientNet": tuple(f"EfficientNetB{index}" for index in range(8)),
}
ROUNDS, REPEATS = 3, 8  # fresh processes of each family, and times of each network in one: the minimum counts


def resnet50() -> tuple[Any, dict[str, list[int]]]:
    """Return the model with seeded weights, and the channels to remove from each inner convolution."""
    import numpy as np

    from stages.keras.tensorflow import import_keras
    from stages.prune.surgery.random_weights import randomize_weights

    model = randomize_weights(import_keras().applications.ResNet50(weights=None))
    names = [layer.name for layer in model.layers if layer.name.endswith(("_1_conv", "_2_conv"))]
    rng = np.random.default_rng(0)
    sizes = {name: model.get_layer(name).filters for name in names}
    return model, {name: sorted(rng.choice(n, n // 2, replace=False).tolist()) for name, n in sizes.items()}


def plain() -> dict[str, Any]:
    """Run kerassurgeon, with its two length checks adapted to symbolic tensors."""
    from stages.keras.tensorflow import import_keras

    import_keras()
    from kerassurgeon import Surgeon, utils

    utils.single_element = lambda x: x[0] if isinstance(x, list | tuple) and len(x) == 1 else x
    utils.get_one_tensor = lambda x: x[0] if isinstance(x, list | tuple) else x
    model, channels = resnet50()
    began = time.perf_counter()
    surgeon = Surgeon(model, copy=False)
    for name, gone in channels.items():
        surgeon.add_job("delete_channels", model.get_layer(name), channels=gone)
    pruned = surgeon.operate()
    return {"seconds": time.perf_counter() - began, **described(pruned, len(channels))}


def ours() -> dict[str, Any]:
    """Run channel groups and surgery, then the proof."""
    import numpy as np

    from stages.keras.channels.groups import channel_groups
    from stages.prune.surgery.equivalence import check_equivalence, masked_equivalence
    from stages.prune.surgery.surgeon import remove_channels

    model, channels = resnet50()
    began = time.perf_counter()
    graph = channel_groups(model)
    keep = np.ones(graph.count, dtype=bool)
    for group in graph.prunable:
        if group.name in channels:
            keep[group.channels[channels[group.name]]] = False
    pruned = remove_channels(model, graph, keep)
    seconds = time.perf_counter() - began
    found = masked_equivalence(model, pruned, graph, keep)
    check_equivalence(found, int((~keep).sum()))
    return {"seconds": seconds, "proved": time.perf_counter() - began, **described(pruned, len(channels))}


def described(model: Any, jobs: int) -> dict[str, Any]:
    """Describe what both sides must agree in: the number of jobs, of parameters, and the outputs."""
    from stages.keras.normal_form import random_inputs

    outputs = model(random_inputs(model, 2)[0], training=False).numpy()
    return {"jobs": jobs, "params": model.count_params(), "outputs": outputs.ravel().tolist()}


def scaling(family: str) -> dict[str, Any]:
    """Return for each network of a family its layers, and the minimum seconds that halving it took.

    They take turns in one process: an immediately repeated small network would be found in the caches, and two
    processes differ by up to 8 % in all that they do.
    """
    import numpy as np

    from stages.keras.channels.groups import channel_groups
    from stages.keras.tensorflow import import_keras
    from stages.prune.surgery.surgeon import remove_channels

    models = {name: getattr(import_keras().applications, name)(weights=None) for name in FAMILIES[family]}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(REPEATS):
        for name in list(models)[:: 1 if repeat % 2 == 0 else -1]:
            gc.collect()  # garbage of the previous one
            began = time.perf_counter()
            graph = channel_groups(models[name])
            keep = np.ones(graph.count, dtype=bool)
            for group in graph.prunable:
                keep[group.channels[::2][: group.channels.size - 1]] = False
            remove_channels(models[name], graph, keep)
            seconds[name].append(time.perf_counter() - began)
    return {name: {"layers": len(model.layers), "seconds": min(seconds[name])} for name, model in models.items()}


def compare(pairs: int) -> bool:
    """Time both surgeons, in turns; return whether ours is within the bound."""
    found: dict[str, list[dict[str, Any]]] = {"--plain": [], "--ours": []}
    for pair in range(pairs):
        for side in ("--plain", "--ours") if pair % 2 == 0 else ("--ours", "--plain"):
            found[side].append(in_fresh_process(__file__, side))
    for one, other in zip(found["--plain"], found["--ours"], strict=True):
        largest = max(map(abs, one["outputs"]))
        difference = max(abs(a - b) for a, b in zip(one["outputs"], other["outputs"], strict=True)) / largest
        if one["params"] != other["params"] or not difference <= TOLERANCE:
            raise SystemExit(f"the results differ: {one['params']} and {other['params']} params, by {difference:.1e}")
    base = [entry["seconds"] for entry in found["--plain"]]
    print(f"ResNet-50, {found['--ours'][0]['jobs']} inner convolutions, {pairs} pairs of fresh processes")
    print(f"  kerassurgeon, mended          {statistics.median(base):6.2f} s")
    ratios = {}
    for key, label in (("seconds", "ours, groups and surgery"), ("proved", "ours, with the proof")):
        own = [entry[key] for entry in found["--ours"]]
        each = [a / b for a, b in zip(own, base, strict=True)]
        ratios[key] = statistics.median(each)
        told = ", ".join(f"{ratio:.3f}" for ratio in each)
        print(f"  {label:<28}  {statistics.median(own):6.2f} s   ratio {ratios[key]:.3f} ({told})")
    print(f"  bound {BOUND} {'ok' if ratios['seconds'] <= BOUND else 'MISSED'}; outputs and parameters are equal")
    return bool(ratios["seconds"] <= BOUND)


def grow() -> bool:
    """Print time over layers in each family; return whether no exponent is above the bound."""
    well = True
    for family in FAMILIES:
        rounds = [in_fresh_process(__file__, "--scaling", family) for _ in range(ROUNDS)]
        layers = {name: found["layers"] for name, found in rounds[0].items()}
        times = [{name: found["seconds"] for name, found in one.items()} for one in rounds]
        least = {name: min(one[name] for one in times) for name in layers}
        for name, seconds in least.items():
            each = seconds / layers[name] * 1e3
            print(f"  {name:<16} {layers[name]:>4} layers  {seconds:6.2f} s  {each:5.2f} ms a layer")
        exponent = growth(layers, least)
        well = well and exponent <= EXPONENT_BOUND
        verdict = "ok" if exponent <= EXPONENT_BOUND else "MISSED"
        told = ", ".join(f"{growth(layers, one):.3f}" for one in times)
        print(
            f"{family}: time grows with layers to the power {exponent:.3f} ({told}), bound {EXPONENT_BOUND} {verdict}"
        )
    return well


def growth(layers: dict[str, int], seconds: dict[str, float]) -> float:
    """Return the exponent of time over layers: the least-squares slope on logarithms."""
    points = [(math.log(layers[name]), math.log(seconds[name])) for name in layers]
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="one run of kerassurgeon, as JSON")
    parser.add_argument("--ours", action="store_true", help="one run of ours, as JSON")
    parser.add_argument("--scaling", choices=FAMILIES, help="the networks of a family, as JSON")
    options = parser.parse_args()
    if options.plain or options.ours or options.scaling:
        print(json.dumps(plain() if options.plain else ours() if options.ours else scaling(options.scaling)))
        return 0
    fast = compare(options.pairs)
    return 0 if grow() and fast else 1


if __name__ == "__main__":
    raise SystemExit(main())
