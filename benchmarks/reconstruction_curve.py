"""Draw accuracy over the MACs that are left: right after the cut, re-fitted, and trained, for each way to choose.

`l2`, `taylor`, `hessian` and `obs`, the last three with scope `loss`, beside channels at `random` (as many of each
group as `obs` leaves) and `narrow`, the uniformly narrower network, trained from random weights for as many steps.
Networks, data and training are those of reconstruction.py; accuracies are over the whole test set, of one seed. Results
are kept as they come: a killed run resumes.

    python benchmarks/reconstruction_curve.py --picture FILE.svg [--network demo|resnet8] [--data DIR] [--shares 0.9 …]

ResNet-8 needs `--data`: for the contents of DIR, see public_models.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconstruction import NETWORKS, THREADS, Goal, Row, right_on, rows
from resumable import DEFAULT_WORK, Results

WAYS = ("obs", "hessian", "taylor", "l2", "random", "narrow")
COLORS = ("#c2410c", "#7c3aed", "#0369a1", "#15803d", "#737373", "#171717")
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
STATES = {"right after the cut": "after_cut", "re-fitted, not trained": "fitted", "trained": "trained"}
PANEL, GAP, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 300, 40, 320, 44, 34, 44, 24  # pixels

Curves = Mapping[str, Sequence[Row]]  # by the way to choose: a row for each share


def picture(curves: Curves, source: float) -> str:
    """Return an SVG with a panel for each state: accuracy over the share of MACs; the dashed line is the source."""
    width = LEFT + len(STATES) * (PANEL + GAP)
    size, font = f'viewBox="0 0 {width} {HEIGHT + LEGEND}" width="{width}"', 'font-family="sans-serif" font-size="12"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{width}" height="{HEIGHT + LEGEND}" fill="#fff"/>',
    ]
    for place, (title, state) in enumerate(STATES.items()):
        lines += _panel(curves, title, state, LEFT + place * (PANEL + GAP), source, labeled=not place)
    for place, (way, color) in enumerate(zip(curves, COLORS, strict=True)):
        x = LEFT + place * 110
        lines.append(f'<path d="M{x} {HEIGHT + 8}h22" stroke="{color}" stroke-width="2.5"/>')
        lines.append(f'<text x="{x + 28}" y="{HEIGHT + 12}">{way}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _panel(curves: Curves, title: str, state: str, left: int, source: float, *, labeled: bool) -> list[str]:
    def x(share: float) -> float:
        return left + (1 - share) * PANEL

    def y(accuracy: float) -> float:
        return TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM)

    lines = [f'<text x="{left}" y="{TOP - 14}" font-weight="600">{title}</text>']
    for tick in range(0, 11, 2):
        lines.append(f'<path d="M{left} {y(tick / 10):.1f}h{PANEL}" stroke="#e5e5e5"/>')
        if labeled:
            lines.append(f'<text x="{left - 6}" y="{y(tick / 10) + 4:.1f}" text-anchor="end">{tick * 10} %</text>')
        lines.append(f'<text x="{x(tick / 10):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{tick * 10}</text>')
    lines.append(f'<text x="{left + PANEL / 2}" y="{HEIGHT - 6}" text-anchor="middle">% of the MACs left</text>')
    lines.append(f'<path d="M{left} {y(source):.1f}h{PANEL}" stroke="#171717" stroke-dasharray="4 4"/>')
    for (way, found), color in zip(curves.items(), COLORS, strict=True):
        if way == "narrow" and state != "trained":
            continue  # it begins with random weights
        points = "L".join(f"{x(row.macs):.1f} {y(getattr(row, state)):.1f}" for row in found)
        lines.append(f'<path d="M{points}" fill="none" stroke="{color}" stroke-width="2"><title>{way}</title></path>')
    return lines


def accuracy_of_source(name: str, data: Path | None) -> float:
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(0, THREADS):
        source, splits = NETWORKS[name].load(data)
        return float(right_on(source, splits["test"]).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), default="demo")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    results = Results(options.work, Path(__file__), Path(__file__).with_name("reconstruction.py"))
    of_source = accuracy_of_source(options.network, options.data)
    print(f"{'MACs':>6}  {'way':9}{'cut':>8}{'fitted':>8}{'trained':>9}{'CPU s':>7}   the source: {of_source:.2%}")
    curves: dict[str, list[Row]] = {way: [] for way in WAYS}
    goals = [Goal("macs", share, 0.0, 0.0) for share in options.shares]
    for _, way, (row,) in rows(options.network, goals, WAYS, [options.seed], options.data, results):
        curves[way].append(row)
        figures = f"{row.after_cut:>8.2%}{row.fitted:>8.2%}{row.trained:>9.2%}{row.cpu_s:>7.0f}"
        print(f"{row.macs:>6.3f}  {way:9}{figures}", flush=True)
    options.picture.write_text(picture(curves, of_source))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
