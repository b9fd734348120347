"""The history as replay input, in the order in which it was thought.

Rules: settings, modes, the starts of fronts and the topology file were everyone's, whoever they are written under: a
replay without them would think differently. A tenant gets settings without what they say of others. An export that
begins somewhere in between begins with the settings, the mode and the topologies that were in force there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import zstandard

from bridge.analysis.reports import Record, line_of
from bridge.analysis.settings import AnalysisSettings
from bridge.model import WEBHOOK_KINDS, RowKind
from bridge.storage.in_force import IN_FORCE
from bridge.storage.reading.pages import Cursor, Lines, all_of
from bridge.storage.times import microseconds, moment_of

#: What one page of exported history may hold, unpacked. One row is always given, however large.
PAGE_BYTES = 4 * 1024 * 1024
_COLUMNS = "seq, received_at, tenant, source, kind, body"
_Row = Sequence[Any]
#: What a tenant may read: its own, and what was everyone's.
_THEIRS = "(tenant = ? OR kind IN ('settings', 'started') OR (kind IN ('mode', 'topology') AND tenant = ''))"
_OF_A_SOURCE = {*WEBHOOK_KINDS, RowKind.FOUND, RowKind.RECORDED, RowKind.SAMPLES}


def lines(
    store: sqlite3.Connection, tenant: str | None, since: datetime | None, after: Cursor | None
) -> Lines:
    """Return one page, after `after`."""
    where = ["seq > ?"]
    values: list[Any] = [after.at if after else 0]
    if tenant is not None:
        where.append(_THEIRS)
        values.append(tenant)
    if since is not None:
        where.append("received_at >= ?")
        values.append(microseconds(since))
    found: list[bytes] = []
    if since is not None and after is None:
        found += [_line(row, tenant, partial=True) for row in _in_force(store, tenant, microseconds(since))]
    partial = since is None and after is None and _is_pruned(store)
    question = f"SELECT {_COLUMNS} FROM history {all_of(where)} ORDER BY seq"  # noqa: S608 - fixed texts only
    taken, last = 0, 0
    for row in store.execute(question, values):
        if taken >= PAGE_BYTES:
            return Lines(lines=tuple(found), next=Cursor(at=last))
        line = _line(row, tenant, partial=partial)
        partial = False  # the first line says it for all
        found.append(line)
        taken, last = taken + len(line), row[0]
    return Lines(lines=tuple(found), next=None)


def _is_pruned(store: sqlite3.Connection) -> bool:
    """Return whether rows are missing that were thought once; their numbers have no gaps otherwise."""
    first, last, count = store.execute("SELECT min(seq), max(seq), count(*) FROM history").fetchone()
    return bool(count) and (first > 1 or last - first + 1 > count)


def _in_force(store: sqlite3.Connection, tenant: str | None, since: int) -> Iterator[_Row]:
    """Give the newest settings, mode and topologies from before `since`, as if they had come then."""
    in_force = IN_FORCE.format(before="AND received_at < ?")
    rows = store.execute(
        f"SELECT {_COLUMNS} FROM history WHERE seq IN ({in_force}) AND (? IS NULL OR {_THEIRS}) ORDER BY seq",  # noqa: S608 - fixed texts only
        (since, tenant, tenant),
    ).fetchall()
    return ((row[0], since, *row[2:]) for row in rows)


def _line(row: _Row, asks: str | None, *, partial: bool = False) -> bytes:
    """Return one line of replay input: what comes from a source carries its name, all but a webhook its kind.

    `asks` is the tenant that asks, None for all of them; `partial` says that rows before this one are missing, and
    with them what the models told of texts that were known then.
    """
    _, received_at, tenant, source, kind, packed = row
    body = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    line: Record = {"received_at": moment_of(received_at), "tenant": tenant if asks is None else asks}
    if kind in _OF_A_SOURCE:
        line["source"] = source
    if kind != RowKind.WEBHOOK:
        line["kind"] = kind
    if partial:
        line["partial"] = True
    if asks is not None and kind == RowKind.SETTINGS:
        body = _narrowed(body, asks)
    if asks is not None and kind == RowKind.MODE:
        body = _without_others(body, asks)
    # A webhook may span lines as it was sent; `format` takes out white space and touches no value.
    line["body"] = msgspec.Raw(msgspec.json.format(body, indent=-1) if body else b"{}")
    return line_of(line)


def _without_others(body: bytes, tenant: str) -> bytes:
    """Return a mode without the names of other tenants that it excepts."""
    told = msgspec.json.decode(body)
    if "except" in told:
        told["except"] = [name for name in told["except"] if name == tenant]
    return msgspec.json.encode(told)


def _narrowed(body: bytes, tenant: str) -> bytes:
    """Return analysis settings without what they say of other tenants alone."""
    settings = msgspec.json.decode(body, type=AnalysisSettings)
    routes = tuple(route for route in settings.routes if route.tenant in {None, tenant})
    named = {name for route in routes for name in route.to}
    return msgspec.json.encode(
        msgspec.structs.replace(
            settings,
            quotas=tuple(quotas for quotas in settings.quotas if quotas.tenant == tenant),
            sources=tuple(source for source in settings.sources if source.tenant == tenant),
            routes=routes,
            destinations=tuple(each for each in settings.destinations if each.name in named),
            keeping=tuple(each for each in settings.keeping if each.tenant == tenant),
            tenant_redacts={name: own for name, own in settings.tenant_redacts.items() if name == tenant},
        )
    )
