"""`tocsin score`: how strange each value of a series was when it came.

Rules: row i is scored with what the rows before it taught, and only then learned. One row out for each row in, its
timestamp and value echoed as they were written. A file is written whole or not at all. What cannot be used as a value
has an empty score; what is no row of this format ends the file's scoring with its place, and no score of it is written.

Files of a directory are scored side by side, as a running sidecar scores its series. A file alone, and what is left
when all but the longest few have ended, is scored in plain numbers, with the same scores in a seventh of the time of a
bank that small (`bridge.analysis.detectors.spot_alone`). A score is held off (`bridge.analysis.detectors.holding`), so
that one anomaly is one high score.

Which detector speaks follows from what the rows so far are like (`bridge.analysis.selection`): looked at after
`FIRST_LOOKS` and then each `LOOK_EVERY` rows. Another one comes warm: it lives through the newest `HISTORY` values.

Decision: no trials on injected anomalies here, which the sidecar refines this with. They cost 2 to 20 s of a processor
for each look, and on the half of NAB's series that choices were made on they found less than the class alone.

Decision: files are read before the first is scored, because a fault in the last line is a fault of the file. A million
rows take about 200 MB; a directory is taken in portions of `PORTION_ROWS`.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.champions import Standing
from bridge.analysis.detectors.believed import Believed
from bridge.analysis.detectors.fitted import ask_of
from bridge.analysis.detectors.holding import HOLD, NEAR, REPEATED, HoldOff
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.spot_alone import SpotAlone
from bridge.analysis.reviewing import DETECTORS, HISTORY, SeriesAsk, reviewed
from bridge.errors import TocsinError
from bridge.model import Word
from bridge.pipeline.banks import Banks

Floats = NDArray[np.float64]

HEADER = ["timestamp", "value"]
HEADER_OUT = [*HEADER, "score", "model"]
PORTION_ROWS = 4_000_000
PORTION_FILES = 2048
#: Rows after which it is looked at what a series is like: before the first score, when a class can be told, and then
#: after each day of five minutes.
FIRST_LOOKS, LOOK_EVERY = (60, 200), 288
#: Who may speak; first the one that begins.
NAMES = tuple(DETECTORS)
#: Up to so many series are scored one by one.
FEW = 6
TOLD_EVERY = 256  # rows of one series, between two steps of the progress bar
#: What ISO 8601 can say, the years 1 to 9999. What is later is most likely milliseconds; were one such line taken for a
#: time, all after it would have gone back.
EARLIEST_S, LATEST_S = -62_135_596_800.0, 253_402_300_799.0
#: Of what is wrong, as much is shown.
SHOWN = 40


class ScoreError(TocsinError):
    """A file that cannot be scored; the message says which, where, and what is wrong."""


class Table(Word, frozen=True, kw_only=True):
    """The rows of one file: as they were written, and as numbers."""

    source: Path
    timestamps: list[str]
    texts: list[str]
    times_s: Floats
    values: Floats  # NaN where it is no number


class _Lines(Protocol):
    """A reader of CSV."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


def read(path: Path) -> Table:
    """Return a file's rows.

    Raises:
        ScoreError: It cannot be read, its header is another, or a line is no row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _table(path, csv.reader(file, strict=True))
    except OSError as error:
        raise ScoreError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScoreError(f"{path}: it is not UTF-8 ({error.reason} at byte {error.start:,})") from error


def _table(path: Path, rows: _Lines) -> Table:
    timestamps: list[str] = []
    texts: list[str] = []
    times: list[float] = []
    values: list[float] = []
    try:
        header = next(rows, None)
        if header is None or [each.strip().lower() for each in header] != HEADER:
            raise ScoreError(f"{path}:1: the header is {_shown(header)}; write timestamp,value")
        for row in rows:
            if not row:
                continue  # an empty line is no row
            timestamp, text = _fields(path, rows.line_num, row)
            times.append(_time_s(path, rows.line_num, timestamp))
            values.append(_number(text))
            timestamps.append(timestamp)
            texts.append(text)
    except csv.Error as error:
        raise ScoreError(f"{path}:{rows.line_num}: {error}") from error
    return Table(
        source=path, timestamps=timestamps, texts=texts, times_s=np.array(times), values=np.array(values)
    )


def _fields(path: Path, line: int, row: Sequence[str]) -> tuple[str, str]:
    if len(row) != len(HEADER):
        raise ScoreError(f"{path}:{line}: {len(row)} fields; write timestamp,value")
    return row[0], row[1]


def _time_s(path: Path, line: int, text: str) -> float:
    """Return epoch seconds; a time without a zone is UTC."""
    try:
        found = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ScoreError(
                f"{path}:{line}: {_shown(text)} is no time; write epoch seconds or 2026-01-31T12:00:00Z"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not EARLIEST_S <= found <= LATEST_S:
        raise ScoreError(
            f"{path}:{line}: {_shown(text)} is no time; write seconds since 1970, not milliseconds"
        )
    return found


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return np.nan
    return found if np.isfinite(found) else np.nan


def _shown(found: object) -> str:
    text = ",".join(found) if isinstance(found, list) else str(found or "")
    text = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return ascii(text) if text else "empty"


class Scored(Word, frozen=True, kw_only=True):
    """What one file's rows got."""

    scores: Floats  # NaN: none
    spoke: NDArray[np.uint8]  # whose they are, its place in `NAMES`

    def models(self) -> Iterator[str]:
        """Return the name of the detector that spoke, row by row."""
        return (NAMES[each] for each in self.spoke.tolist())


