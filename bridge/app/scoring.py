"""`tocsin score`: how strange each value of a series was when it came.

Rules: row i is scored with what the rows before it taught, and only then learned. One row out for each row in, its
timestamp and value echoed as they were written. A file is written whole or not at all. What cannot be used as a value
has an empty score; what is no row of this format ends the file's scoring with its place, and no score of it is written.

Files of a directory are scored side by side, as a running sidecar scores its series. A file alone, and what is left
when all but the longest few have ended, is scored in plain numbers, with the same scores in a seventh of the time of a
bank that small (`bridge.analysis.detectors.spot_alone`). A score is held off (`bridge.analysis.detectors.holding`), so
that one anomaly is one high score. Which detector speaks is a rule: whole numbers that are mostly zero are counts,
anything else is a number on a scale.

Decision: files are read before the first is scored, because a fault in the last line is a fault of the file. A million
rows take about 200 MB; a directory is taken in portions of `PORTION_ROWS`.
"""

from __future__ import annotations

import csv
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.holding import HOLD, NEAR, REPEATED, HoldOff
from bridge.analysis.detectors.slots import Ints
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.spot_alone import SpotAlone
from bridge.errors import TocsinError
from bridge.model import Word

Floats = NDArray[np.float64]

HEADER = ["timestamp", "value"]
HEADER_OUT = [*HEADER, "score", "model"]
PORTION_ROWS = 4_000_000
PORTION_FILES = 2048
#: From this share of zeros on, whole numbers are counts.
MOSTLY_ZERO = 0.8
#: A series of whole numbers with a smaller share of zeros after `UNDECIDED` values is not going to be counts.
PERHAPS, UNDECIDED = 0.5, 288
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


class ByRule:
    """The detector that each series' values so far ask for."""

    def __init__(self, count: int) -> None:
        self.spot, self.counts = SpotBank(count), CountsBank(count)
        self.seen, self.zeros = np.zeros(count), np.zeros(count)
        self.is_whole = np.ones(count, bool)

    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        """Return scores, as a bank does."""
        scores = np.full(len(series), np.nan)
        is_counts = self.is_counts(series)
        for bank, own in ((self.counts, is_counts), (self.spot, ~is_counts)):
            if own.all():
                return bank.score_many(series, times_s, values)
            if own.any():
                scores[own] = bank.score_many(series[own], times_s[own], values[own])
        return scores

    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        """Learn, as a bank does; a detector that does not speak learns without being asked."""
        self.spot.learn_many(series, times_s, values, scores)
        known = np.isfinite(values)
        self.seen[series] += known
        self.zeros[series] += known & (values == 0.0)
        self.is_whole[series] &= ~known | ((values >= 0.0) & (values == np.floor(values)))
        may_be = self.is_whole[series] & (
            (self.seen[series] < UNDECIDED) | (self.zeros[series] >= PERHAPS * self.seen[series])
        )
        if may_be.any():
            self.counts.learn_many(series[may_be], times_s[may_be], values[may_be], scores[may_be])

    def is_counts(self, series: Ints) -> NDArray[np.bool_]:
        """Say which series are counts, by their values so far."""
        return self.is_whole[series] & (
            self.zeros[series] >= MOSTLY_ZERO * np.maximum(self.seen[series], 1.0)
        )


class Alone:
    """One series of a `ByRule` and of its `HoldOff`, from where they are; they are not to be asked about it again."""

    def __init__(self, bank: ByRule, hold: HoldOff, slot: int) -> None:
        self._counts, self._series = bank.counts, np.array([slot])
        self._spot = SpotAlone(bank.spot, slot)
        self._seen, self._zeros = float(bank.seen[slot]), float(bank.zeros[slot])
        self._is_whole = bool(bank.is_whole[slot])
        self._told, self._quiet = float(hold.told[slot]), float(hold.quiet[slot])

    def step(self, time_s: float, value: float) -> tuple[float, bool]:
        """Return the score that is told of the next value and whether it is one of counts; learn the value."""
        is_counts = self._is_whole and self._zeros >= MOSTLY_ZERO * max(self._seen, 1.0)
        asked = self._series, np.array([time_s]), np.array([value])
        score = self._spot.step(time_s, value)
        if is_counts:
            score = float(self._counts.score_many(*asked)[0])
        if math.isfinite(value):
            self._seen += 1.0
            self._zeros += value == 0.0
            self._is_whole = self._is_whole and value >= 0.0 and value.is_integer()
        if self._is_whole and (self._seen < UNDECIDED or self._zeros >= PERHAPS * self._seen):
            self._counts.learn_many(*asked, np.array([score]))
        return self._held_off(score), is_counts

    def _held_off(self, score: float) -> float:
        """Return what a `HoldOff` does."""
        held = self._told if self._quiet < HOLD else 0.0
        is_news = score > held
        self._told = score if is_news else held
        self._quiet = 0.0 if is_news or score >= held - NEAR else self._quiet + 1.0
        return score if is_news else REPEATED * score


class Scored(Word, frozen=True, kw_only=True):
    """What one file's rows got."""

    scores: Floats  # NaN: none
    is_counts: NDArray[np.bool_]

    def models(self) -> Iterator[str]:
        """Return the name of the detector that spoke, row by row."""
        return (CountsBank.NAME if each else SpotBank.NAME for each in self.is_counts.tolist())


def score(tables: Sequence[Table], progress: Callable[[int], None]) -> list[Scored]:
    """Return what each table's rows get; `progress` is told of rows."""
    order = sorted(range(len(tables)), key=lambda place: -len(tables[place].values))
    lengths = np.array([len(tables[place].values) for place in order])
    if not order:
        return []
    bank, hold = ByRule(len(order)), HoldOff(len(order))
    found = [
        Scored(scores=np.full(len(each.values), np.nan), is_counts=np.zeros(len(each.values), bool))
        for each in tables
    ]
    together = int(lengths[FEW]) if len(order) > FEW else 0
    for row in range(together):
        series = np.arange(int((lengths > row).sum()))
        when = np.array([tables[order[slot]].times_s[row] for slot in series])
        what = np.array([tables[order[slot]].values[row] for slot in series])
        is_counts = bank.is_counts(series)
        scores = bank.score_many(series, when, what)
        bank.learn_many(series, when, what, scores)
        told = hold.score_many(series, scores)
        hold.learn_many(series, scores)
        for slot in series:
            own = found[order[slot]]
            own.scores[row], own.is_counts[row] = told[slot], is_counts[slot]
        progress(len(series))
    for number, place in enumerate(order[: int((lengths > together).sum())]):
        _score_alone(Alone(bank, hold, number), tables[place], found[place], together, progress)
    return found


def _score_alone(
    alone: Alone, table: Table, found: Scored, first: int, progress: Callable[[int], None]
) -> None:
    """Score the rows of a table from `first` on."""
    for since in range(first, len(table.values), TOLD_EVERY):
        rows = slice(since, since + TOLD_EVERY)
        for row, (time_s, value) in enumerate(
            zip(table.times_s[rows].tolist(), table.values[rows].tolist(), strict=True), since
        ):
            found.scores[row], found.is_counts[row] = alone.step(time_s, value)
        progress(len(table.values[rows]))


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
