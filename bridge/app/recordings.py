"""Recorded webhooks on disk, as one stream of rows in the order in which they were received.

A line is `{"received_at", "source"?, "tenant"?, "body": {webhook}}`, a control line of an export
(`{"received_at", "tenant", "kind", "body"}`), or a bare webhook, which is taken at its newest `startsAt` or
`endsAt`. `.gz` and `.zst` are unpacked, `-` is standard input.

Theory of operation: each file is read twice. The first reading (`survey`) checks every line, so that all
faults are told before anything is computed, and learns whether the times go up. The second (`merged`) holds
one line of each file. A file whose times go back is put in order first: its lines go to a temporary file, and
only their times and places (16 bytes a line) are kept in memory. Standard input is kept in a temporary file.

Rules: nothing here knows what a row means. A line that cannot be used is a `BadLine`, never an exception; a
file that cannot be read is a `StorageError`.
"""

from __future__ import annotations

import gzip
import heapq
import io
import shutil
import sys
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec
import zstandard
from typing_extensions import override

from bridge.errors import PayloadError, StorageError
from bridge.model import DEFAULT_SOURCE, WEBHOOK_KINDS, RowKind, Word
from bridge.webhooks import alertmanager, envelope

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
#: The longest line that is read: the largest body that the intake takes, and what stands around it.
MAX_LINE_BYTES = 80 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class BadLine(Word, frozen=True, kw_only=True):
    """A line that cannot be used, and why."""

    file: str
    line: int  # from 1
    reason: str

    @property
    def text(self) -> str:
        """The fault as a compiler writes it."""
        return f"{self.file}:{self.line}: {self.reason}"


class Recorded(Word, frozen=True, kw_only=True):
    """One line, understood as far as its envelope. `alerts` counts those in a webhook."""

    received_at: datetime
    tenant: str
    source: str
    kind: RowKind
    body: bytes
    alerts: int
    partial: bool = False  # it begins somewhere in a longer history


class Survey(Word, frozen=True, kw_only=True):
    """What the first reading of one file found."""

    name: str  # as the user wrote it
    place: Path  # where the lines can be read again
    lines: int  # good ones
    webhooks: int  # of these
    alerts: int
    first_at: datetime | None
    last_at: datetime | None
    in_order: bool
    kinds: frozenset[RowKind]
    partial: bool  # the beginning of what was lived through is missing
    encoded: frozenset[str]  # templates whose vectors it holds
    bad: tuple[BadLine, ...]


_NOTHING = msgspec.Raw(b"")


class _Form(msgspec.Struct):
    """Which form a line has is told by what is there."""

    body: msgspec.Raw = _NOTHING
    alerts: msgspec.Raw = _NOTHING


class _Line(msgspec.Struct):
    """A line of a recording."""

    received_at: datetime
    body: msgspec.Raw
    tenant: str | None = None
    source: str = DEFAULT_SOURCE
    kind: RowKind = RowKind.WEBHOOK
    partial: bool = False


class _Vectors(msgspec.Struct):
    """What the models told of texts, as far as it matters here."""

    vectors: dict[str, msgspec.Raw]


_FORM = msgspec.json.Decoder(_Form)
_LINE = msgspec.json.Decoder(_Line)


def survey(name: str, *, tenant: str, spool: Path, progress: Callable[[int], None]) -> Survey:
    """Read a file once and say what is in it.

    Args:
        name: A path, or `-` for standard input.
        tenant: The tenant of lines that name none.
        spool: A directory for what has to be written down to be read again.
        progress: Told how many lines were read since the last call.

    Raises:
        StorageError: The file cannot be read.
    """
    place = _kept(spool) if name == STDIN else Path(name)
    lines = webhooks = alerts = 0
    first: datetime | None = None
    last: datetime | None = None
    previous: datetime | None = None
    in_order = True
    kinds: set[RowKind] = set()
    encoded: set[str] = set()
    partial = False
    bad: list[BadLine] = []
    for number, raw in numbered(name, place):
        progress(1)
        found = understand(raw, tenant=tenant)
        if isinstance(found, str):
            bad.append(BadLine(file=name, line=number, reason=found))
            continue
        in_order = in_order and (previous is None or found.received_at >= previous)
        previous = found.received_at
        first = min(first or previous, previous)
        last = max(last or previous, previous)
        lines, alerts = lines + 1, alerts + found.alerts
        webhooks += found.kind in WEBHOOK_KINDS
        kinds.add(found.kind)
        partial = partial or found.partial
        if found.kind is RowKind.VECTORS:
            encoded |= _encoded(found.body)
    return Survey(
        name=name, place=place, lines=lines,
        webhooks=webhooks, alerts=alerts, first_at=first, last_at=last,
        in_order=in_order, kinds=frozenset(kinds), partial=partial, encoded=frozenset(encoded), bad=tuple(bad),
    )  # fmt: skip


def understand(raw: bytes, *, tenant: str) -> Recorded | str:
    """Return what a line says, or why it cannot be used."""
    try:
        form = _FORM.decode(raw)
        if form.body != _NOTHING:
            return _enveloped(_LINE.decode(raw), tenant)
        if form.alerts != _NOTHING:
            return _bare(raw, tenant)
    except msgspec.ValidationError as error:
        return f"not a line of a recording: {error}"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not JSON: {error}"
    except RecursionError:
        return "nested too deeply"
    except PayloadError as error:
        return f"the webhook can never be good: {error}"
    return "neither a recording (received_at and body) nor a webhook (alerts)"


