"""Batches of events as objects in a store (S3, Blob, GCS): what an object is called and what stands in it.

An object holds JSON lines, one event each, or is a Parquet file that the lines become when they are sent. Its key is a
folder that a pattern makes of the first event's time and tenant, and a name that follows from the ids of its events:
the same batch has the same key whenever it is sent, so that "only if there is none" (`If-None-Match: *`,
`ifGenerationMatch=0`) makes a repeat a refusal that loses nothing.
A batch ends where the folder changes: what stands under a day is of that day.

Decision: the name begins with the time of the first event, so that a listing is in order, and readers that go by
"what is later than the last key" find what is new. Rejected: the event ids themselves, which for 500 events are longer
than a key may be, and a random name, which a repeat would not find again.

Rule: a pattern is no template language: `{year}`, `{month}`, `{day}`, `{hour}` (all UTC) and `{tenant}`, nothing else.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC
from importlib.util import find_spec
from typing import Annotated, Literal, cast
from urllib.parse import quote

import pydantic
from msgspec.structs import replace
from pydantic import AfterValidator

from bridge.model import NAMESPACE, Event, Word
from bridge.ports import Caps
from connectors.common import first_that_fit, fit
from connectors.formats import Format, encoder_of
from connectors.formats.shapes import shape_of

#: Lines of one object, and its bytes, unless a kind says otherwise.
MAX_EVENTS, MAX_BYTES = 500, 8 * 2**20
#: The layout that Athena, BigQuery, DuckDB and Spark read as partitions.
HIVE = "incidents/year={year}/month={month}/day={day}"
JSON_LINES, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"
#: What `stored_as` of a destination that stores objects can be, and what it is called in its description.
StoredAs = Literal["jsonl", "parquet"]
STORED_AS = "What an object is: `jsonl` (JSON lines), or `parquet` (zstd; needs `tocsin[lake]`)."
FIELDS = frozenset({"year", "month", "day", "hour", "tenant"})
_FIELD = re.compile(r"\{(\w+)\}")
#: What stands in a key as it is at every store, and is no more than itself in a shell or an URL.
_PLAIN = re.compile(r"[A-Za-z0-9!_.*'()=/-]*")
_STRANGE = re.compile(r"[^A-Za-z0-9_-]")
#: A store takes 1,024 bytes of key; a name of ours takes 60, and a tenant 100 more than `{tenant}`.
PATH_CHARACTERS = 800


def _check_path(path: str) -> str:
    unknown = set(_FIELD.findall(path)) - FIELDS
    if unknown:
        raise ValueError(f"{{{min(unknown)}}} is not known; there are: {', '.join(sorted(FIELDS))}")
    if not _PLAIN.fullmatch(_FIELD.sub("", path)):
        raise ValueError("a path has letters, digits, !_.*'()=-/ and fields such as {year}")
    if path and not all(part.strip(".") for part in path.removesuffix("/").split("/")):
        raise ValueError("a path begins without a slash, and no part of it is empty or made of dots")
    return path


#: The setting `path`: the folder of an object, with fields; "" is the top of the store.
ObjectPath = Annotated[str, pydantic.Field(max_length=PATH_CHARACTERS), AfterValidator(_check_path)]


#: What holds for an object of many events.
OBJECT_CAPS = Caps(
    mode="every",
    max_events=MAX_EVENTS,
    max_bytes=MAX_BYTES,
    delivery_class="at least once, deduplicate on event_id",
    atomic=True,
)


def caps_of(max_events: int, max_bytes: int) -> Caps:
    """Return what holds for objects of so many events: a single event's name is its own, so it is there once."""
    caps = replace(OBJECT_CAPS, max_events=max_events, max_bytes=max_bytes)
    return replace(caps, delivery_class="exactly-once effect") if max_events == 1 else caps


class Batch(Word, frozen=True, kw_only=True):
    """One object: its key, not yet quoted for an URL, its lines, and the events in them."""

    key: str
    body: bytes
    event_ids: tuple[str, ...]


def batch(
    path: str,
    events: Sequence[Event],
    size_bytes: int,
    *,
    line: Callable[[Event, int], bytes] = fit,
    ending: str = ".jsonl",
) -> Batch:
    """Return as many of `events`, from the first, as share its folder and fit one object; at least one.

    `line` gives an event as JSON of at most so many bytes, without a line end.
    """
    folder = folder_of(path, events[0])
    together = [events[0]]
    for event in events[1:]:
        if folder_of(path, event) != folder:
            break
        together.append(event)
    lines = [line(event, size_bytes - 1) + b"\n" for event in together]
    kept = together[: first_that_fit(lines, size_bytes)]
    # By time, as readers of tables like it; a batch is nearly so, but for what is urgent.
    ordered = sorted(zip(kept, lines, strict=False), key=lambda each: each[0].at)
    return Batch(
        key=folder + name_of(kept) + ending,
        body=b"".join(line for _, line in ordered),
        event_ids=tuple(event.event_id for event in kept),
    )


class Put(Word, frozen=True, kw_only=True):
    """A batch as a request carries it: its key, its body, what that is, and what is remembered beside it."""

    key: str
    body: bytes
    event_ids: tuple[str, ...]
    content_type: str
    about: dict[str, str]  # for `Http.about`


def put(path: str, events: Sequence[Event], size_bytes: int, form: Format, stored_as: StoredAs) -> Put:
    """Return `batch` of `events` in a format, as JSON lines or as what becomes a Parquet file with `shape`."""
    is_table = stored_as == "parquet"
    made = batch(path, events, size_bytes, line=encoder_of(form), ending=f".{stored_as}")
    return Put(
        key=made.key,
        body=made.body,
        event_ids=made.event_ids,
        content_type=PARQUET if is_table else JSON_LINES,
        about={"key": made.key} | ({"columns": form} if is_table else {}),
    )


def shape(about: dict[str, str]) -> str:
    """Return `Http.shape` of a request: by what was stored with it, whatever the settings are meanwhile."""
    return shape_of(cast("Format", about["columns"])) if "columns" in about else ""


def lacking(stored_as: StoredAs) -> dict[str, str]:
    """Return what has to be installed for `stored_as`, as `DestinationSettings.faults` says it."""
    if stored_as == "parquet" and find_spec("duckdb") is None:
        return {"stored_as": 'parquet needs more: pip install "tocsin[lake]"'}
    return {}


def folder_of(path: str, event: Event) -> str:
    """Return the folder of an event, ending in a slash unless it is the top."""
    at = event.at.astimezone(UTC)
    values = {
        "year": f"{at:%Y}", "month": f"{at:%m}", "day": f"{at:%d}", "hour": f"{at:%H}",
        "tenant": _STRANGE.sub("_", event.tenant) or "_",
    }  # fmt: skip
    folder = _FIELD.sub(lambda field: values[field[1]], path).removesuffix("/")
    return folder and f"{folder}/"


def name_of(events: Sequence[Event]) -> str:
    """Return what an object of these events is called, without folder and ending."""
    ids = "\n".join(event.event_id for event in events)
    return f"{events[0].at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid5(NAMESPACE, ids)}"


def fixed_part(path: str) -> str:
    """Return the folder that all objects of a path are under, ending in a slash unless it is the top."""
    head, field, _ = path.partition("{")
    folder = head.rpartition("/")[0] if field else path.removesuffix("/")
    return folder and f"{folder}/"


def quoted(key: str) -> str:
    """Return a key as it stands in an URL: all but letters, digits, `-_.~` and slashes is escaped."""
    return quote(key, safe="/")
