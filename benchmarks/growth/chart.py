"""A chart of a curve as SVG: both axes logarithmic, so that what is linear is a straight line of 45 degrees."""

from __future__ import annotations

import math
from html import escape

from benchmarks.growth.place import Figures

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 40, 50
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989")


def svg(figures: Figures) -> str:
    """The CPU of a curve, which bears a busy machine; with a dashed line that is linear."""
    sizes = sorted({size for costs in figures.costs.values() for size in costs})
    costs_ms = [cost.cpu_ms for costs in figures.costs.values() for cost in costs.values()]
    low, high = math.floor(math.log10(min(costs_ms))), math.ceil(math.log10(max(costs_ms)))
    first, last = math.log10(sizes[0]), math.log10(max(sizes[-1], sizes[0] * 10))

    def x(size: float) -> float:
        return LEFT + (math.log10(size) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(time: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(time) - low) / max(1, high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(figures.title)}: CPU, ms</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for size in sizes:
        parts.append(
            f'<line x1="{x(size):.1f}" x2="{x(size):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eaeef2"/>'
        )
        parts.append(
            f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{size:,}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{figures.unit}</text>'
    )
    slope = min(last - first, float(high - low))
    parts.append(
        f'<line x1="{x(sizes[0]):.1f}" y1="{y(10.0**low):.1f}" x2="{x(10 ** (first + slope)):.1f}" '
        f'y2="{y(10.0 ** (low + slope)):.1f}" stroke="#8c959f" stroke-dasharray="4 4"/>'
    )
    for number, (name, costs) in enumerate(figures.costs.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(size):.1f},{y(cost.cpu_ms):.1f}" for size, cost in sorted(costs.items()))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points.split():
            cx, cy = point.split(",")
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="3" fill="{colour}"/>')
        label = TOP + 12 + 20 * number
        parts.append(
            f'<rect x="{WIDTH - RIGHT + 16}" y="{label - 9}" width="10" height="10" fill="{colour}"/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 32}" y="{label}">{escape(name)}</text>')
    label = TOP + 12 + 20 * len(figures.costs)
    parts.append(f'<text x="{WIDTH - RIGHT + 32}" y="{label}" fill="#8c959f">dashed: linear</text>')
    return "\n".join([*parts, "</svg>\n"])
