"""A horizontal chart of stacked bars as SVG text; no dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_WIDTH, _LEFT, _RIGHT = 720, 150, 70
_BAR, _GAP, _TOP, _BOTTOM = 26, 14, 56, 44
_COLOURS = ("#4269d0", "#efb118", "#6cc5b0", "#ff725c")
_FONT = 'font-family="sans-serif" font-size="13"'


def stacked_bars(
    bars: Mapping[str, Mapping[str, float]],
    title: str,
    unit: str,
    marks: Mapping[str, float] | None = None,
    mark: str = "",
) -> str:
    """Draws one bar a row, its parts side by side.

    Args:
        bars: Dictionary from the label of a bar to its parts by name; all
            bars have the same parts.
        title: String above the chart.
        unit: String below the axis.
        marks: Optional dictionary of a value a bar, drawn as a line.
        mark: String. What the line means.

    Returns:
        The SVG document.

    Example:
    >>> chart = stacked_bars({"a": {"x": 1.0}}, "A title", "bits")
    >>> chart.count("<rect")
    3
    """
    parts = list(next(iter(bars.values())))
    marks = marks or {}
    longest = max(sum(bar.values()) for bar in bars.values())
    longest = max([longest, *marks.values()])
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    height = _TOP + len(bars) * (_BAR + _GAP) + _BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
        f'height="{height}" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(8, 20, title, 'font-weight="bold"'),
        *_legend(parts, mark if marks else ""),
    ]
    for row, (label, bar) in enumerate(bars.items()):
        top = _TOP + row * (_BAR + _GAP)
        lines += _bar(label, bar, top, scale)
        if label in marks:
            at = _LEFT + scale * marks[label]
            lines.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" '
                f'y2="{top + _BAR + 4}" stroke="#222222" stroke-width="2"/>'
            )
    lines += _axis(longest, scale, height, unit)
    return "\n".join([*lines, "</svg>", ""])


def _text(x: float, y: float, text: str, style: str = "") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escaped}</text>'


def _legend(parts: Sequence[str], mark: str) -> list[str]:
    lines, x = [], float(_LEFT)
    for part, colour in zip(parts, _COLOURS, strict=False):
        lines.append(
            f'<rect x="{x:.1f}" y="32" width="12" height="12" fill="{colour}"/>'
        )
        lines.append(_text(x + 17, 43, part))
        x += 40 + 7.5 * len(part)
    if mark:
        lines.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="31" y2="46" '
            'stroke="#222222" stroke-width="2"/>'
        )
        lines.append(_text(x + 8, 43, mark))
    return lines


def _bar(
    label: str, bar: Mapping[str, float], top: int, scale: float
) -> list[str]:
    middle = top + _BAR / 2 + 5
    lines = [_text(_LEFT - 10, middle, label, 'text-anchor="end"')]
    x = float(_LEFT)
    for value, colour in zip(bar.values(), _COLOURS, strict=False):
        width = scale * value
        lines.append(
            f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" '
            f'height="{_BAR}" fill="{colour}"/>'
        )
        if width > 32:
            style = 'text-anchor="middle" fill="#ffffff"'
            lines.append(_text(x + width / 2, middle, f"{value:.2f}", style))
        x += width
    total = f"{sum(bar.values()):.2f}"
    return [*lines, _text(x + 14, middle, total, 'font-weight="bold"')]


def _axis(longest: float, scale: float, height: int, unit: str) -> list[str]:
    base = height - _BOTTOM + 4
    lines = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}" '
        'stroke="#888888"/>'
    ]
    for value in range(int(longest) + 1):
        x = _LEFT + scale * value
        lines.append(_text(x, base + 16, str(value), 'text-anchor="middle"'))
    middle = _LEFT + scale * longest / 2
    lines.append(_text(middle, base + 32, unit, 'text-anchor="middle"'))
    return lines