class _Series:
    """One file on its way: who speaks for it, and what its rows got so far."""

    def __init__(self, number: int, table: Table) -> None:
        self.name, self.table = str(number), table
        self.standing = Standing(model=NAMES[0], reason="nothing was seen", since_tick=0)
        rows = len(table.values)
        self.scored = Scored(scores=np.full(rows, np.nan), spoke=np.zeros(rows, np.uint8))

    def look(self, rows: int) -> bytes:
        """Let what the first `rows` rows are like choose who speaks; return all that a new one knows, or nothing."""
        newest = slice(max(0, rows - 4 * HISTORY), rows)
        times_s, values = self.table.times_s[newest], self.table.values[newest]
        there = np.isfinite(values)
        past = times_s[there][-HISTORY:], values[there][-HISTORY:]
        if not len(past[1]):
            return b""
        ask = SeriesAsk(snapshot=ask_of("", self.name, rows, past), standing=self.standing, lived=rows)
        (review,) = reviewed([ask], with_trials=False)
        self.standing = review.standing
        return review.row


def is_look(rows: int) -> bool:
    """Say whether it is looked at what a series is like after so many rows."""
    return rows in FIRST_LOOKS or (rows > 0 and rows % LOOK_EVERY == 0)


_ONLY = np.array([0])


class Alone:
    """One series, in plain numbers where its detector can be had so, from where a bank and a `HoldOff` are."""

    def __init__(self, series: _Series, row: bytes, hold: HoldOff, slot: int) -> None:
        self._series = series
        self._put(row)
        self._told, self._quiet = float(hold.told[slot]), float(hold.quiet[slot])

    def _put(self, row: bytes) -> None:
        self._bank = DETECTORS[self._series.standing.model](1)
        self._bank.put(0, row)
        self._spot = SpotAlone(self._bank, 0) if isinstance(self._bank, SpotBank) else None

    def look(self, rows: int) -> None:
        """Let another detector go on, if what the series is like says so."""
        row = self._series.look(rows)
        if row:
            self._put(row)

    def step(self, time_s: float, value: float) -> float:
        """Return the score that is told of the next value, and learn the value."""
        if self._spot is not None:
            return self._held_off(self._spot.step(time_s, value))
        if isinstance(self._bank, Believed):
            told = self._bank.taken_in(_ONLY, np.array([time_s]), np.array([value]))
            return self._held_off(float(told[0]))
        score = self._bank.score_one(0, time_s, value)
        self._bank.learn_one(0, time_s, value, score)
        return self._held_off(score)

    def _held_off(self, score: float) -> float:
        """Return what a `HoldOff` does."""
        held = self._told if self._quiet < HOLD else 0.0
        is_news = score > held
        self._told = score if is_news else held
        self._quiet = 0.0 if is_news or score >= held - NEAR else self._quiet + 1.0
        return score if is_news else REPEATED * score


def score(tables: Sequence[Table], progress: Callable[[int], None]) -> list[Scored]:
    """Return what each table's rows get; `progress` is told of rows."""
    all_of_them = [_Series(number, table) for number, table in enumerate(tables)]
    order = sorted(all_of_them, key=lambda each: -len(each.table.values))
    lengths = np.array([len(each.table.values) for each in order])
    if not order:
        return []
    together = int(lengths[FEW]) if len(order) > FEW else 0
    banks, hold = Banks(), HoldOff(len(order))
    for row in range(together):
        _score_together(order[: int((lengths > row).sum())], row, banks, hold)
        progress(int((lengths > row).sum()))
    for slot, series in enumerate(order[: int((lengths > together).sum())]):
        alone = Alone(series, banks.row(series.name, series.standing.model), hold, slot)
        _score_alone(alone, series, together, progress)
    return [each.scored for each in all_of_them]


