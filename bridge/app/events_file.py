"""A file of events: CSV with `start[,end,entity,severity,text]` in its header, in any order.

Rules: the first thing that cannot be used ends the reading, with the file, the line and what to write. What can be put
right without guessing is put right and told: rows out of order are sorted, an end before its start is unknown.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bridge.analysis.forecast.occurrences import Occurrence
from bridge.errors import RefusedError

COLUMNS = ("start", "end", "entity", "severity", "text")
#: Nothing is earlier than 1900 or later than 2200; later is most likely milliseconds.
EARLIEST_S, LATEST_S = -2_208_988_800.0, 7_258_118_400.0
MAX_FIELD = 1 << 20
TOLD_EVERY = 1000  # lines, between two steps of the progress bar


@dataclass(frozen=True, slots=True)
class EventsFile:
    """What a file held."""

    events: tuple[Occurrence, ...]  # as they stood
    went_back: int  # rows that began before the one above them
    ended_early: int  # ends before their starts
    is_text: bool  # times stood as RFC 3339


def read_events(path: Path, progress: Callable[[int], None] = lambda _: None) -> EventsFile:
    """Read a file of events; `progress` is told of every so many lines.

    Raises:
        RefusedError: It cannot be read; the message names the place and what to write.
    """
    csv.field_size_limit(MAX_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, csv.reader(_without_nul(file), strict=True), progress)
    except OSError as error:
        raise RefusedError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path}: byte {error.start} of a block is no UTF-8; save it as UTF-8") from error


def _without_nul(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _read(path: Path, rows: Iterator[list[str]], progress: Callable[[int], None]) -> EventsFile:
    line = 1
    events: list[Occurrence] = []
    went_back = ended_early = 0
    is_text = False
    try:
        places = _header(path, next(rows, None))
        for row in rows:
            line = rows.line_num  # type: ignore[attr-defined]  # a csv.reader has it
            if len(events) % TOLD_EVERY == 0:
                progress(TOLD_EVERY)
            if not row:
                continue
            fields = _fields(row, places)
            if not events:
                is_text = not _is_number(fields["start"])
            event = _event(fields)
            if event.end_s is not None and event.end_s < event.start_s:
                ended_early += 1
                event = Occurrence(event.start_s, None, event.entity, event.severity, event.text)
            went_back += bool(events) and event.start_s < events[-1].start_s
            events.append(event)
    except csv.Error as error:
        raise RefusedError(f"{path}:{getattr(rows, 'line_num', line)}: no CSV: {error}") from error
    except _BadLineError as bad:
        raise RefusedError(f"{path}:{line}: {bad}") from None
    return EventsFile(tuple(events), went_back, ended_early, is_text)


class _BadLineError(Exception):
    """A line that cannot be used, and what to write."""


def _header(path: Path, row: list[str] | None) -> Mapping[str, int]:
    names = [name.strip().lower() for name in row or ()]
    if not names:
        raise RefusedError(
            f"{path}:1: empty; the first line must be {','.join(COLUMNS)} (all but start may be missing)"
        )
    for name in names:
        if name not in COLUMNS:
            shown = name[:40]
            raise RefusedError(
                f"{path}:1: unknown column {shown!r}; the header may have {', '.join(COLUMNS)}"
            )
        if names.count(name) > 1:
            raise RefusedError(f"{path}:1: column {name!r} stands there twice; leave one")
    if "start" not in names:
        raise RefusedError(f"{path}:1: no column `start`; name the one that says when an event began so")
    return {name: place for place, name in enumerate(names)}


def _fields(row: list[str], places: Mapping[str, int]) -> dict[str, str]:
    if len(row) != len(places):
        raise _BadLineError(
            f"{len(row)} fields under a header of {len(places)}; put quotes around a text with commas"
        )
    return {name: row[place].strip() for name, place in places.items()}


def _event(fields: Mapping[str, str]) -> Occurrence:
    end = fields.get("end", "")
    return Occurrence(
        _seconds(fields["start"], "start"), _seconds(end, "end") if end else None,
        fields.get("entity", ""), fields.get("severity", ""), fields.get("text", ""),
    )  # fmt: skip


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _seconds(text: str, name: str) -> float:
    try:
        found = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            found = math.nan
    if math.isnan(found):
        raise _BadLineError(
            f"{name} {text[:40]!r} is no time; write seconds since 1970 or 2026-01-31T12:00:00Z"
        )
    if not EARLIEST_S <= found <= LATEST_S:
        raise _BadLineError(
            f"{name} {text[:40]!r} is not between 1900 and 2200; write seconds since 1970, not milliseconds"
        )
    return found
