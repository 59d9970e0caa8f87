"""Draws the newest results as bars, for the page on benchmarks.

    python -m bench.chart    # writes docs/explanation/benchmarks.svg

Colours are those of the page, light or dark; what a bar is of is also told by its label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from bench.results import Result, newest
from mesh_core.settings import ROOT

PAGE = ROOT / "docs" / "explanation" / "benchmarks.svg"
WIDTH, LABELS, VALUES, ROW, BAR = 860, 400, 110, 20, 13
TITLES = {
    "w1": "W1: latest state of 20,000 contacts",
    "w2": "W2: three services joined",
    "w3": "W3: from acknowledged to visible at 500 events/s, shorter is better",
    "w4": "W4: W2 as it grows",
    "reads": "Reads on 32 connections",
}
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.spread { stroke: #24292f; stroke-width: 1 }
.ours { fill: #0969da } .floor { fill: #8c959f } .peer { fill: #bf8700 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .spread { stroke: #e6edf3 }
  .ours { fill: #4493f8 } .floor { fill: #7d8590 } .peer { fill: #d29922 }
}
"""


def draw(results: Sequence[Result]) -> str:
    """An SVG: a block for each workload and unit, longest bar the largest median, a line for the spread."""
    body: list[str] = []
    y = 24
    for place, kind in enumerate(("ours", "floor", "peer")):
        x = LABELS + place * 90
        body.append(f'<rect class="{kind}" x="{x}" y="{y - 10}" width="{BAR}" height="{BAR}" rx="2"/>')
        body.append(f'<text x="{x + 18}" y="{y}">{kind}</text>')
    for (workload, unit), group in groupby(_ordered(results), lambda result: (result.workload, result.unit)):
        block = list(group)
        y += 34
        title = f"{TITLES.get(workload, workload)}, {unit}"
        body.append(f'<text class="title" x="8" y="{y}">{escape(title)}</text>')
        longest = max(max(result.runs) for result in block)
        for result in block:
            y += ROW
            body += _bar(result, y, (WIDTH - LABELS - VALUES) / (longest or 1))
    height = y + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="Benchmarks: ours, floors and peers">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _ordered(results: Sequence[Result]) -> list[Result]:
    """Blocks together, in them what compares with each other."""
    return sorted(results, key=lambda r: (r.workload, r.unit, r.aspect.rstrip("0123456789"), _size(r)))


def _size(result: Result) -> tuple[int, bool, str]:
    digits = "".join(filter(str.isdigit, result.aspect))
    return int(digits or 0), result.bulk, result.driver


def _bar(result: Result, y: int, scale: float) -> Iterator[str]:
    low, high, end = (LABELS + value * scale for value in (min(result.runs), max(result.runs), result.value))
    middle = y - BAR / 2 + 2
    yield f'<text x="{LABELS - 8}" y="{y}" text-anchor="end">{escape(result.name)}</text>'
    yield (
        f'<rect class="{result.kind}" x="{LABELS}" y="{y - 11}" width="{end - LABELS:.1f}" height="{BAR}" rx="2">'
        f"<title>{escape(f'{result.kind}, {result.name}: {result.said} {result.unit}')}</title></rect>"
    )
    yield f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
    yield f'<text x="{max(high, end) + 6:.1f}" y="{y}">{result.said}</text>'


def write() -> Path:
    """Draws what is newest of every workload."""
    PAGE.write_text(draw([result for result in newest() if result.workload in TITLES]))
    return PAGE


if __name__ == "__main__":
    print(write())
