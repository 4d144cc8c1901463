"""The one report object: what a verb did, as a table and as a dictionary."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Report:
    """What a call did, to print or to read by a program.

    Args:
        title: String. One line above the table.
        columns: Names of the columns, in order; each is a key of every row.
        rows: Tuple of mappings, one a layer, tensor or file.
        totals: Mapping of figures for the whole, printed under the table.
        skipped: Tuple of `{"path": ..., "reason": ...}`, what was left alone
            and why.

    Example:
    >>> rows = ({"name": "a", "bytes": 1},)
    >>> report = Report("Files", ("name", "bytes"), rows)
    >>> report.to_dict()["rows"]
    [{'name': 'a', 'bytes': 1}]
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...] = ()
    totals: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    skipped: tuple[Mapping[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON-ready values.

        Returns:
            Dictionary with the keys `title`, `rows`, `totals`, `skipped`.
        """
        return {
            "title": self.title,
            "rows": [dict(row) for row in self.rows],
            "totals": dict(self.totals),
            "skipped": [dict(item) for item in self.skipped],
        }

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=120, color_system=None, highlight=False)
        with console.capture() as capture:
            console.print(self.title, markup=False)
            console.print(self._table())
            for line in self._footer():
                console.print(line, markup=False, soft_wrap=True)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def _table(self) -> Any:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in self.columns:
            numeric = any(
                isinstance(row.get(column), int | float) for row in self.rows
            )
            table.add_column(
                Text(column.replace("_", " ")),
                justify="right" if numeric else "left",
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(_cell(row.get(c))) for c in self.columns))
        return table

    def _footer(self) -> list[str]:
        totals = [
            f"{key.replace('_', ' ')}: {_cell(value)}"
            for key, value in self.totals.items()
        ]
        skipped = [
            f"skipped {item['path']}: {item['reason']}" for item in self.skipped
        ]
        return ([", ".join(totals)] if totals else []) + skipped


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return "\N{MULTIPLICATION SIGN}".join(str(item) for item in value)
    return str(value)
