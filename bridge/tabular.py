"""Rows as CSV (RFC 4180), as spreadsheets and BI tools read them.

Rules: pure; the same rows give the same bytes. Times are RFC 3339 in UTC, true and false are words, "not known" is an
empty cell. A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, full-width or not, a
tab or a line end) gets an apostrophe in front, since titles and labels are whatever a sender wrote. So does what is in
the middle of a text and would begin a cell for a spreadsheet that splits at semicolons, as half of Europe's do, at tabs
or at bars: it heeds no quotes that do not begin its cell.

Decision: the apostrophes change what is read, if only for such texts (`a, -b` is one); who needs each byte asks for
JSON. A sheet that runs what an alert's name says is worse.
Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_LEADING = tuple("\t\r\n")
_SEPARATORS = frozenset(";,|\t\r\n")
#: What may stand before a formula in its cell, or between cells, as long as it goes on; each run is looked at once.
_before_formula = re.compile(
    r"""(?:^|(?<![\s";,|])(?=[\s";,|]))[\s";,|]*+(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"""
).sub


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, header: bool = True) -> bytes:
    """Return rows as CSV in UTF-8 with CRLF line ends, the names of the columns first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    if header:
        writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    match value:
        case str():
            return _defused(value)
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case _:
            return value


def _defused(text: str) -> str:
    """Return a text with an apostrophe before whatever a spreadsheet would run."""
    defused = _before_formula(_marked, text)
    return f"'{defused}" if text.startswith(_LEADING) else defused


def _marked(before: re.Match[str]) -> str:
    begins = before.start() == 0 or not _SEPARATORS.isdisjoint(before[0])
    return f"{before[0]}'" if begins else before[0]
