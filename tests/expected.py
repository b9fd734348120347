"""What the contract suite must know of a kind beside what the kind says itself: one `EXPECTED` per file of `cases/`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from bridge.ports import Append, Frames, Http, Mail, Notice, Publish, Request, Response, Table, Upsert


def payload(request: Request) -> bytes:
    """Return the bytes that `caps.max_bytes` limits."""
    match request:
        case Http():
            return request.body
        case Frames():
            return b"".join(request.frames)
        case Append():
            return request.lines
        case Mail():
            return request.message
        case Notice():
            return request.text.encode()
        case Upsert() | Table():
            return request.rows
        case Publish():
            return b"".join(
                record.key + record.value + "".join([*record.headers, *record.headers.values()]).encode()
                for record in request.records
            )


def is_json_object(_case: str, sent: bytes) -> None:
    assert isinstance(json.loads(sent), dict)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How a kind's requests are read, what it answers well, and where it differs from the common table."""

    #: Settings that render differently from the kind's example, by the name of the case.
    variants: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    #: Every secret text that stands in the example or a variant.
    secrets: tuple[str, ...] = ()
    #: Reads what was sent as its receiver does, and asserts; gets the case and `readable`.
    parse: Callable[[str, bytes], None] = is_json_object
    #: The request's payload as bytes in which ids and counts stand as they are (not packed, quoted or base64).
    readable: Callable[[Request], bytes] = payload
    #: The step whose request tells of the event, where the first one only looks; "" is the first.
    tells: str = ""
    #: How `readable` shows that the incident has 100 alerts.
    count: re.Pattern[bytes] = re.compile(rb'100 of 100|"alerts_total": ?100\b')
    #: The incident as JSON, for the cases whose requests carry the whole event.
    incident: Callable[[str, bytes], dict[str, Any]] | None = None
    whole: tuple[str, ...] = ()
    #: The setting that is an address over HTTP; "" where there is none. Some cases name another one.
    url: str = "url"
    urls: Mapping[str, str] = field(default_factory=dict)
    #: Settings that correct the address; "right" stands in what is sealed then. Some cases have others.
    corrected: Mapping[str, Any] = field(default_factory=lambda: {"url": "https://right.example.com/x"})
    corrections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The good answer to a probe, where there is a probe.
    probed: Response | None = None
    #: Verdicts on bare statuses (no body) where they differ from the table in docs/connectors.md.
    statuses: Mapping[int, type] = field(default_factory=dict)
    #: Of 200, 201 and 204, those that are a success whatever the body says.
    bare_success: frozenset[int] = frozenset()
    #: Of them, those that are a success where the body is empty.
    empty_success: frozenset[int] = frozenset()
    #: Statuses with the body that a TLS port answers plain HTTP with, and no hint at https is promised.
    says_https: bool = True
    #: Memories (with steps) that later events of an incident come with.
    memories: tuple[tuple[dict[str, str] | None, str], ...] = ()
    #: Fields of the answers that the kind looks at, for the fuzz of `judge`.
    answers: Mapping[str, st.SearchStrategy[Any]] = field(default_factory=dict)
    #: Whether `max_bytes` can be set; whether `ca_file` can.
    has_max_bytes: bool = True
    has_ca_file: bool = True
