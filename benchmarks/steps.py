"""Find the steps in cost over channels on three Cortex cores, and what rounding to them is worth.

First the executed instructions of a convolution, a depthwise-separable block and a dense layer by width, 8 to 64
channels, int8 and float32, with the numbers that `round_to: auto` considers steps, and a picture. Then the demo's
network, pruned to half of its MACs with `round_to: 1`, `8` and `auto`: instructions on each core and latency on this
machine, as shares of the source's. Exit status 1 if `auto` needs more than either of the others for its MACs: more
instructions at all, or a latency whose interval lies above theirs. Results are kept as they come.

    secateur target setup cortex-a53; secateur target setup cortex-a72; secateur target setup cortex-a76
    python benchmarks/steps.py --picture DIR [--work DIR] [--only layers|demo]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from fresh import ROOT
from resumable import DEFAULT_WORK, Results

CORES, SCHEMES = ("cortex-a53", "cortex-a72", "cortex-a76"), ("int8", "float32")
WIDTHS = range(8, 65)
LAYERS = ("convolution 3×3, 32→n, 14×14", "separable 3×3, n→n, 14×14", "dense 256→n")
ROUNDINGS = ("1", "8", "auto")
RECIPE = """\
name: steps
seed: 7
model: {assets}/mini_xception.keras
data:
  source: npz
  path: {assets}/fashion_mnist.npz
  preprocess: {{scale: 0.00784313725490196, offset: -1.0}}
  calibration: {{from: train, take: 32}}
stages:
  - load
  - prune: {{criterion: bn_scale, scope: global, macs: 0.5, round_to: {rounding}{measure_on}}}
  - quantize: {{schemes: [int8]}}
  - export: {{formats: [tflite]}}
  - benchmark: {{targets: [{target}], rounds: 20}}
"""
WIDE, HIGH, LEFT, TOP = 300, 200, 60, 40  # of one drawing in the picture
COLORS = {"int8": "#1b6ca8", "float32": "#c2571a"}


def layer_probes(width: int) -> dict[str, list[Any]]:
    """Return the operators of each layer at a width."""
    from stages.formats.probe import Probe

    place: dict[str, Any] = {"height": 14, "width": 14}
    return {
        LAYERS[0]: [Probe(kind="conv", inputs=32, outputs=width, kernel=(3, 3), **place)],
        LAYERS[1]: [
            Probe(kind="depthwise", inputs=width, outputs=width, kernel=(3, 3), **place),
            Probe(kind="conv", inputs=width, outputs=width, **place),
        ],
        LAYERS[2]: [Probe(kind="dense", inputs=256, outputs=width)],
    }


def curves(core: str, scheme: str) -> dict[str, list[float]]:
    """Return instructions of each layer at each width, counted in one emulated process."""
    from stages.devices.target import probe
    from stages.formats.probe_models import probe_archive

    asked = [layer_probes(width) for width in WIDTHS]
    probes = [one for layers in asked for operators in layers.values() for one in operators]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "probes.zip"
        archive.write_bytes(probe_archive(probes, "tflite", scheme))  # type: ignore[arg-type]  # names of schemes
        costs = iter(probe(core, archive, "layers").costs)
    found: dict[str, list[float]] = {name: [] for name in LAYERS}
    for layers in asked:
        for name, operators in layers.items():
            found[name].append(sum(next(costs) for _ in operators))
    return found


def steps(costs: list[float]) -> list[int]:
    """Return the widths that pruning would consider steps."""
    import numpy as np

    from stages.prune.measured.probing import steps_of

    return [int(count) for count in steps_of(np.array(WIDTHS), np.array(costs), 0.0)]


def show_layers(results: Results, picture: Path) -> None:
    """Count, print and draw."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for core in CORES:
        for scheme in SCHEMES:
            case = {"core": core, "scheme": scheme}
            known = results.get(case)
            if known is None:
                known = curves(core, scheme)
                results.add(case, known)
            found[core, scheme] = known
    for name in LAYERS:
        print(f"\n{name}: thousand instructions at 16, 17, 24, 25, 32 and 64 channels, and the steps")
        for (core, scheme), layers in found.items():
            costs = layers[name]
            at = "".join(f"{costs[width - WIDTHS[0]] / 1e3:>9.1f}" for width in (16, 17, 24, 25, 32, 64))
            where = steps(costs)
            shown = "all" if len(where) == len(WIDTHS) else " ".join(map(str, where))
            print(f"  {core:<12}{scheme:<9}{at}   {shown}")
    picture.mkdir(parents=True, exist_ok=True)
    path = picture / "steps.svg"
    path.write_text(drawn(found), encoding="utf-8")
    print(f"\nwrote {path}", flush=True)


