"""Charts as coordinates; the templates draw them as SVG, and no script is needed."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import NamedTuple


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class Chart(NamedTuple):
    """`line` and `area` are points of a polyline and a polygon; `top` is what the upper edge stands for."""

    width: float
    height: float
    line: str
    area: str
    bars: Sequence[Bar]
    top: float


def nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, …: an axis that reads well."""
    if value <= 1:
        return 1.0
    size: float = 10.0 ** (ceil(log10(value)) - 1)
    return next(step * size for step in (1, 2, 5, 10) if value <= step * size)


def chart(
    values: Sequence[float],
    marks: Sequence[float],
    *,
    slots: int,
    width: float = 720.0,
    height: float = 150.0,
) -> Chart:
    """Draw `values` as a line and `marks` as bars below it, the latest at the right edge of `slots` of them."""
    top = nice(max((*values, *marks), default=0.0))
    step = width / max(slots - 1, 1)
    first = width - step * (len(values) - 1)
    points = [(first + step * at, height * (1 - value / top)) for at, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{points[0][0]:.1f},{height} {line} {width},{height}" if len(points) > 1 else ""
    bars = [
        Bar(round(first + step * at - step, 1), round(height * (1 - mark / top), 1), round(step, 1),
            round(height * mark / top, 1))
        for at, mark in enumerate(marks)
        if mark > 0
    ]  # fmt: skip
    return Chart(width, height, line, area, bars, top)
