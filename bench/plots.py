"""Distributions as SVG: every repetition is a dot, the median a bar; one row for each program.

The pictures have a white ground of their own and no fonts or scripts from elsewhere, so that they look the same everywhere.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _BOTTOM = 860, 250, 90, 30, 40, 36
_COLOURS = {"carpd": "#0b6e4f", "ucarp": "#b5541c", "keepalived": "#33588f"}
_LINEAR_TICKS = 5
_FACTOR_FOR_LOGARITHMS = 50.0
_SMALLEST_SHARE = 1e-4
_TINY = 1e-9


def strip(title: str, unit: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Draw the figures of several programs over one another.

    The axis is logarithmic where the largest figure is more than 50 times the smallest positive one; figures of zero and below
    then stand at its left end.
    """
    rows = {name: values for name, values in rows.items() if values}
    axis = _Axis([value for values in rows.values() for value in values])
    height = _TOP + _ROW * len(rows) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    bottom = _TOP + _ROW * len(rows)
    for tick in axis.ticks:
        x = axis.place(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{tick:g}</text>')
    parts.append(f'<text x="{_WIDTH - 8}" y="{bottom + 16}" text-anchor="end" fill="#555">{escape(unit)}</text>')
    for number, (name, values) in enumerate(rows.items()):
        parts += _row(axis, name, values, _TOP + _ROW * number + _ROW / 2)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(axis: "_Axis", name: str, values: Sequence[float], y: float) -> list[str]:
    colour = _COLOURS.get(name.split(maxsplit=1)[0], "#444")
    middle = statistics.median(values)
    dots = [
        f'<circle cx="{axis.place(value):.1f}" cy="{y + (index % 5 - 2) * 3:.1f}" r="3" fill="{colour}" fill-opacity="0.55"/>'
        for index, value in enumerate(values)
    ]
    x = axis.place(middle)
    return [
        f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>',
        *dots,
        f'<line x1="{x:.1f}" y1="{y - 10:.1f}" x2="{x:.1f}" y2="{y + 10:.1f}" stroke="{colour}" stroke-width="2.5"/>',
        f'<text x="{_WIDTH - _RIGHT + 12}" y="{y + 4:.1f}" fill="{colour}">{middle:.4g}</text>',
    ]


class _Axis:
    def __init__(self, values: Sequence[float]) -> None:
        most = max(values, default=1.0) or 1.0
        positive = [value for value in values if value >= max(_TINY, most * _SMALLEST_SHARE)]
        least = min(positive, default=most)
        self._logarithmic = most > 0 and most / least > _FACTOR_FOR_LOGARITHMS
        if self._logarithmic:
            low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
            self._low, self._high = float(low), float(max(high, low + 1))
            self.ticks = [10.0**power for power in range(low, int(self._high) + 1)]
        else:
            self._low, high_value = min(0.0, *values, 0.0), max(most, 0.0) or 1.0
            step = _round_step((high_value - self._low) / _LINEAR_TICKS)
            self._high = math.ceil(high_value / step) * step
            self._low = math.floor(self._low / step) * step
            count = round((self._high - self._low) / step)
            self.ticks = [round(self._low + step * index, 10) for index in range(count + 1)]

    def place(self, value: float) -> float:
        """Return where a value stands, in pixels from the left."""
        if self._logarithmic:
            value = math.log10(value) if value > 0 else self._low
        share = (value - self._low) / (self._high - self._low)
        return _LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT)


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