def drawn(found: dict[tuple[str, str], dict[str, list[float]]]) -> str:
    """Return an SVG: a row per layer, a column per core, a line per scheme; dots are the steps."""
    parts = []
    for row, name in enumerate(LAYERS):
        top = max(max(layers[name]) for layers in found.values())
        for column, core in enumerate(CORES):
            x, y = column * (WIDE + LEFT), row * (HIGH + TOP)
            parts.append(f'<g transform="translate({x + LEFT},{y + TOP})">{_axes(name, core, top)}')
            for scheme in SCHEMES:
                costs = found[core, scheme][name]
                points = [(_across(width), _up(cost, top)) for width, cost in zip(WIDTHS, costs, strict=True)]
                line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
                parts.append(f'<polyline points="{line}" fill="none" stroke="{COLORS[scheme]}"/>')
                for width in steps(costs):
                    a, b = points[width - WIDTHS[0]]
                    parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2" fill="{COLORS[scheme]}"/>')
            parts.append("</g>")
    size = f'width="{len(CORES) * (WIDE + LEFT) + 20}" height="{len(LAYERS) * (HIGH + TOP) + 40}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return f'{head}<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def _axes(name: str, core: str, top: float) -> str:
    ticks = [f'<text x="{_across(w):.0f}" y="{HIGH + 14}" text-anchor="middle">{w}</text>' for w in range(8, 65, 8)]
    lines = [f'<path d="M{_across(w):.1f},0V{HIGH}" stroke="#ddd"/>' for w in range(8, 65, 8)]
    right = 'text-anchor="end"'
    scale = f'<text x="-6" y="10" {right}>{top / 1e3:.0f} k</text><text x="-6" y="{HIGH}" {right}>0</text>'
    title = f'<text x="0" y="-8">{core}: {name}</text>'
    legend = "".join(
        f'<text x="10" y="{20 + 14 * place}" fill="{COLORS[scheme]}">{scheme}</text>'
        for place, scheme in enumerate(SCHEMES)
    )
    frame = f'<rect width="{WIDE}" height="{HIGH}" fill="none" stroke="#888"/>'
    return "".join([*lines, *ticks, scale, title, legend, frame])


def _across(width: int) -> float:
    return (width - WIDTHS[0]) / (WIDTHS[-1] - WIDTHS[0]) * WIDE


def _up(cost: float, top: float) -> float:
    return HIGH * (1 - cost / top)


def pruned(rounding: str, target: str, work: Path) -> dict[str, Any]:
    """Prune the demo's network to half of its MACs on a target: return the share of MACs, and its main
    number's ratio.
    """
    from pipeline import Recipe, run
    from pipeline.records.facts import KerasFacts, LatencyFacts

    measure_on = f", measure_on: {{target: {target}}}" if rounding == "auto" else ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "steps.yaml"
        text = RECIPE.format(assets=ROOT / "configs/assets", rounding=rounding, measure_on=measure_on, target=target)
        file.write_text(text, encoding="utf-8")
        manifest = run(Recipe.load(file), work / "store")
    # benchmark's ratio is relative to the source in float32: here candidates are compared with each other.
    made = {entry.stage: entry for entry in manifest.stages}
    source, after = (made[stage].outputs[0].facts for stage in ("load", "prune"))
    assert isinstance(source, KerasFacts)
    assert isinstance(after, KerasFacts)
    found = {"macs": after.macs, "macs_share": after.macs / source.macs, **made["benchmark"].metrics}
    facts = made["benchmark"].outputs[0].facts
    if isinstance(facts, LatencyFacts):
        found |= {"low": facts.ratio_low, "high": facts.ratio_high}
    return found


def show_demo(results: Results, work: Path) -> int:
    """Prune, measure, print; return how often `auto` is worse."""
    worse = 0
    for target in (*CORES, "cpu"):
        found = {}
        for rounding in ROUNDINGS:
            case = {"demo": rounding, "target": target}
            known = results.get(case)
            if known is None:
                known = pruned(rounding, target, work)
                results.add(case, known)
            found[rounding] = known
        worse += judged(target, found)
    return worse


def judged(target: str, found: dict[str, dict[str, float]]) -> int:
    """Print a line for each rounding; return 1 if `auto` is worse than another."""
    counts = "instructions" in found["auto"]
    print(f"\n{target}: the demo at half of its MACs, int8" + ("" if counts else ", against the source in float32"))
    for rounding, one in found.items():
        if counts:
            shown = f"{one['instructions'] / 1e6:.3f} M instructions, {per_mac(one):.3f} a MAC left"
        else:
            shown = f"latency ×{one['latency_ratio']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        print(f"  round_to: {rounding:<5} MACs ×{one['macs_share']:.3f}   {shown}")
    auto, others = found["auto"], [found[rounding] for rounding in ROUNDINGS if rounding != "auto"]
    if counts:
        bad = any(per_mac(auto) > per_mac(other) for other in others)
    else:
        bad = any(auto["low"] / auto["macs"] > other["high"] / other["macs"] for other in others)
    print("  auto is worse" if bad else "  auto is no worse than the others", flush=True)
    return int(bad)


def per_mac(one: dict[str, float]) -> float:
    """Return instructions per multiply-accumulate: the shares reached differ a little."""
    return one["instructions"] / one["macs"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, required=True, help="the folder for steps.svg")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", choices=("layers", "demo"))
    options = parser.parse_args()
    results, worse = Results(options.work, Path(__file__)), 0
    if options.only != "demo":
        show_layers(results, options.picture)
    if options.only != "layers":
        worse = show_demo(results, options.work)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
