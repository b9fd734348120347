"""Writing history to a file that is whole or not there.

Rule: the lines and rows are those of `storage.reading`, whether they came through the API or from the data directory
of a sidecar that does not run; the bytes are the same.

Decision: tables (CSV, Parquet) are made of rows here and not by the API. Their rows come in pages either way, and
Parquet takes a library that a sidecar need not have.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from bridge.analysis.reports import FLAT, line_of
from bridge.errors import ConfigError, StorageError
from bridge.storage.reading import StateReader
from bridge.tabular import as_csv

#: What each format is called on disk.
FILE_NAMES = {
    "webhooks": "webhooks.jsonl", "jsonl": "incidents.jsonl", "csv": "incidents.csv", "parquet": "incidents.parquet",
}  # fmt: skip
#: Those that are tables.
TABLES = frozenset({"csv", "parquet"})
PAGE = 1000


def lines_of(data: Path, form: str, since: datetime | None = None) -> Iterator[bytes]:
    """Return the lines of a data directory, every tenant's.

    Raises:
        StorageError: There is no store, or it cannot be read.
    """
    reader = _reader(data)
    read = reader.history_lines if form == "webhooks" else reader.incident_lines
    after: Any = None
    while True:
        part = read(None, since=since, after=after)
        yield from part.lines
        if part.next is None:
            return
        after = part.next


def _reader(data: Path) -> StateReader:
    path = data / "state.db"
    if not path.exists():
        raise StorageError(
            f"there is no state.db in {data}: name the directory that `tocsin serve --data` had"
        )
    return StateReader(path)


def rows_of(data: Path, since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Return the rows (`reports.FLAT`) of a data directory, every tenant's, as they come out of JSON.

    Raises:
        StorageError: There is no store, or it cannot be read.
    """
    reader = _reader(data)
    cursor: str | None = None
    while True:
        page = reader.flat_incidents(None, since=since, limit=PAGE, cursor=cursor)
        yield from (msgspec.to_builtins(row) for row in page.items)
        cursor = page.next
        if cursor is None:
            return


def table(
    rows: Iterable[Mapping[str, Any]], out: Path, form: str, progress: Callable[[int], None]
) -> tuple[Path, int]:
    """Write rows as a table into the directory `out`; return the file's path and how many rows there were.

    Raises:
        StorageError: The directory or the file cannot be written.
        ConfigError: Parquet was asked for without the library that writes it.
    """
    columns = tuple(FLAT)
    if form == "csv":
        lines = (as_csv(columns, [row], header=False) for row in rows)
        path, written = write(chain([as_csv(columns, ())], lines), out, form, progress)
        return path, written - 1
    if find_spec("duckdb") is None:
        raise ConfigError(('to write Parquet needs more: pip install "tocsin[lake]"',))
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path, written = write(map(line_of, map(dict, rows)), Path(folder), "jsonl", progress)
        _parquet(path, out)
    return out / FILE_NAMES["parquet"], written


def _parquet(lines: Path, out: Path) -> None:
    import duckdb  # noqa: PLC0415 - an extra

    unfinished = out / f".{FILE_NAMES['parquet']}.unfinished"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(":memory:") as engine:
            rows = engine.read_json(str(lines), format="newline_delimited", columns=FLAT)
            rows.write_parquet(str(unfinished), compression="zstd")
        unfinished.replace(out / FILE_NAMES["parquet"])
    except (OSError, duckdb.Error) as error:
        unfinished.unlink(missing_ok=True)
        raise StorageError(f"cannot write to {out}: {getattr(error, 'strerror', None) or error}") from error


def write(lines: Iterable[bytes], out: Path, form: str, progress: Callable[[int], None]) -> tuple[Path, int]:
    """Write the lines into the directory `out`; return the file's path and how many there were.

    Raises:
        StorageError: The directory or the file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _write(lines, out / FILE_NAMES[form], progress)
    except OSError as error:
        raise StorageError(f"cannot write to {out}: {error.strerror or error}") from error


def _write(lines: Iterable[bytes], path: Path, progress: Callable[[int], None]) -> tuple[Path, int]:
    written = 0
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        unfinished = Path(file.name)
        try:
            for line in lines:
                file.write(line)
                written += 1
                progress(1)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            unfinished.unlink()
            raise
    unfinished.replace(path)
    return path, written
