"""Draw what ``scripts/bench --only scaling`` found: ``python bench/scaling_plot.py RESULTS SVG``.

Two panels, partitions and users; dots are medians, bars the least and the most.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT, _GAP = 340, 220, 60
_LEFT, _TOP, _BOTTOM = 50, 40, 46
_INK, _LINE, _GRID = "#333", "#1f6feb", "#ddd"


def draw(points: dict[str, dict[str, Any]]) -> str:
    """Return the picture; the same scale of CPU time for both panels."""
    most = max(one["most"] for kind in ("partitions", "users") for one in points[kind].values())
    top = math.ceil(most / 5) * 5
    panels = [
        _panel(points[kind], kind, _LEFT + number * (_WIDTH + _GAP), top)
        for number, kind in enumerate(("partitions", "users"))
    ]
    width = _LEFT + 2 * (_WIDTH + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_TOP + _HEIGHT + _BOTTOM}"'
        f' font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{_LEFT}" y="18">CPU microseconds per event, whole worker, corrected</text>\n'
        f"{''.join(panels)}</svg>\n"
    )


def _panel(points: dict[str, Any], title: str, left: float, top: int) -> str:
    counts = [int(count) for count in points]
    low, high = math.log10(counts[0]), math.log10(counts[-1])

    def x(count: int) -> float:
        return left + 15 + (math.log10(count) - low) / (high - low) * (_WIDTH - 30)

    def y(us: float) -> float:
        return _TOP + _HEIGHT * (1 - us / top)

    lines = [
        f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y(us):.1f}" y2="{y(us):.1f}"'
        f' stroke="{_GRID}"/><text x="{left - 6}" y="{y(us) + 4:.1f}" text-anchor="end">{us}</text>'
        for us in range(0, top + 1, 5)
    ]
    path = " ".join(f"{x(n):.1f},{y(points[str(n)]['cpu_us']):.1f}" for n in counts)
    lines.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
    for n in counts:
        one = points[str(n)]
        lines.append(
            f'<line x1="{x(n):.1f}" x2="{x(n):.1f}" y1="{y(one["least"]):.1f}"'
            f' y2="{y(one["most"]):.1f}" stroke="{_LINE}"/>'
            f'<circle cx="{x(n):.1f}" cy="{y(one["cpu_us"]):.1f}" r="4" fill="{_LINE}"/>'
            f'<text x="{x(n):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{n:,}</text>'
        )
    middle = left + _WIDTH / 2
    lines.append(
        f'<text x="{middle}" y="{_TOP + _HEIGHT + 38}" text-anchor="middle">{title}</text>'
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draw."""
    results, picture = map(Path, sys.argv[1:])
    picture.write_text(draw(json.loads(results.read_text())["scaling"]["points"]))


if __name__ == "__main__":
    main()