def _score_together(side_by_side: Sequence[_Series], row: int, banks: Banks, hold: HoldOff) -> None:
    """Score one row of each of some series."""
    for each in side_by_side if is_look(row) else ():
        if known := each.look(row):
            banks.put(each.name, each.standing.model, known)
    found = banks.learn(
        [(each.name, each.standing.model) for each in side_by_side],
        [float(each.table.times_s[row]) for each in side_by_side],
        [float(each.table.values[row]) for each in side_by_side],
    )
    scores, slots = (
        np.array([np.nan if each is None else each for each in found]),
        np.arange(len(side_by_side)),
    )
    told = hold.score_many(slots, scores)
    hold.learn_many(slots, scores)
    for each, told_of_it in zip(side_by_side, told.tolist(), strict=True):
        each.scored.scores[row], each.scored.spoke[row] = told_of_it, NAMES.index(each.standing.model)


def _score_alone(alone: Alone, series: _Series, first: int, progress: Callable[[int], None]) -> None:
    """Score the rows of a table from `first` on."""
    table, found, since = series.table, series.scored, first
    while since < len(table.values):
        if is_look(since):
            alone.look(since)
        until = since + 1
        while until < len(table.values) and until - since < TOLD_EVERY and not is_look(until):
            until += 1
        rows = slice(since, until)
        found.spoke[rows] = NAMES.index(series.standing.model)
        for row, (time_s, value) in enumerate(
            zip(table.times_s[rows].tolist(), table.values[rows].tolist(), strict=True), since
        ):
            found.scores[row] = alone.step(time_s, value)
        progress(until - since)
        since = until


def run(
    path: Path,
    out: Path | None,
    *,
    say: Callable[[str], None],
    told: IO[str],
    progress: Callable[[int], None],
) -> bool:
    """Score a file, or each `.csv` file of a directory, in any case.

    Args:
        path: A file or a directory.
        out: Where to; for a directory one that becomes its mirror. None: to `told`.
        say: Is told each fault.
        told: Where scores go without `out`.
        progress: Is told of rows.

    Returns:
        Whether everything was scored.

    Raises:
        ScoreError: Something cannot be written.
    """
    is_good = True

    def fault(error: ScoreError) -> None:
        nonlocal is_good
        is_good = False
        say(str(error))

    for tables in portions(sources(path, out), fault):
        for table, scored in zip(tables, score(tables, progress), strict=True):
            if out is None:
                write(table, scored, told)
            else:
                save(table, scored, target(table.source, path, out))
    return is_good


def sources(path: Path, out: Path | None) -> list[Path]:
    """Return the files to score, in the order of their names; what an earlier run wrote is none of them.

    Raises:
        ScoreError: There is none, or they would be written over.
    """
    if not path.is_dir():  # a pipe is read like a file
        if out is not None and out.exists() and out.samefile(path):
            raise ScoreError(f"{out} is what is read; name another file to write")
        return [path]
    written = out.resolve() if out is not None else None
    if written == path.resolve():
        raise ScoreError(f"{out} is what is read; name another directory to write")
    found = [
        each
        for each in sorted(path.rglob("*"))
        if each.suffix.lower() == ".csv"
        if each.is_file() and (written is None or written not in each.resolve().parents)
    ]
    if not found:
        raise ScoreError(f"{path}: there is no .csv file in it")
    return found


def target(source: Path, path: Path, out: Path) -> Path:
    """Return where the scores of `source` go."""
    if path.is_dir():
        return out / source.relative_to(path)
    return out / source.name if out.is_dir() else out


def portions(paths: Iterable[Path], say: Callable[[ScoreError], None]) -> Iterator[list[Table]]:
    """Read files, as many at a time as memory bears; `say` is told of those that cannot be used."""
    portion: list[Table] = []
    rows = 0
    for path in paths:
        try:
            table = read(path)
        except ScoreError as error:
            say(error)
            continue
        portion.append(table)
        rows += len(table.values)
        if rows >= PORTION_ROWS or len(portion) >= PORTION_FILES:
            yield portion
            portion, rows = [], 0
    if portion:
        yield portion


def write(table: Table, scored: Scored, file: IO[str]) -> None:
    """Write a table with its scores."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER_OUT)
    told = ("" if np.isnan(each) else f"{each:.6g}" for each in scored.scores.tolist())
    writer.writerows(zip(table.timestamps, table.texts, told, scored.models(), strict=True))


def save(table: Table, scored: Scored, path: Path) -> None:
    """Write a table with its scores to a file that is whole or not there.

    Raises:
        ScoreError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8", newline=""
        ) as file:
            try:
                write(table, scored, file)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ScoreError(f"cannot write {path}: {error.strerror or error}") from error
