"""Rows as CSV (RFC 4180), as spreadsheets and BI tools read them.

Rules: pure; the same rows give the same bytes. Times are RFC 3339 in UTC, true and false are words, "not known" is an
empty cell. A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a line end)
gets an apostrophe in front, since titles and labels are whatever a sender wrote.

Decision: the apostrophe changes what is read, if only for such texts; who needs each byte asks for JSON. A sheet that
runs what an alert's name says is worse.
Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_FORMULA = tuple("=+-@\t\r\n")


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
            return f"'{value}" if value.startswith(_FORMULA) else value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case _:
            return value