def merged(surveys: Sequence[Survey], *, tenant: str, spool: Path) -> Iterator[Recorded]:
    """Return the good lines of all files by `received_at`, then file, then line."""
    streams = [_again(each, tenant=tenant, spool=spool) for each in surveys]
    # `merge` is stable: of equal times the earlier file goes first, and within it the earlier line.
    return heapq.merge(*streams, key=lambda found: found.received_at)


def _enveloped(line: _Line, tenant: str) -> Recorded | str:
    if line.received_at.tzinfo is None:
        return "received_at needs its time zone, as 2026-01-31T12:00:00Z"
    # Asked before the conversion: year 1 with an offset has no UTC that Python can hold.
    if not alertmanager.FIRST_YEAR <= line.received_at.year <= alertmanager.LAST_YEAR:
        return f"received_at is not in the years {alertmanager.FIRST_YEAR} to {alertmanager.LAST_YEAR}"
    content = bytes(line.body)
    alerts = envelope.check(content) if line.kind in WEBHOOK_KINDS else 0
    return Recorded(
        received_at=line.received_at.astimezone(UTC),
        tenant=tenant if line.tenant is None else line.tenant,
        source=line.source,
        kind=line.kind,
        body=content,
        alerts=alerts,
        partial=line.partial,
    )


def _encoded(body: bytes) -> set[str]:
    """Return the templates whose vectors are in `body`; the thinking says what is wrong with one of another form."""
    try:
        return set(msgspec.json.decode(body, type=_Vectors).vectors)
    except msgspec.MsgspecError:
        return set()


def _bare(raw: bytes, tenant: str) -> Recorded | str:
    body = raw.strip()
    alerts = envelope.check(body)
    parsed = alertmanager.parse(body, tenant=tenant, source=DEFAULT_SOURCE).alerts
    times = [moment for each in parsed for moment in (each.starts_at, each.ends_at) if moment is not None]
    if not times:
        return "a bare webhook without any startsAt has no time: write {received_at, body} around it"
    return Recorded(
        received_at=max(times), tenant=tenant, source=DEFAULT_SOURCE,
        kind=RowKind.WEBHOOK, body=body, alerts=alerts,
    )  # fmt: skip


# ---- reading -------------------------------------------------------------------------------------------


def _again(known: Survey, *, tenant: str, spool: Path) -> Iterator[Recorded]:
    """Return the good lines of a surveyed file in the order of their times."""
    bad = {each.line for each in known.bad}
    good = ((number, raw) for number, raw in numbered(known.name, known.place) if number not in bad)
    raws = (raw for _, raw in good) if known.in_order else _sorted(good, tenant=tenant, spool=spool)
    for raw in raws:
        found = understand(raw, tenant=tenant)
        if isinstance(found, str):
            raise StorageError(f"{known.name} changed while it was read: {found}")
        yield found


def _sorted(lines: Iterable[tuple[int, bytes]], *, tenant: str, spool: Path) -> Iterator[bytes]:
    """Return the lines by their times; equal times keep the order of the file."""
    times, places = array("d"), array("q")
    with tempfile.TemporaryFile(dir=spool) as store:
        for _, raw in lines:
            found = understand(raw, tenant=tenant)
            if isinstance(found, Recorded):
                times.append(found.received_at.timestamp())
                places.append(store.tell())
                store.write(raw.rstrip(b"\n") + b"\n")
        for index in sorted(range(len(times)), key=times.__getitem__):
            store.seek(places[index])
            yield store.readline()


def numbered(name: str, place: Path) -> Iterator[tuple[int, bytes]]:
    """Return the lines of a file that are not empty, with their numbers.

    A file named `.json` that is one JSON text over many lines is one line.
    """
    try:
        with place.open("rb") as packed:
            file = _unpacked(packed)
            if place.suffix == ".json":
                yield from _document(file.read(MAX_LINE_BYTES))
                return
            number = 0
            while raw := file.readline(MAX_LINE_BYTES):
                number += 1
                text = raw.removeprefix(_BOM) if number == 1 else raw
                if text.strip():
                    yield number, text
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StorageError(f"cannot read {name}: {what}") from error


def _document(content: bytes) -> Iterator[tuple[int, bytes]]:
    text = content.removeprefix(_BOM)
    try:
        yield 1, msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        for number, raw in enumerate(text.split(b"\n"), start=1):
            if raw.strip():
                yield number, raw


def _unpacked(file: io.BufferedReader) -> io.BufferedIOBase:
    """Return the file's content, told by its first bytes, so that standard input may be packed too."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if start == _ZSTD:
        return io.BufferedReader(_Frames(file))
    return file


class _Frames(io.RawIOBase):
    """Unpacks zstd frames, as many as there are. Unlike the library's reader it notices a frame cut short."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = b""

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._ready and self._more():
            pass
        view = memoryview(buffer).cast("B")
        taken = self._ready[: len(view)]
        view[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

    def _more(self) -> bool:
        """Unpack the next piece; False at the end of the file."""
        packed = self._packed or self._file.read(1 << 16)
        if not packed:
            if self._frame is not None:
                raise EOFError("it ends in the middle of a zstd frame")
            return False
        self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
        self._ready = self._frame.decompress(packed)
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
        return True


def _kept(spool: Path) -> Path:
    """Write standard input down; it cannot be read twice."""
    with tempfile.NamedTemporaryFile(dir=spool, delete=False) as store:
        shutil.copyfileobj(sys.stdin.buffer, store)
    return Path(store.name)
